"""The CPU device: conformance, sharing, settings, interrupts, and the programs that may open it."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import devices_templates as templates
from tests.conformance.device import DeviceConformance
from wpk_envs.core import Candidate, Device, ErrorKind
from wpk_envs.devices import open_device
from wpk_envs.devices.baseline import Baseline
from wpk_envs.devices.cpu import CpuDevice
from wpk_envs.devices.cuda import presence
from wpk_envs.devices.host import available_cores
from wpk_envs.devices.process import BOOTSTRAP
from wpk_envs.errors import UserError
from wpk_envs.operators import Gemm

ROOT = Path(__file__).parents[1]

DEADLINE = 3.0


@pytest.fixture(scope="module")
def device() -> Iterator[CpuDevice]:
    with CpuDevice(deadline=DEADLINE, memory_gib=0.5) as opened:
        yield opened


class TestCpuDevice(DeviceConformance):
    @pytest.fixture
    def device(self, device: CpuDevice) -> Device:  # type: ignore[override]
        return device

    def good(self) -> list[Candidate]:
        return [templates.candidate(tile=tile) for tile in (1, 2, 4, 8)]

    def misbehaving(self) -> list[tuple[Candidate, ErrorKind, str]]:
        cases: list[tuple[type[templates.PlainGemm], ErrorKind, str]] = [
            (templates.Raises, "compile", "this schedule cannot be built"),
            (templates.Aborts, "crash", "SIGABRT"),
            (templates.Exits, "crash", "exit code 7"),
            (templates.WritesOutOfBounds, "crash", "SIGSEGV"),
            (templates.Hangs, "timeout", "deadline of 3 s"),
            (templates.LoopsForever, "timeout", "deadline of 3 s"),
            (templates.EatsMemory, "crash", "out of memory"),
            (templates.HugeWorkspace, "crash", "out of memory"),
            (templates.OffByABit, "wrong_result", "wrong by 1.0e-03"),
            (templates.WrongShape, "wrong_result", "shape [32, 64] instead of [1, 32, 64]"),
            (templates.WritesNothing, "wrong_result", "64 of 2048 output elements were never written"),
            (templates.TooFast, "wrong_result", "suspiciously fast"),
        ]
        return [(templates.candidate(template), kind, words) for template, kind, words in cases]


class TestBaseline:
    def test_all_paths_are_raced_once(self, device: CpuDevice):
        baseline = device.baseline(templates.OPERATOR)
        assert device.baseline(templates.OPERATOR) is baseline
        assert baseline.plain_name == "torch mm"
        assert len(baseline.latencies_us) > 3
        assert baseline.latency_us == baseline.latencies_us[baseline.name] == min(baseline.latencies_us.values())
        assert baseline.plain_latency_us == baseline.latencies_us["torch mm"]

    def test_a_dropped_path_is_a_warning(self, device: CpuDevice, monkeypatch, caplog):
        sentence = "vendor path 'x' is wrong by 1.0e+00 of the largest magnitude"
        found = Baseline("torch mm", 1.0, "torch mm", 1.0, {"torch mm": 1.0}, {"x": sentence})
        monkeypatch.setattr(device, "_ask", lambda request, what: found)
        with caplog.at_level(logging.WARNING):
            device.baseline(dataclasses.replace(templates.OPERATOR, m=33))
        assert sentence in caplog.text
        del device._shared.baselines[dataclasses.replace(templates.OPERATOR, m=33)]


class TestSharing:
    def test_equal_settings_share_workers_until_the_last_close(self, device: CpuDevice):
        device.measure([templates.candidate()])
        other = CpuDevice(deadline=10 * DEADLINE, memory_gib=0.5)
        before = _workers()
        other.measure([templates.candidate()])
        other.close()
        other.close()
        assert before == _workers() != set()
        assert device.measure([templates.candidate()])[0].error is None

    def test_a_dropped_device_ends_its_workers(self):
        before = _workers()
        opened = CpuDevice(workers=1, memory_gib=0.25)
        (started,) = _workers() - before
        del opened
        _wait_until(lambda: not psutil.pid_exists(started))

    def test_a_closed_device_says_so(self):
        opened = CpuDevice(workers=1, memory_gib=0.25)
        opened.close()
        with pytest.raises(UserError, match="the device is closed"):
            opened.measure([templates.candidate()])

    def test_threads_take_turns(self, device: CpuDevice):
        results = []

        def measure() -> None:
            results.extend(device.measure([templates.candidate(tile=2)] * 2))

        threads = [threading.Thread(target=measure) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [result.error for result in results] == [None] * 6

    def test_asking_from_within_on_result_is_refused(self, device: CpuDevice):
        with pytest.raises(RuntimeError, match="within on_result"):
            device.measure([templates.candidate()], on_result=lambda *_: device._shared.pool.run([], 1.0) and None)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_is_told_and_harms_nothing(self, device: CpuDevice):
        device.measure([templates.candidate()])
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                device.measure([templates.candidate()])
            except UserError as error:
                os.write(writer, str(error).encode())
            device.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert b"opened in another process" in os.read(reader, 1000)
        assert device.measure([templates.candidate()])[0].error is None


class TestWorkers:
    def test_an_idle_worker_that_dies_is_replaced(self, device: CpuDevice):
        device.measure([templates.candidate()])
        workers = [psutil.Process(pid) for pid in device._shared.pool.pids]
        for worker in workers:
            worker.kill()
        _wait_until(lambda: all(worker.status() == psutil.STATUS_ZOMBIE for worker in workers))
        assert device.measure([templates.candidate()])[0].error is None

    def test_workers_are_recycled(self, device: CpuDevice, monkeypatch):
        device.measure([templates.candidate()] * available_cores())
        before = set(device._shared.pool.pids)
        monkeypatch.setattr("wpk_envs.devices.pool.TASKS_PER_WORKER", 1)
        results = device.measure([templates.candidate()] * 2)
        assert [result.error for result in results] == [None, None]
        assert set(device._shared.pool.pids) != before

    def test_two_threads_are_timed_by_the_wall_clock(self):
        if available_cores() < 2:
            pytest.skip("needs two cores")
        with CpuDevice(threads=2, memory_gib=0.5) as opened:
            assert opened.workers == available_cores() // 2
            assert opened.info.threads == 2
            assert opened.measure([templates.candidate()])[0].error is None


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"threads": 0}, "device.threads must be a whole number from 1"),
            ({"threads": 10_000}, "device.threads must be a whole number from 1"),
            ({"workers": 0}, "device.workers must be a whole number from 1"),
            ({"workers": 10_000}, "device.workers must be a whole number from 1"),
            ({"deadline": 0}, "device.deadline must be greater than 0"),
            ({"memory_gib": -1}, "device.memory_gib must be greater than 0"),
            ({"name": "cpuu"}, "did you mean cpu"),
            ({"name": "cpu", "gpus": [0]}, "unknown setting of device cpu 'gpus' .*threads"),
        ],
    )
    def test_settings_are_checked(self, settings, words):
        with pytest.raises(UserError, match=words):
            open_device(**settings)

    @pytest.mark.parametrize(("name", "settings"), [("cpu", {"threads": None}), ("auto", {"threads": 1})])
    def test_names_that_open_it(self, device: CpuDevice, name, settings):
        with open_device(name, workers=1, **settings) as opened:
            assert isinstance(opened, CpuDevice)

    def test_auto_without_a_gpu_is_the_cpu(self, device: CpuDevice, monkeypatch):
        monkeypatch.setattr(presence, "usable", lambda: False)
        with open_device("auto", workers=1) as opened:
            assert isinstance(opened, CpuDevice)

    def test_an_operator_too_large_for_the_device_is_a_sentence(self, device: CpuDevice):
        with pytest.raises(UserError, match=r"baseline of gemm .* out of memory .* smaller operator"):
            device.measure([templates.candidate(operator=Gemm(m=16384, n=8192, k=4))])

    def test_a_template_that_workers_cannot_import_is_refused(self, device: CpuDevice, monkeypatch):
        class Local(templates.PlainGemm):
            pass

        with pytest.raises(UserError, match="top level of a module"):
            device.measure([templates.candidate(Local)])
        monkeypatch.setattr(templates.PlainGemm, "__module__", "__main__")
        with pytest.raises(UserError, match="PlainGemm is defined in __main__"):
            device.measure([templates.candidate()])

    def test_a_module_that_the_worker_lacks_is_a_compile_error(self, device: CpuDevice, monkeypatch, tmp_path):
        """The module is deleted after it was imported here."""
        (tmp_path / "gone.py").write_text("from tests.devices_templates import PlainGemm as P\nclass Gone(P): pass\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        import gone

        (tmp_path / "gone.py").unlink()
        (result,) = device.measure([templates.candidate(gone.Gone)])
        assert result.error == "compile"
        assert "gone" in result.message


SCRIPT = """
import sys, time
print("main starts", flush=True)
from tests import devices_templates as templates
from wpk_envs.devices.cpu import CpuDevice
from wpk_envs.devices.cuda import presence
device = CpuDevice(workers=1, memory_gib=0.5, deadline=20)
"""
MEASURE = SCRIPT + "print('measured', device.measure([templates.candidate()])[0].error, flush=True)\n"
INTERRUPTED = (
    SCRIPT
    + """
batch = [templates.candidate(tile=t) for t in (1, 2)] + [templates.candidate(templates.Hangs)]
try:
    device.measure(batch, on_result=lambda position, result: print("kept", position, result.error, flush=True))
except KeyboardInterrupt:
    print("interrupted", [p for p in device._shared.pool.pids], flush=True)
"""
)


class TestPrograms:
    def test_an_unguarded_script_works_and_is_run_once(self, tmp_path):
        (tmp_path / "script.py").write_text(MEASURE)
        printed = _python([str(tmp_path / "script.py")])
        assert printed.splitlines() == ["main starts", "measured None"]

    def test_a_notebook_like_main_works(self):
        assert _python(["-"], MEASURE).splitlines() == ["main starts", "measured None"]

    def test_ctrl_c_keeps_results_and_leaves_no_process(self):
        program = _start(INTERRUPTED)
        assert [program.stdout.readline() for _ in range(3)][1:] == ["kept 0 None\n", "kept 1 None\n"]
        workers = psutil.Process(program.pid).children()
        time.sleep(0.3)  # the hanging candidate has begun
        program.send_signal(signal.SIGINT)
        rest, errors = program.communicate(timeout=30)
        assert "interrupted" in rest, errors
        assert workers
        assert not [worker for worker in workers if worker.is_running()]

    def test_workers_die_with_a_killed_parent(self):
        program = _start(MEASURE + "device.measure([templates.candidate()] * 1000)\n")
        assert [program.stdout.readline() for _ in range(2)] == ["main starts\n", "measured None\n"]
        workers = psutil.Process(program.pid).children()
        assert workers
        program.kill()
        program.communicate()
        _wait_until(lambda: not [worker for worker in workers if worker.is_running()])

    def test_a_worker_without_a_device_ends(self):
        """Its connection is closed before it says hello."""
        command = [sys.executable, "-c", BOOTSTRAP, '["' + '", "'.join(filter(None, sys.path)) + '"]', "0"]
        assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60, cwd=ROOT).returncode == 0


def test_candidates_travel_by_reference():
    assert pickle.loads(pickle.dumps(templates.candidate())).template.__class__ is templates.PlainGemm


def _python(arguments: list[str], text: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _start(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def _workers() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def _wait_until(condition) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)
