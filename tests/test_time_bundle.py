"""``python -m wpk_envs.devices.time_bundle`` on an interpreted GPU, and on one that is made up."""

import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.bundles import OPERATOR, OTHER, PASCAL, bundle, entry, interpretable, misbehaving
from tests.test_imports import OWN, WITH_TORCH
from wpk_envs.core import Measurement
from wpk_envs.devices import time_bundle
from wpk_envs.devices.cuda.gpu import GpuInfo
from wpk_envs.devices.cuda.interpreted import interpret
from wpk_envs.devices.cuda.jobs import MeasureJob
from wpk_envs.devices.cuda.timings import read
from wpk_envs.devices.time_bundle import INTERRUPTED, USER_ERROR, main
from wpk_envs.errors import UserError

INTERPRETED = "tests.interpreted_gpu:InterpretedGpu"
MEASURED = Measurement(samples_us=(2.0,), baseline_us=(3.0,), baseline_name="cuDNN")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """A bundle of kernels that behave, are wrong, crash and never end."""
    wrong, crash, endless = (
        misbehaving()[name] for name in ("is wrong in one element", "writes right behind its output", "never ends")
    )
    path = tmp_path_factory.mktemp("bundles") / "interpreted.bundle"
    good = interpretable(1)
    interpret(
        good.program, good.program.image.decode(), OPERATOR.random_inputs(np.random.default_rng(0))
    )  # compiles it
    kernels = (good, wrong, interpretable(2, OTHER, "other"), crash, endless, interpretable(4))
    bundle(*kernels, device=PASCAL).write(path)
    return path


def lines(folder):
    return [timing.line for timing in read(folder)]


def test_kernels_are_checked_and_timed_whatever_they_do(interpreted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(time_bundle, "DEADLINE_SECONDS", 2.0)
    assert main([str(interpreted), "--out", str(tmp_path), "--seconds", "100"], INTERPRETED) == 0
    found = [timing.measurement for timing in read(tmp_path)]
    assert [each.error for each in found] == [None, "wrong_result", None, "crash", "timeout", None]
    assert found[0].speedup > 0
    assert found[0].max_error < 1e-6
    assert found[0].details["registers"] == 32
    assert found[0].details["temperature_c"] == 20
    assert found[0].layouts == {"a": "MK", "b": "KN", "output": "MN"}
    assert found[0].build_seconds == 0.25
    header = next(read(tmp_path)).header
    assert header["gpu"]["model"] == "Interpreted GPU"
    assert header["bundle"]["device"]["name"] == PASCAL.name
    assert (header["protocol"], header["tf32"]) == ("cold", False)
    out = capsys.readouterr().out
    assert "6 kernels to measure on Interpreted GPU, 0 are known" in out
    assert out.splitlines()[-1] == "all kernels are measured"


def test_numpy_and_torch_are_enough(interpreted, tmp_path):
    """Nothing else can be imported, in the program and in the process that it starts, but what interprets PTX."""
    known = {name for name in importlib.metadata.packages_distributions() if name.isidentifier()}
    missing = sorted(known - WITH_TORCH - OWN - {"numba", "llvmlite"})
    assert {"tvm", "gymnasium", "hydra", "psutil", "rich", "pyarrow", "omegaconf", "platformdirs"} <= set(missing)
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({missing!r}))\n")
    code = f"import sys; from wpk_envs.devices.time_bundle import main; sys.exit(main(sys.argv[1:], {INTERPRETED!r}))"
    repository = str(Path(time_bundle.__file__).parents[2])
    command = [sys.executable, "-c", code, str(interpreted), "--out", str(tmp_path / "out"), "--seconds", "6"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), repository])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(lines(tmp_path / "out")) >= 4


def test_without_a_gpu_it_is_one_sentence(tmp_path):
    bundle(entry()).write(tmp_path / "one.bundle")
    command = [sys.executable, "-m", "wpk_envs.devices.time_bundle", "one.bundle", "--out", "out"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path, env=hidden)
    assert done.returncode == USER_ERROR
    assert done.stderr.count("\n") == 1
    assert "torch" in done.stderr or "GPU" in done.stderr


class Runner:
    """Stands in for `GpuRunner`: answers at once, as the test wants it. Nothing here is a measurement."""

    answer = staticmethod(lambda job: MEASURED)
    info = GpuInfo("Made-up GPU", "sm_90", {"multiprocessors": 4, "clock_mhz": 1, "memory_gbps": 1}, {"driver": "12.4"})

    def __init__(self, *settings):
        self.settings = settings
        self.pool = SimpleNamespace(run=self._run)

    def _run(self, requests, seconds):
        return [type(self).answer(request.job) for request in requests]

    def baseline(self, operator, seconds):
        pass

    def request(self, job, ceilings):
        return MeasureJob(job, "cuDNN", ceilings)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Ten made-up kernels of two operators; call with arguments and what answers a job."""
    kernels = [
        entry(tile, bytes([tile]), *(("small", OPERATOR) if tile % 2 else ("other", OTHER))) for tile in range(1, 11)
    ]
    bundle(*kernels).write(tmp_path / "ten.bundle")
    monkeypatch.chdir(tmp_path)

    def start(*arguments, answer=lambda job: MEASURED, **attributes):
        runner = type("Runner", (Runner,), {"answer": staticmethod(answer), **attributes})
        monkeypatch.setattr(time_bundle, "GpuRunner", runner)
        return main(["ten.bundle", "--out", "out", *arguments])

    return start


def tiles(folder="out"):
    return [line["config"]["tile"] for line in lines(Path(folder))]


def test_the_most_valuable_come_first_and_nothing_twice(made_up, capsys):
    assert made_up() == 0
    assert tiles() == list(range(1, 11))
    assert made_up() == 0
    assert len(tiles()) == 10
    out = capsys.readouterr().out
    assert "0 kernels to measure on Made-up GPU, 10 are known" in out
    assert out.count("small                           5       0       2.0    1.50x  cuDNN") == 2


def test_another_protocol_gpu_or_switch_is_another_measurement(made_up):
    made_up()
    made_up("--protocol", "hot")
    made_up("--tf32")
    other = GpuInfo("Another GPU", "sm_90", Runner.info.properties, {"driver": "12.4"})
    made_up(info=other)
    assert len(tiles()) == 40


def test_it_stops_in_time_and_goes_on(made_up, capsys):
    def slow(job):
        time.sleep(0.1)
        return MEASURED

    started = time.monotonic()
    assert made_up("--seconds", "0.6", answer=slow) == 0
    assert time.monotonic() - started < 0.9
    first = tiles()
    assert 0 < len(first) < 10
    assert f"{10 - len(first)} kernels are left; the same command goes on" in capsys.readouterr().out
    assert made_up() == 0
    assert tiles() == list(range(1, 11))


def test_a_kernel_that_runs_out_of_time_is_not_blamed(made_up):
    late = Measurement(error="timeout", message="no answer")
    assert made_up("--seconds", "5", answer=lambda job: late) == 0
    assert tiles() == []
    assert made_up(answer=lambda job: late) == 0
    assert len(tiles()) == 10


def test_a_race_that_runs_out_of_time_is_no_verdict_on_the_operator(made_up, capsys):
    def baseline(self, operator, seconds):
        time.sleep(seconds)
        raise UserError("no answer within the deadline")

    assert made_up("--seconds", "0.3", baseline=baseline) == 0
    assert tiles() == []
    assert "10 kernels are left" in capsys.readouterr().out


def test_ctrl_c_keeps_what_was_measured(made_up, capsys):
    def interrupted(job):
        if job.program.image == bytes([4]):
            raise KeyboardInterrupt
        return MEASURED

    assert made_up(answer=interrupted) == INTERRUPTED
    assert tiles() == [1, 2, 3]
    assert "the same command goes on" in capsys.readouterr().err


def test_an_operator_without_memory_is_left_out_and_said(made_up, capsys):
    full = Measurement(error="crash", message="it ran out of memory (CUDA out of memory)")
    assert made_up(answer=lambda job: full if job.operator == OTHER else MEASURED) == USER_ERROR
    assert tiles() == [1, 3, 5, 7, 9]
    captured = capsys.readouterr()
    assert captured.err == (
        "GPU memory is not enough for gemm 16x32x8: it ran out of memory (CUDA out of memory); "
        "end what else uses the GPU and run the same command again\n"
    )
    assert "5 kernels are left" in captured.out


def test_an_operator_without_a_baseline_is_timed_alone(made_up, capsys):
    def baseline(self, operator, seconds):
        if operator == OTHER:
            raise RuntimeError("no vendor path computes it")

    assert made_up(baseline=baseline) == 0
    assert len(tiles()) == 10
    assert capsys.readouterr().out.count("other is timed without a baseline: no vendor path computes it") == 1


def test_a_gpu_without_vendor_kernels_is_said_once(made_up, capsys):
    info = GpuInfo(
        "Old GPU", "sm_90", Runner.info.properties, {"driver": "12.4"}, no_vendor="torch has no kernels for it"
    )
    assert made_up(answer=lambda job: Measurement(samples_us=(2.0,)), info=info) == 0
    out = capsys.readouterr().out
    assert out.count("torch has no kernels for it; kernels are timed without a baseline") == 1
    assert "2.0        -" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.bundle", "--out", "out"], "bundle 'missing.bundle' cannot be read: No such file"),
        (["cut.bundle", "--out", "out"], "bundle 'cut.bundle' is cut off; copy it again"),
        (["ten.bundle", "--out", "out", "--seconds", "0"], "--seconds must be greater than 0, not 0"),
        (["ten.bundle", "--out", "/dev/null/out"], "'/dev/null/out' cannot be written: Not a directory"),
        (["ten.bundle", "--out", "out", "--acceptance"], "bundle 'ten.bundle' is not for acceptance; leave"),
        (["bad.bundle", "--out", "out"], "bundle 'bad.bundle' is for acceptance and holds kernels that misbehave"),
        (["old.bundle", "--out", "out"], "are for sm_60 (Test GPU of Pascal) but Made-up GPU has sm_90; build one"),
        (["new.bundle", "--out", "out"], "too old for kernels of CUDA toolchain 99.0"),
    ],
)
def test_bad_input_is_one_sentence(made_up, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.setattr(time_bundle, "GpuRunner", Runner)
    content = (tmp_path / "ten.bundle").read_bytes()
    (tmp_path / "cut.bundle").write_bytes(content[:-100])
    bundle(entry(), acceptance=True).write(tmp_path / "bad.bundle")
    bundle(entry(), device=PASCAL).write(tmp_path / "old.bundle")
    dataclasses.replace(bundle(entry()), versions={"tvm": "0", "nvrtc": "99.0"}).write(tmp_path / "new.bundle")
    assert main(arguments) == USER_ERROR
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_a_gpu_that_cannot_be_used_is_one_sentence(made_up, capsys):
    def refuse(self, *settings):
        raise UserError("the NVIDIA driver is too old")

    assert made_up(__init__=refuse) == USER_ERROR
    assert capsys.readouterr().err == "the NVIDIA driver is too old\n"


def test_a_full_disk_loses_nothing(made_up, monkeypatch, capsys):
    written = []

    def append(self, line, append=time_bundle.timings.JsonLines.append):
        written.append(line)
        if len(written) == 4:  # a header and two lines are written
            raise OSError(28, "No space left on device")
        append(self, line)

    with monkeypatch.context() as context:
        context.setattr(time_bundle.timings.JsonLines, "append", append)
        assert made_up() == USER_ERROR
    assert "No space left on device; what was measured is kept" in capsys.readouterr().err
    assert tiles() == [1, 2]
    assert made_up() == 0
    assert tiles() == list(range(1, 11))


def test_acceptance_writes_a_report(tmp_path, capsys):
    kept = ("behaves", "is wrong by a thousandth", "writes far out of bounds")
    bad = [each for name, each in misbehaving().items() if name in kept]
    bundle(interpretable(1), *bad, device=PASCAL, acceptance=True).write(tmp_path / "acceptance.bundle")
    arguments = [str(tmp_path / "acceptance.bundle"), "--out", str(tmp_path / "report"), "--acceptance"]
    assert main(arguments, INTERPRETED) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["device"] == "Interpreted GPU"
    assert report["counts"] == {"passed": 7, "failed": 0, "did not run": 0}
    assert {check["group"] for check in report["checks"]} == {"templates", "vendor", "misbehaviour"}
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.startswith("# Acceptance of Interpreted GPU\n")
    assert "Interpreted GPU: accepted" in capsys.readouterr().out
