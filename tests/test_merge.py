"""What `time_bundle` wrote, taken into a store and into tables."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest

from tests.bundles import bundle, entry
from tests.test_descriptions import REPORTED
from wpk_envs.core import Candidate, Measurement
from wpk_envs.devices.cuda import descriptions, timings
from wpk_envs.devices.cuda.merge import latest, merge
from wpk_envs.devices.time_bundle import header_of
from wpk_envs.errors import UserError
from wpk_envs.records import Store, read_table

MEASURED = Measurement(
    samples_us=(4.0, 5.0, 6.0),
    baseline_us=(8.0, 10.0, 12.0),
    baseline_name="cuDNN NCHW",
    max_error=1e-6,
    layouts={"a": "MK"},
    measure_seconds=0.5,
    details={"registers": 40, "spill_bytes": 0, "hot": {"latency_us": 3.0}},
)
BROKEN = Measurement(error="timeout", message="no answer within 8 seconds", measure_seconds=8.0)


def write(folder, *measurements, gpu=REPORTED, protocol="cold", made=None):
    """Write a file of timings as the program does: a kernel's tile is its measurement's position, from 1."""
    header = header_of(made or bundle(entry()), SimpleNamespace(info=gpu), protocol, False)
    files = timings.TimingFiles(folder, header)
    for tile, measurement in enumerate(measurements, 1):
        files.add(entry(tile), measurement)
    files.close()


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "records.sqlite") as opened:
        yield opened


@pytest.fixture
def source(tmp_path):
    write(tmp_path / "timings", MEASURED, BROKEN)
    return tmp_path / "timings"


def test_store_and_table_have_all_that_was_measured(tmp_path, source, store):
    merged = merge(source, store, tmp_path / "tables")
    assert (merged.files, merged.lines, merged.new, merged.cut_off) == (1, 2, 2, ())
    ((path, sheet),) = merged.tables.items()
    device = descriptions.present(REPORTED, "cold", {"tvm": "0", "nvrtc": "0"})
    assert path.name == f"nvidia-somewhat-3000_cold_{device.fingerprint[:8]}.parquet"
    assert sheet["counts"] == {"rows": 2, "measured": 1, "timeout": 1}
    assert sheet["protocol"] == {"protocol": "cold", "tf32": False}
    table = read_table(path)
    assert [record.measurement for record in table.records] == [MEASURED, BROKEN]
    assert table.device == device
    first = entry(1)
    template = SimpleNamespace(name=first.template, version=first.template_version)
    assert store.get(Candidate(first.operator, template, first.config), device) == MEASURED
    assert store.count(devices=[device.fingerprint]) == 2


def test_nothing_is_there_twice(tmp_path, source, store):
    merge(source, store, tmp_path / "tables")
    shutil.copytree(source, source / "copy")
    again = merge(source, store, tmp_path / "tables")
    assert (again.files, again.lines, again.new) == (2, 4, 0)
    (sheet,) = again.tables.values()
    assert sheet["counts"]["rows"] == 2
    assert len(sheet["sources"]) == 1
    assert store.count() == 2


def test_a_table_keeps_the_rows_that_it_has(tmp_path, source, store):
    merge(source, store, tmp_path / "tables")
    shutil.rmtree(source)
    write(source, BROKEN, MEASURED, MEASURED, made=bundle(entry(), entry(3)))
    (sheet,) = merge(source, store, tmp_path / "tables").tables.values()
    assert sheet["counts"] == {"rows": 3, "measured": 3}  # a kernel that was measured once is not lost to a timeout
    assert store.count() == 5


def test_each_gpu_and_protocol_has_a_table(tmp_path, source, store):
    write(source, MEASURED, protocol="hot")
    write(source / "there", MEASURED, gpu=dataclasses.replace(REPORTED, model="Other"))
    tables = merge(source, store, tmp_path / "tables").tables
    assert sorted(path.name.rpartition("_")[0] for path in tables) == [
        "nvidia-somewhat-3000_cold",
        "nvidia-somewhat-3000_hot",
        "other_cold",
    ]


def test_a_line_that_was_cut_off_is_told(tmp_path, source, store):
    (file,) = source.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    (source / "timings_0002.jsonl").write_bytes(b'{"timings": 1, "gp')
    merged = merge(source, store, tmp_path / "tables")
    assert merged.cut_off == (file, source / "timings_0002.jsonl")
    assert (merged.files, merged.lines) == (1, 1)


def without(key):
    return lambda line: {name: value for name, value in line.items() if name != key}


@pytest.mark.parametrize(
    ("number", "change", "sentence"),
    [
        (0, lambda line: {**line, "timings": 7}, r"has timings of version 7, this version reads 1"),
        (0, without("gpu"), r"is damaged \('gpu'\)"),
        (1, without("operator"), r"is damaged \('operator'\)"),
        (1, lambda line: {**line, "operator": {"kind": "sort"}}, "is damaged .*sort"),
        (1, lambda line: {**line, "operator": {**line["operator"], "m": -1}}, "is damaged .*m must be at least 1"),
        (1, lambda line: {**line, "config": {"template": "plain", "tile": 64}}, "line 2 is of another candidate"),
        (1, lambda line: {**line, "measurement": {}}, "exactly one of samples, a prediction or an error"),
        (1, lambda line: {**line, "measurement": {"mood": 3}}, "mood"),
        (2, lambda line: [], "is damaged"),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_changes(tmp_path, source, store, number, change, sentence):
    (file,) = source.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[number] = change(lines[number])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=rf"timings_0001.jsonl' .*{sentence}"):
        merge(source, store, tmp_path / "tables")
    assert store.count() == 0
    assert not (tmp_path / "tables").exists()


def test_garbage_is_refused(tmp_path, source, store):
    (source / "timings_0009.jsonl").write_bytes(b"\xff\xfe\n{}\n")
    with pytest.raises(UserError, match=r"timings_0009\.jsonl' is damaged"):
        merge(source, store, tmp_path / "tables")


def test_a_folder_without_timings_is_a_sentence(tmp_path, store):
    with pytest.raises(UserError, match=r"there are no timings in '.*nowhere'"):
        merge(tmp_path / "nowhere", store, tmp_path / "tables")


def test_the_latest_record_counts_unless_a_busy_machine_caused_it(tmp_path, source, store):
    merge(source, store, tmp_path / "tables")
    good, slow = store.records()
    slow = dataclasses.replace(slow, candidate=good.candidate)
    dated = [dataclasses.replace(each, created=f"2026-01-0{day}") for day, each in enumerate((slow, good, slow), 1)]
    assert latest(dated) == [dated[1]]
    assert latest([dated[0], dated[2]]) == [dated[2]]
    better = dataclasses.replace(good, created="2026-01-09")
    assert latest([better, *dated]) == [better]
