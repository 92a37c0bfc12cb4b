"""``python -m experiments.gpu_check``: on the CPU for real, on an interpreted GPU, and on a GPU where there is one."""

import functools
import json
import logging

import pytest

from experiments import gpu_check
from experiments.launcher import DEFECT, USER_ERROR, run_program
from experiments.misbehaving import misbehaving_candidates
from tests.synthetic import SyntheticDevice
from wpk_envs import devices
from wpk_envs.devices.acceptance import ODD_OPERATORS
from wpk_envs.devices.cuda.live import CudaDevice
from wpk_envs.devices.cuda.misbehaving import MISBEHAVIOURS
from wpk_envs.errors import UserError

INTERPRETED = "tests.interpreted_gpu:InterpretedGpu"


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Run the program in tmp_path; exit code, what was printed, and the report if there is one."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(*arguments):
        code = run_program("gpu_check", gpu_check.act, gpu_check.check, [*arguments, "hydra.run.dir=run"])
        out, err = capsys.readouterr()
        report = tmp_path / "run" / "report.json"
        return code, out + err, json.loads(report.read_text()) if report.exists() else None

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)


def outcomes(report, group):
    return [check["outcome"] for check in report["checks"] if check["group"] == group]


def test_the_cpu_is_accepted(start, tmp_path, monkeypatch):
    bad = [each for each in misbehaving_candidates() if each[1] != "endless"]  # tests of the device have that
    monkeypatch.setattr(gpu_check, "misbehaving_candidates", lambda: bad)
    kept = {name: ODD_OPERATORS[name] for name in ("odd conv3x3", "odd gemv")}
    monkeypatch.setattr(gpu_check, "ODD_OPERATORS", kept)
    code, out, report = start("device=cpu", "configs=4", "trials=1")
    assert code == 0, out
    assert report["passed"]
    assert report["device"] == devices.open_device("cpu").info.name
    assert [outcomes(report, group).count("passed") for group in ("templates", "vendor", "misbehaviour", "agents")] == [
        4,
        2,
        4,
        2,
    ]
    text = (tmp_path / "run" / "report.md").read_text()
    assert "| version of tvm |" in text
    assert "passed: a kernel that writes far out of bounds" in out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["counts"] == report["counts"]


def test_a_gpu_is_accepted_with_kernels_compiled_here(start, monkeypatch):
    kept = {name: ODD_OPERATORS[name] for name in ("odd conv1x1", "odd gemv")}
    few = [each for each in MISBEHAVIOURS if each.name in ("is wrong in one element", "writes far out of bounds")]
    monkeypatch.setattr(gpu_check, "ODD_OPERATORS", kept)
    monkeypatch.setattr("wpk_envs.devices.cuda.misbehaving.MISBEHAVIOURS", few)
    monkeypatch.setattr(gpu_check, "TORCH_GPU", INTERPRETED)
    monkeypatch.setattr(gpu_check, "OPERATOR", "gemv")
    monkeypatch.setattr(gpu_check, "AGENTS", ("ga",))
    open_gpu = functools.partial(CudaDevice, gpu=INTERPRETED, workers=1, shared=False)
    monkeypatch.setattr(devices, "open_device", lambda **settings: open_gpu())
    code, out, report = start("device=cuda", "configs=4", "trials=2")
    assert code == 0, out
    assert report["device"] == "Interpreted GPU"
    assert report["facts"]["architecture"] == "sm_60"
    assert [outcomes(report, group) for group in ("templates", "vendor", "misbehaviour", "agents")] == [
        ["passed"] * 4,
        ["passed"] * 2,
        ["passed"] * 4,
        ["passed"],
    ]


@pytest.mark.gpu
def test_the_gpu_here_is_accepted(start):
    code, out, report = start("device=cuda")
    assert code == 0, out
    assert report["counts"]["failed"] == 0


def test_what_fails_is_in_the_report_and_the_exit_code(start, monkeypatch):
    monkeypatch.setattr(devices, "open_device", lambda **settings: SyntheticDevice(error_rate=1.1))
    code, out, report = start("device=cpu", "configs=3", "trials=2")
    assert code == DEFECT
    assert not report["passed"]
    assert set(outcomes(report, "templates")) == {"failed"}
    assert outcomes(report, "agents") == ["failed", "failed"]
    assert "synthetic landscape: NOT accepted" in out


def test_what_the_time_does_not_reach_is_said(start, monkeypatch):
    monkeypatch.setattr(devices, "open_device", lambda **settings: SyntheticDevice())
    _, _, report = start("device=cpu", "configs=3", "trials=1", "seconds=1e-9")
    assert set(outcomes(report, "templates") + outcomes(report, "misbehaviour")) == {"did not run"}
    assert report["checks"][0]["note"] == "the time given for the checks was over"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["configs=0"], "configs must be a whole number of at least 1, not 0"),
        (["trials=0"], "trials must be a whole number of at least 1, not 0"),
        (["seconds=0"], "seconds must be greater than 0, not 0"),
        (["device=null"], "unknown device 'null'"),
        (["device=h200"], "device=h200 "),
        (["device=tpu"], "unknown device 'tpu'"),
    ],
)
def test_bad_input_is_one_sentence(start, arguments, sentence):
    code, out, report = start(*arguments)
    assert (code, report) == (USER_ERROR, None)
    assert sentence in out
    assert out.count("\n") == 1


def test_without_a_gpu_it_is_one_sentence(start, monkeypatch):
    def none(**settings):
        raise UserError("no NVIDIA GPU can be used here")

    monkeypatch.setattr(devices, "open_device", none)
    code, out, _ = start()
    assert code == USER_ERROR
    assert out == "no NVIDIA GPU can be used here\n"
