"""``python -m experiments.run`` from start to end: on a synthetic device in this process, and for real in its own."""

import csv
import dataclasses
import json
import logging
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import wandb

from experiments.launcher import DEFECT, INTERRUPTED, USER_ERROR, run_program
from experiments.loggers import wandb_run
from experiments.run import run
from experiments.settings import settings_of
from tests.synthetic import SyntheticDevice
from wpk_envs import devices, operators
from wpk_envs.core import ERROR_KINDS
from wpk_envs.errors import UserError
from wpk_envs.records import Store

KEYS = {
    "op": str,
    "device": str,
    "device_name": str,
    "algo": str,
    "seed": int,
    "trials": int,
    "trials_reused": int,
    "requests_invalid": int,
    "stop_reason": str,
    "errors": dict,
    "best_config": dict,
    "latency_us": float,
    "baseline_us": float,
    "baseline_name": str,
    "speedup": float,
    "speedup_low": float,
    "speedup_high": float,
    "gflops": float,
    "percent_of_peak": float,
    "trials_per_minute": float,
    "seconds": float,
    "predicted": bool,
    "versions": dict,
}
QUICK = ("logger=none", "algo=random", "budget.trials=12")


class InterruptedDevice(SyntheticDevice):
    """Ctrl-C arrives after some results."""

    def __init__(self, after):
        super().__init__(error_rate=0.2)
        self.left = after

    def measure(self, candidates, on_result=None, repeats=None):
        def count(position, measurement):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            if on_result is not None:
                on_result(position, measurement)

        return super().measure(candidates, count, repeats)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to run in, with a store of its own; Hydra's logging is taken down again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def synthetic(place, monkeypatch):
    """Use this synthetic device from now on."""

    def use(device):
        monkeypatch.setattr(devices, "open_device", lambda **settings: device)
        return device

    use(SyntheticDevice(error_rate=0.2))
    return use


def start(*arguments):
    return run_program("run", run, settings_of, arguments)


def trials_of(folder):
    """What a run's journal holds, the header and the clock left out."""
    lines = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    return [(line["number"], line["vector"], line["measurement"]) for line in lines[1:]]


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


class TestFolder:
    @pytest.fixture(scope="class")
    @staticmethod
    def finished(tmp_path_factory):
        """A folder with a finished run in it."""
        folder = tmp_path_factory.mktemp("finished")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(devices, "open_device", lambda **settings: SyntheticDevice(error_rate=0.2))
            patch.setenv("WPK_STORE", str(folder / "records.sqlite"))
            patch.setenv("WANDB_MODE", "offline")
            root = logging.getLogger()
            handlers, level = root.handlers[:], root.level
            arguments = ["algo=ga", "budget.trials=12", "op.height=28", "seed=5", "out=copy.json"]
            assert start(*arguments, f"hydra.run.dir={folder}/run") == 0
            root.handlers[:] = handlers
            root.setLevel(level)
        return folder

    def test_summary(self, finished):
        summary = summary_of(finished / "run")
        for key, kind in KEYS.items():
            assert isinstance(summary[key], kind), key
        assert (summary["op"], summary["algo"], summary["seed"]) == ("conv3x3", "ga", 5)
        assert summary["operator"]["height"] == 28
        assert (summary["trials"], summary["trials_reused"], summary["stop_reason"]) == (12, 0, "trials")
        assert set(summary["errors"]) == set(ERROR_KINDS)
        assert summary["speedup_low"] <= summary["speedup"] <= summary["speedup_high"]
        assert summary["predicted"] is False
        assert summary == json.loads((finished / "copy.json").read_text())

    def test_figures_follow_from_each_other(self, finished):
        summary = summary_of(finished / "run")
        operator = operators.from_dict(summary["operator"])
        assert summary["speedup"] == pytest.approx(summary["baseline_us"] / summary["latency_us"])
        assert summary["gflops"] == pytest.approx(operator.flops / summary["latency_us"] / 1e3)
        best = max(
            m["baseline_us"][0] / m["samples_us"][0] for _, _, m in trials_of(finished / "run") if "error" not in m
        )
        assert summary["speedup"] == pytest.approx(best)

    def test_journal_holds_every_trial(self, finished):
        trials = trials_of(finished / "run")
        assert [number for number, _, _ in trials] == list(range(1, 13))
        failed = sum("error" in measurement for _, _, measurement in trials)
        assert failed == sum(summary_of(finished / "run")["errors"].values())

    def test_winner(self, finished):
        winner = json.loads((finished / "run" / "best_config.json").read_text())
        assert winner["config"] == summary_of(finished / "run")["best_config"]
        assert operators.from_dict(winner["operator"]) == operators.override("conv3x3", height=28)
        assert "@T.prim_func" in (finished / "run" / "best_schedule.py").read_text()

    def test_plot(self, finished):
        assert (finished / "run" / "best_so_far.png").read_bytes().startswith(b"\x89PNG")

    def test_resolved_config(self, finished):
        config = json.loads((finished / "run" / "config.json").read_text())
        assert config["op"] == {"name": "conv3x3", **operators.override("conv3x3", height=28).to_dict()}
        assert config["algo"]["population"] == 10

    def test_dashboard(self, finished):
        wandb.teardown()  # waits for the file, as the end of a program does
        (offline,) = (finished / "run" / "wandb").glob("offline-run-*/run-*.wandb")
        content = offline.read_bytes()
        for word in (b"conv3x3", b"best_speedup", b"best_config.json", b"best_schedule.py"):
            assert word in content

    def test_store_and_log(self, finished):
        with Store(finished / "records.sqlite") as store:
            assert len(list(store.records())) == 12 + 3 + 1, "trials, finalists, winner"
        assert "12" in (finished / "run" / "run.log").read_text()
        assert not list(finished.rglob(".*.json.*")), "a temporary file was left behind"


class TestOutput:
    def test_the_last_line_is_the_summary(self, synthetic, place, capsys):
        assert start(*QUICK) == 0
        out, err = capsys.readouterr()
        assert err == ""
        path = Path(out.splitlines()[-1])
        assert path.name == "summary.json"
        assert path.parent.parent == place / "outputs" / "run"
        assert "device=auto: synthetic landscape, 1 thread per kernel" in out
        assert "trial 12 of 12: best " in out

    def test_a_dashboard_that_fails_is_one_warning(self, synthetic, capsys, monkeypatch):
        def unreachable(config, tracked, folder):
            raise ConnectionError("no network")

        monkeypatch.setattr(wandb_run, "_open", unreachable)
        assert start(*QUICK, "logger=wandb") == 0
        err = capsys.readouterr().err
        assert err == "warning: W&B failed (no network); the run goes on without it\n"

    def test_a_dashboard_that_hangs_is_one_warning(self, synthetic, capsys, monkeypatch):
        release = threading.Event()
        monkeypatch.setattr(wandb_run, "_open", lambda *given: release.wait(60))
        monkeypatch.setattr(wandb_run, "CLOSE_SECONDS", 0.2)
        assert start(*QUICK, "logger=wandb") == 0
        release.set()
        assert capsys.readouterr().err.startswith("warning: W&B did not finish within")

    def test_no_dashboard_on_request(self, synthetic, place):
        assert start(*QUICK, "hydra.run.dir=run") == 0
        assert not (place / "run" / "wandb").exists()


class TestStore:
    def test_a_second_run_measures_nothing_again(self, synthetic, place):
        assert start(*QUICK, "hydra.run.dir=first") == 0
        device = synthetic(SyntheticDevice(error_rate=0.2))
        assert start(*QUICK, "hydra.run.dir=second") == 0
        summary = summary_of(place / "second")
        first = summary_of(place / "first")
        again = first["errors"]["timeout"] + first["errors"]["crash"]
        assert summary["trials_reused"] == 12 - again
        assert [len(batch) for batch in device.batches if len(batch) != 1][-1] == 3, "the finalists are measured"

    def test_unless_told_to(self, synthetic, place):
        assert start(*QUICK) == 0
        assert start(*QUICK, "store.reuse=false", "hydra.run.dir=second") == 0
        assert summary_of(place / "second")["trials_reused"] == 0

    def test_from_a_newer_version_is_refused(self, synthetic, place, capsys):
        Store(place / "newer.sqlite").close()
        with sqlite3.connect(place / "newer.sqlite") as connection:
            connection.execute("PRAGMA user_version = 99")
        before = (place / "newer.sqlite").read_bytes()
        assert start(*QUICK, "store.path=newer.sqlite") == USER_ERROR
        assert "newer" in _sentence(capsys)
        assert (place / "newer.sqlite").read_bytes() == before


def _sentence(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


class TestInterrupted:
    def test_keeps_what_was_finished_and_goes_on(self, synthetic, place, capsys):
        settings = ("algo=ga", "logger=none", "budget.trials=30", "store.reuse=false")
        synthetic(SyntheticDevice(error_rate=0.2))
        assert start(*settings, "hydra.run.dir=whole") == 0

        synthetic(InterruptedDevice(after=17))
        assert start(*settings, "hydra.run.dir=parts") == INTERRUPTED
        summary = summary_of(place / "parts")
        assert (summary["stop_reason"], summary["trials"]) == ("interrupted", 17)
        assert summary["speedup"] > 0
        assert "interrupted: " in _sentence(capsys)
        with (place / "parts" / "trials.jsonl").open("a") as journal:
            journal.write('{"number": 18, "vec')  # as a killed process leaves it

        device = synthetic(SyntheticDevice(error_rate=0.2))
        assert start("resume=parts") == 0
        assert trials_of(place / "parts") == trials_of(place / "whole")
        assert summary_of(place / "parts")["best_config"] == summary_of(place / "whole")["best_config"]
        assert sum(len(batch) for batch in device.batches[:-2]) == 13, "only what was missing is measured"

    def test_a_table_of_the_trials_goes_on_too(self, synthetic, place):
        settings = ("algo=ga", "logger=csv", "budget.trials=12", "store.reuse=false", "hydra.run.dir=run")
        synthetic(InterruptedDevice(after=7))
        assert start(*settings) == INTERRUPTED
        assert len((place / "run" / "trials.csv").read_text().splitlines()) == 1 + 7
        synthetic(SyntheticDevice(error_rate=0.2))
        assert start("resume=run") == 0
        with (place / "run" / "trials.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [(int(row["trial"]), row["error"] or None) for row in rows] == [
            (number, measurement.get("error")) for number, _, measurement in trials_of(place / "run")
        ]
        for row in rows:
            assert row["knob.template"]

    def test_with_a_larger_budget(self, synthetic, place):
        assert start(*QUICK, "hydra.run.dir=run") == 0
        assert start("resume=run", "budget.trials=20") == 0
        assert summary_of(place / "run")["trials"] == 20
        assert len(trials_of(place / "run")) == 20

    def test_before_any_result(self, synthetic, place):
        synthetic(InterruptedDevice(after=0))
        assert start(*QUICK, "hydra.run.dir=run") == INTERRUPTED
        summary = summary_of(place / "run")
        assert (summary["stop_reason"], summary["trials"], summary["speedup"]) == ("interrupted", 0, None)

    def test_only_the_same_search_goes_on(self, synthetic, place, capsys):
        assert start(*QUICK, "hydra.run.dir=run") == 0
        before = (place / "run" / "trials.jsonl").read_bytes()
        capsys.readouterr()
        assert start("resume=run", "op=gemm", "seed=3") == USER_ERROR
        assert "op and seed would be different" in _sentence(capsys)
        assert start(*QUICK, "hydra.run.dir=run") == USER_ERROR
        assert "holds a run already; go on with it (resume=" in _sentence(capsys)
        assert (place / "run" / "trials.jsonl").read_bytes() == before


class TestFailures:
    def test_no_working_schedule(self, synthetic, place, capsys):
        synthetic(SyntheticDevice(error_rate=1.1))
        assert start(*QUICK, "hydra.run.dir=run") == USER_ERROR
        sentence = _sentence(capsys)
        assert sentence.startswith("none of the 12 trials of conv3x3 gave a working schedule (")
        summary = summary_of(place / "run")
        assert summary["speedup"] is None
        assert sum(summary["errors"].values()) == 12
        assert (place / "run" / "best_so_far.png").exists()

    def test_a_device_that_cannot_be_opened(self, place, monkeypatch, capsys):
        def no_target(**settings):
            raise UserError("TVM has no compiler target for this host's sparc processor; run on x86-64 or aarch64")

        monkeypatch.setattr(devices, "open_device", no_target)
        assert start(*QUICK) == USER_ERROR
        assert "no compiler target" in _sentence(capsys)

    def test_a_place_that_cannot_be_written(self, synthetic, place, capsys):
        (place / "file").touch()
        for setting in ("hydra.run.dir=file/run", "out=file/copy.json", "store.path=file/records.sqlite"):
            assert start(*QUICK, setting) == USER_ERROR
            assert "file" in _sentence(capsys)

    def test_a_disk_that_is_full_in_the_middle(self, synthetic, place, capsys, monkeypatch):
        device = synthetic(SyntheticDevice())
        measure = device.measure
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def measure_with_little_room(candidates, on_result=None, repeats=None):
            room = (place / "run" / "trials.jsonl").stat().st_size + 2000
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
            return measure(candidates, on_result, repeats)

        monkeypatch.setattr(device, "measure", measure_with_little_room)
        monkeypatch.setattr(Store, "put", lambda *arguments: None)  # it would be the first to notice
        try:
            assert start(*QUICK, "hydra.run.dir=run") == USER_ERROR
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert _sentence(capsys).startswith(f"cannot write '{place}/run/trials.jsonl': ")
        assert not (place / "run" / "summary.json").exists()
        assert 0 < len(trials_of(place / "run")) < 12
        assert device.closed == 1


class TestMany:
    def test_every_operator_of_a_network(self, synthetic, place, capsys):
        assert start("op=bert_base/all", "algo=random", "budget.trials=3", "logger=none", "hydra.run.dir=run") == 0
        summary = summary_of(place / "run")
        members = operators.suites()["bert_base"].members
        assert [entry["op"] for entry in summary["operators"]] == [f"bert_base/{m.number}" for m in members]
        assert [entry["count"] for entry in summary["operators"]] == [m.count for m in members]
        product = 1.0
        for member, entry in zip(members, summary["operators"]):
            assert KEYS.keys() <= entry.keys()
            assert operators.from_dict(entry["operator"]) == member.operator
            assert len(trials_of(place / "run" / str(member.number))) == 3
            product *= entry["speedup"]
        assert summary["geomean_speedup"] == pytest.approx(product ** (1 / len(members)))

    def test_a_network_goes_on_after_an_interrupt(self, synthetic, place):
        settings = ("op=bert_base/all", "algo=random", "budget.trials=4", "logger=none", "store.reuse=false")
        device = synthetic(InterruptedDevice(after=4 + 3 + 1 + 2))
        device.error_rate = 0.0
        assert start(*settings, "hydra.run.dir=run") == INTERRUPTED
        summary = summary_of(place / "run")
        assert [entry["trials"] for entry in summary["operators"]] == [4, 2]
        assert summary["stop_reason"] == "interrupted"

        device = synthetic(SyntheticDevice())
        assert start("resume=run") == 0
        assert [entry["trials"] for entry in summary_of(place / "run")["operators"]] == [4] * 7
        first, second = (operators.get(f"bert_base/{number}") for number in (1, 2))
        counts = [len(batch) for batch in device.batches if batch[0].operator == first]
        assert counts == [3, 1], "of the finished operator only the finals are measured again"
        counts = [len(batch) for batch in device.batches if batch[0].operator == second]
        assert counts == [2, 3, 1], "of the interrupted one what was missing too"

    def test_a_member_without_a_result(self, synthetic, place, capsys):
        synthetic(SyntheticDevice(error_rate=1.1))
        settings = ("op=bert_base/all", "algo=random", "budget.trials=2", "logger=none", "hydra.run.dir=run")
        assert start(*settings) == USER_ERROR
        assert _sentence(capsys).count("gave a working schedule") == 7
        assert summary_of(place / "run")["geomean_speedup"] is None

    def test_a_multirun(self, synthetic, place):
        arguments = ["-m", "algo=ga,random", "seed=1,2", "budget.trials=4", "logger=none", "out=out/copy.json"]
        assert start(*arguments, "hydra.sweep.dir=sweep") == 0
        found = [summary_of(place / "sweep" / str(job)) for job in range(4)]
        assert [(each["algo"], each["seed"]) for each in found] == [("ga", 1), ("ga", 2), ("random", 1), ("random", 2)]
        assert [json.loads((place / "out" / f"copy.json.{job}").read_text()) for job in range(4)] == found

    def test_a_multirun_with_a_defect(self, synthetic, place, capsys, monkeypatch):
        opened = []

        def broken_once(**settings):
            opened.append(settings)
            if len(opened) == 1:
                raise RuntimeError("a defect")
            return SyntheticDevice()

        monkeypatch.setattr(devices, "open_device", broken_once)
        assert start("-m", "seed=1,2", *QUICK, "hydra.sweep.dir=sweep") == DEFECT
        assert "job 0 (algo=random,budget.trials=12,logger=none,seed=1): unexpected RuntimeError" in _sentence(capsys)
        assert not (place / "sweep" / "0" / "summary.json").exists()
        assert summary_of(place / "sweep" / "1")["trials"] == 12


class TestForReal:
    """In a process of its own, on this machine's CPU, with a small operator."""

    SMALL = ("op=conv3x3", "op.channels=16", "op.filters=16", "op.height=14", "op.width=14")

    def command(self, *arguments):
        return [sys.executable, "-m", "experiments.run", *self.SMALL, *arguments]

    def test_a_run(self, place):
        command = self.command("algo=ppo", "algo.n_envs=4", "budget.trials=8", "logger=none", "hydra.run.dir=run")
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == str(place / "run" / "summary.json")
        summary = summary_of(place / "run")
        for key, kind in KEYS.items():
            assert isinstance(summary[key], kind), key
        assert summary["trials"] == 8
        assert summary["device"] == "cpu"
        assert 0 < summary["percent_of_peak"] < 115
        assert 0 < summary["speedup_low"] <= summary["speedup"] <= summary["speedup_high"]
        assert summary["plain_torch_speedup"] >= 0.5 * summary["speedup"]
        assert {"tvm", "torch", "wpk_envs", "python"} <= summary["versions"].keys()
        for name in ("trials.jsonl", "best_schedule.py", "best_so_far.png", "policy.zip", "config.json"):
            assert (place / "run" / name).exists(), name

    def test_control_c(self, place):
        command = self.command("algo=random", "logger=none", "budget.trials=5000", "hydra.run.dir=run")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        journal = place / "run" / "trials.jsonl"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count("\n") < 6):
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == INTERRUPTED, err
        assert out.splitlines()[-1] == str(place / "run" / "summary.json")
        assert err.startswith("interrupted: ")
        assert err.count("\n") == 1
        summary = summary_of(place / "run")
        assert summary["stop_reason"] == "interrupted"
        assert summary["trials"] == len(trials_of(place / "run")) >= 5
        with Store(place / "records.sqlite") as store:
            assert len(list(store.records())) == summary["trials"]
        assert psutil.wait_procs(children, timeout=20)[1] == []


class WithoutBaseline(SyntheticDevice):
    """A device on which nothing of the vendor's can be timed, as with a torch that has no kernels for its GPU."""

    def _answer(self, candidate):
        return dataclasses.replace(super()._answer(candidate), baseline_us=(), baseline_name="")


class TestMissingSpeedup:
    @pytest.mark.parametrize("algo", ["ga", "ppo", "ppo_oneshot", "ppo_screened"])
    def test_the_search_goes_on_by_latency_and_says_so(self, place, synthetic, capsys, algo):
        device = synthetic(WithoutBaseline(error_rate=0.1))
        assert start(f"algo={algo}", "budget.trials=24", "logger=none", f"hydra.run.dir={place}/run") == 0
        out = capsys.readouterr().out
        assert re.search(r"trial \d+ of 24: best \d+\.\d us", out)
        assert "missing: nothing of the vendor's could be timed here" in out
        summary = summary_of(place / "run")
        assert summary["speedup"] is None
        assert summary["baseline_us"] is None
        measured = [1000 / device.speedup(candidate.config) for batch in device.batches[:-2] for candidate in batch]
        assert summary["latency_us"] <= sorted(measured)[len(measured) // 4]
        assert (place / "run" / "best_so_far.png").stat().st_size > 1000

    def test_of_a_suite(self, place, synthetic, capsys):
        synthetic(WithoutBaseline())
        assert start("algo=random", "budget.trials=2", "op=bert_base/all", f"hydra.run.dir={place}/run") == 0
        assert "no speedup" in capsys.readouterr().out
        summary = summary_of(place / "run")
        assert summary["geomean_speedup"] is None
        assert all(entry["latency_us"] > 0 for entry in summary["operators"])


class OnAGpu(SyntheticDevice):
    """A device that tells what a GPU does."""

    notes = ("torch 2.13 has no kernels for sm_60",)

    def _answer(self, candidate):
        details = {"protocol": "cold", "hot_us": 3.25, "hot_baseline_us": 6.5, "registers": 64, "spill_bytes": 8}
        details |= {"tf32_baseline": "cuDNN NHWC", "tf32_baseline_us": 2.5}
        return dataclasses.replace(super()._answer(candidate), details=details)


def test_details_of_a_gpu_are_shown_and_kept(place, synthetic, capsys):
    synthetic(OnAGpu())
    assert start("algo=random", "budget.trials=2", "logger=none", f"hydra.run.dir={place}/run") == 0
    out = capsys.readouterr().out
    for shown in (
        "note: torch 2.13 has no kernels for sm_60",
        "64, spills 8 bytes",
        "with hot caches",
        "3.2 us, baseline 6.5 us",
        "cuDNN NHWC, 2.5 us",
    ):
        assert shown in out
    assert summary_of(place / "run")["details"]["hot_us"] == 3.25
