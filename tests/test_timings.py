"""The files that measurements of a bundle go into."""

import json

import pytest

from tests.bundles import entry
from wpk_envs.core import Measurement
from wpk_envs.devices.cuda import timings
from wpk_envs.devices.cuda.timings import TimingFiles, read
from wpk_envs.errors import UserError

HEADER = {"gpu": {"model": "Some GPU", "arch": "sm_90"}, "protocol": "cold", "tf32": False}
MEASURED = Measurement(samples_us=(1.0, 2.0), baseline_us=(3.0, 4.0), baseline_name="cuDNN", details={"registers": 3})


def test_what_is_written_is_read(tmp_path):
    files = TimingFiles(tmp_path / "new" / "folder", HEADER)
    files.add(entry(1), MEASURED)
    files.add(entry(2), Measurement(error="wrong_result", message="wrong", max_error=float("inf")))
    files.close()
    first, second = read(tmp_path / "new" / "folder")
    assert first.measurement == MEASURED
    assert second.measurement == Measurement(error="wrong_result", message="wrong")
    assert first.header["gpu"]["model"] == "Some GPU"
    assert first.line["operator"] == entry().operator.to_dict()


def test_a_line_is_in_the_file_at_once(tmp_path):
    files = TimingFiles(tmp_path, HEADER)
    files.add(entry(1), MEASURED)
    assert len(list(read(tmp_path))) == 1
    files.close()


def test_files_stay_small_and_each_has_a_header(tmp_path, monkeypatch):
    monkeypatch.setattr(timings, "FILE_BYTES", 2000)
    files = TimingFiles(tmp_path, HEADER)
    for tile in range(1, 13):
        files.add(entry(tile), MEASURED)
    files.close()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) > 3
    assert [path.name for path in paths[:2]] == ["timings_0001.jsonl", "timings_0002.jsonl"]
    assert all(path.stat().st_size <= 2000 for path in paths)
    assert all(json.loads(path.read_text().splitlines()[0])["timings"] == timings.VERSION for path in paths)
    assert [timing.line["config"]["tile"] for timing in read(tmp_path)] == list(range(1, 13))


def test_real_files_are_below_the_limit():
    assert timings.FILE_BYTES < 16 * 10**6


def test_two_processes_never_write_into_one_file(tmp_path):
    one, two = TimingFiles(tmp_path, HEADER), TimingFiles(tmp_path, HEADER)
    one.add(entry(1), MEASURED)
    two.add(entry(2), MEASURED)
    one.add(entry(3), MEASURED)
    one.close()
    two.close()
    assert [len(path.read_text().splitlines()) for path in sorted(tmp_path.iterdir())] == [3, 2]


def test_a_start_without_news_makes_no_file(tmp_path):
    TimingFiles(tmp_path, HEADER).close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    files = TimingFiles(tmp_path, HEADER)
    for tile in (1, 2):
        files.add(entry(tile), MEASURED)
    files.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    again = TimingFiles(tmp_path, HEADER)
    assert (again.knows(entry(1)), again.knows(entry(2))) == (True, False)
    again.add(entry(2), MEASURED)
    again.close()
    assert [timing.line["config"]["tile"] for timing in read(tmp_path)] == [1, 2]


def test_only_the_same_gpu_and_protocol_are_known(tmp_path):
    files = TimingFiles(tmp_path, HEADER)
    files.add(entry(1), MEASURED)
    files.close()
    assert TimingFiles(tmp_path, HEADER).knows(entry(1))
    assert not TimingFiles(tmp_path, HEADER).knows(entry(1, image=b"other"))
    for change in ({"protocol": "hot"}, {"tf32": True}, {"gpu": {"model": "Other GPU", "arch": "sm_90"}}):
        other = TimingFiles(tmp_path, {**HEADER, **change})
        assert not other.knows(entry(1))
        assert other.mine() == []


def test_another_version_is_refused(tmp_path):
    (tmp_path / "timings_0001.jsonl").write_text('{"timings": 99}\n')
    with pytest.raises(UserError, match="timings of version 99, this version reads 1"):
        TimingFiles(tmp_path, HEADER)
