"""``python -m experiments.store``, run as its launcher runs it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments import store as program
from experiments.launcher import USER_ERROR, run_program
from tests.store_samples import DEVICE, candidate, measured
from tests.synthetic import SyntheticDevice
from wpk_envs import devices
from wpk_envs.core import Measurement
from wpk_envs.records import Store


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """A store of six records, which ``WPK_STORE`` names; the program's folders go into tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    with Store() as store:
        for tile, latency in enumerate((4.0, 2.0, 3.0)):
            store.put(candidate(tile_oc=tile), DEVICE, measured(latency))
        store.put(candidate(tile_oc=9, version=99), DEVICE, measured(1.0))
        store.put(candidate("gemm", template="cpu/gemm", tile_ow=7), DEVICE, measured(5.0))
        other = dataclasses.replace(DEVICE, name="Other [CPU]", threads=2)
        store.put(candidate(tile_oc=3), other, Measurement(error="timeout", message="too slow"))
    return tmp_path


def run(capsys, *arguments):
    """Exit code, what was printed, and the summary if there is one."""
    code = run_program("store", program.act, program.check, arguments)
    out, err = capsys.readouterr()
    if code:
        assert err.count("\n") == 1, err
        return code, err, None
    lines = out.splitlines()
    return code, out, json.loads(Path(lines[-1]).read_text())


def test_lists_the_newest_first(filled, capsys):
    code, out, summary = run(capsys, "limit=2")
    assert code == 0
    assert "2 of 6 records" in out
    assert "timeout" in out
    assert "Other [CPU], 2 threads" in out
    assert "cpu/gemm v1: tile_ow=7" in out
    assert summary["action"] == "list"
    assert summary["count"] == 6
    assert [record["id"] for record in summary["records"]] == [6, 5]
    assert len(summary["records"][1]["samples_us"]) == 3


def test_registers_and_spills_are_shown_where_a_gpu_was(filled, capsys):
    assert " registers " not in run(capsys)[1]
    with Store() as store:
        for tile, spilled in ((1, 0), (2, 48)):
            details = {"registers": 64 * tile, "spill_bytes": spilled}
            store.put(candidate("gemm", tile=tile), DEVICE, dataclasses.replace(measured(1.0), details=details))
    _, out, summary = run(capsys, "limit=3")
    assert " registers " in out
    assert "128, spills 48" in out
    assert summary["records"][0]["details"] == {"registers": 128, "spill_bytes": 48}


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["op=gemm"], 1),
        (["op=conv3x3"], 5),
        (["op=conv3x3", "op.height=28"], 0),
        (["op=resnet18/all"], 0),
        (["device_name=other"], 1),
        ([f"device_name={DEVICE.fingerprint[:8]}"], 5),
        (["template=cpu/gemm"], 1),
        (["outcome=failed"], 1),
        (["outcome=measured", "op=conv3x3"], 4),
    ],
)
def test_filters(filled, capsys, arguments, count):
    assert run(capsys, *arguments)[2]["count"] == count


def test_records_of_this_machine(filled, capsys, monkeypatch):
    here = SyntheticDevice()
    here.info = DEVICE
    asked = []

    def open_device(*args, **kwargs):
        asked.append((args, kwargs))
        return here

    monkeypatch.setattr(devices, "open_device", open_device, raising=False)
    assert run(capsys, "device=cpu", "device.threads=1")[2]["count"] == 5
    assert asked == [((), {"name": "cpu", "threads": 1, "workers": None, "deadline": None})]
    assert run(capsys, "device=cpu", "device_name=other")[2]["count"] == 0


def test_best_config_of_an_operator_in_the_templates_of_today(filled, capsys):
    _, out, summary = run(capsys, "action=best", "op=conv3x3", "limit=2", "out=best.json")
    assert [record["config"]["tile_oc"] for record in summary["records"]] == [1, 2]
    assert summary["records"][0]["speedup"] == 4.0
    assert "4.00x" in out
    assert json.loads((filled / "best.json").read_text()) == summary


def test_best_of_everything(filled, capsys):
    _, _, summary = run(capsys, "action=best")
    assert [record["operator"]["kind"] for record in summary["records"]] == ["conv2d", "gemm"]
    assert run(capsys, "action=best", "template=cpu/winograd_conv")[2]["count"] == 0


def test_exports(filled, capsys):
    assert run(capsys, "action=export", "export=all.jsonl")[2]["count"] == 6
    assert len((filled / "all.jsonl").read_text().splitlines()) == 6
    run(capsys, "action=export", "export=gemm.parquet", "op=gemm")
    assert pq.read_table(filled / "gemm.parquet").num_rows == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["action=show"], "unknown action 'show' (allowed: best, export, list)"),
        (["op=conv3x4"], "unknown op 'conv3x4'; did you mean conv3x3"),
        (["op=conv3x3", "op.kernel=99", "op.padding=0"], "the kernel is 99 high"),
        (["outcome=good"], "unknown outcome 'good'"),
        (["limit=0"], "limit must be at least 1, not 0"),
        (["device=p100", "device.clock_mhz=0"], "device.clock_mhz must be a whole number of at least 1"),
        (["device_name=P100"], "unknown device_name 'P100' (allowed: Other [CPU], Test CPU)"),
        (["action=best", "template=cpu/magic"], "unknown template 'cpu/magic'"),
        (["action=best", "outcome=failed"], "leave out outcome=failed"),
        (["action=export"], "action=export and export=FILE"),
        (["action=export", "export=all.csv"], "cannot export to 'all.csv'; end the file's name"),
        (["action=export", "export=/dev/null/all.jsonl"], "cannot write"),
        (["store.path=nowhere.sqlite"], "nowhere.sqlite' does not exist"),
        (["store.path=."], "cannot be opened"),
        (["lmit=3"], "unknown key 'lmit'; did you mean limit?"),
    ],
)
def test_bad_input_is_one_sentence(filled, capsys, arguments, sentence):
    code, err, _ = run(capsys, *arguments)
    assert code == USER_ERROR
    assert sentence in err
    assert not list(filled.glob("nowhere*"))


def test_as_a_command(filled):
    command = [sys.executable, "-m", "experiments.store", "op=gemm"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert json.loads(Path(result.stdout.splitlines()[-1]).read_text())["count"] == 1
