"""``python -m experiments.bench``: measure the figures that the suite promises, each with its samples.

Everything is measured by the real thing: operators are tuned as ``experiments.run`` tunes them, start-up is
that of a new process. What the store knows is not measured again, so an interrupted bench is soon back where
it was; rates are always measured anew.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from experiments import figures, plan_rates, progress, step_rates, summary
from experiments.figures import TARGETS, Figure
from experiments.files import check_writable, publish, write_json
from experiments.finals import geomean, ratios
from experiments.launcher import launch
from experiments.naming import Naming
from experiments.settings import Settings, settings_without_operator
from experiments.tune import Outcome, Workplace, tune
from wpk_envs import devices, operators, schedules
from wpk_envs.core import DeviceInfo, Measurement, Operator
from wpk_envs.envs import ScheduleEnv
from wpk_envs.errors import UserError, unknown
from wpk_envs.records import Store
from wpk_envs.tuning import Budget, TuningProblem

STEP_EPISODES = 200
PROCESS_SAMPLES = 3
RATE_TRIALS = 64


def check(cfg: DictConfig) -> Settings:
    """The settings of a bench, checked.

    Raises:
        UserError: For a value that cannot be.
    """
    for name in cfg.figures:
        if name not in TARGETS:
            raise unknown("figure", name, TARGETS)
    return settings_without_operator(cfg, "bench")


def bench(cfg: DictConfig, folder: Path) -> None:
    """Measure the chosen figures, in a folder.

    Raises:
        UserError: For what the user can mend.
        KeyboardInterrupt: After Ctrl-C; the figures finished by then are in the summary.
    """
    settings = check(cfg)
    check_writable(cfg.out)
    started = time.perf_counter()
    done: list[Figure] = []
    interrupted = False
    with (
        contextlib.closing(Store(settings.store_path)) as store,
        devices.open_device(**settings.device.settings) as device,
    ):
        place = Workplace(settings, device, store, progress.console())
        measures = Bench(place, folder).measures()
        try:
            for number, name in enumerate(cfg.figures, start=1):
                place.console.print(f"figure {number} of {len(cfg.figures)}: {name} ({TARGETS[name].what})")
                done.append(replace(measures[name](name), predicted=device.predicts))
        except KeyboardInterrupt:
            interrupted = True
        result = {
            **summary.device_figures(device),
            "workers": device.workers,
            "algo": settings.algo,
            "seed": settings.seed,
            "predicted": device.predicts,
            "figures": [figure.to_dict() for figure in done],
            "seconds": time.perf_counter() - started,
            "date": summary.now(),
            "versions": summary.versions(device),
        }
        place.console.print(figures.table(done, summary.device_text(device)))
    publish(result, folder, cfg.out)
    if interrupted:
        raise KeyboardInterrupt


class Bench:
    """Measures figures; operators tuned for one are not tuned again for another."""

    def __init__(self, place: Workplace, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.outcomes: dict[str, Outcome] = {}

    def measures(self) -> dict[str, Callable[[str], Figure]]:
        """How each figure is measured."""
        named = {name: operators.get(name) for name in operators.names()}
        resnet18 = {
            f"resnet18/{member.number}": member.operator
            for member in operators.suites()["resnet18"].members
            if member.operator.kind == "conv2d"
        }
        return {
            "conv3x3_speedup": lambda name: self.speedup(name, {"conv3x3": named["conv3x3"]}, min),
            "named_speedup": lambda name: self.speedup(name, named, min),
            "resnet18_speedup": lambda name: self.speedup(name, resnet18, geomean),
            "direct_conv_rate": lambda name: self.rate(name, "conv3x3", "direct_conv"),
            "gemm_rate": lambda name: self.rate(name, "gemm", "gemm"),
            "winograd_conv_rate": lambda name: self.rate(name, "conv3x3", "winograd_conv"),
            "construct_step": self.construct_step,
            "recorded_steps": lambda name: self.steps(name, step_rates.vector_steps_per_second),
            "recorded_sb3_steps": lambda name: self.steps(name, step_rates.sb3_steps_per_second),
            "plan_call": lambda name: self.plan(name, plan_rates.call_us),
            "plan_load": lambda name: self.plan(name, plan_rates.load_seconds),
            "startup": self.startup,
            "import": self.import_seconds,
        }

    def speedup(self, name: str, chosen: Mapping[str, Operator], joined: Callable[[list[float]], Any]) -> Figure:
        """Tune operators; the samples are the ratios of every pair of their final measurements, or are predicted."""
        finals = {each: self.tuned(each, operator).final for each, operator in chosen.items()}
        samples = {each: _speedups(final.measurement) for each, final in finals.items() if final is not None}
        failed = [each for each in chosen if not samples.get(each)]
        if failed:
            return Figure(name, None, samples, f"no working schedule or no baseline for {', '.join(failed)}")
        return Figure(name, joined([statistics.median(values) for values in samples.values()]), samples)

    def tuned(self, name: str, operator: Operator) -> Outcome:
        """Tune an operator, once."""
        if name not in self.outcomes:
            folder = self.folder / "operators" / name
            self.outcomes[name] = self._tune(self.place, name, operator, folder, None)
        return self.outcomes[name]

    def _tune(
        self, place: Workplace, name: str, operator: Operator, folder: Path, templates: list[str] | None
    ) -> Outcome:
        outcome = tune(place, name, operator, folder, templates)
        write_json(folder / "summary.json", outcome.summary)
        if outcome.interrupted:
            raise KeyboardInterrupt
        naming = Naming(place.device.predicts)
        speedup = outcome.summary[naming.key("speedup")]
        reached = "no speedup, for there is no baseline" if speedup is None else naming.text(f"{speedup:.2f}x")
        place.console.print(f"{name}: {outcome.failure or reached}")
        return outcome

    def rate(self, name: str, op: str, template: str) -> Figure:
        """Trials a minute of a search among one template's configs, every one compiled anew."""
        budget = Budget(trials=min(RATE_TRIALS, self.place.settings.budget.trials or RATE_TRIALS))
        place = replace(self.place, settings=replace(self.place.settings, reuse=False, budget=budget))
        outcome = self._tune(place, op, operators.get(op), self.folder / "rates" / template, [template])
        rate = outcome.summary["trials_per_minute"]
        return Figure(name, rate, {template: [rate]}, f"{self.place.device.workers} workers, {budget.trials} trials")

    def construct_step(self, name: str) -> Figure:
        """Microseconds of a step and its mask; an episode is left before the step that would measure."""
        operator = operators.get("conv3x3")
        space = schedules.build_space(operator, self.place.device.info)
        env = ScheduleEnv(TuningProblem(operator, self.place.device, space), "construct")
        rng = np.random.default_rng(self.place.settings.seed)
        samples = [_episode_us(env, space.length - 1, rng) for _ in range(STEP_EPISODES)]
        return Figure(name, statistics.median(samples), {"episodes": samples})

    def steps(self, name: str, rates: Callable[[int], list[float]]) -> Figure:
        """Steps a second of recorded environments, whatever the bench's device."""
        samples = rates(self.place.settings.seed)
        return Figure(name, statistics.median(samples), {"rounds": samples})

    def plan(self, name: str, measured: Callable[[DeviceInfo, Path], dict[str, list[float]]]) -> Figure:
        """What plans cost beside their kernels, on a CPU."""
        info = self.place.device.info
        if info.kind != "cpu":
            return Figure(name, None, {}, "is a figure of plans for CPUs")
        samples = measured(info, self.folder / name)
        return Figure(name, max(map(statistics.median, samples.values())), samples)

    def startup(self, name: str) -> Figure:
        """Seconds from the start of a new ``experiments.run`` to its first trial."""
        samples = [_startup_seconds() for _ in range(PROCESS_SAMPLES)]
        return Figure(name, statistics.median(samples), {"processes": samples})

    def import_seconds(self, name: str) -> Figure:
        """Seconds that ``import wpk_envs`` takes in a new process."""
        code = "import time; start = time.perf_counter(); import wpk_envs; print(time.perf_counter() - start)"
        samples = [
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
            for _ in range(PROCESS_SAMPLES)
        ]
        return Figure(name, statistics.median(samples), {"processes": samples})


def _speedups(measurement: Measurement) -> list[float]:
    """Of every pair of samples; of a prediction the one that is predicted."""
    predicted = measurement.predicted_speedup
    return ratios(measurement) if predicted is None else [predicted]


def _episode_us(env: ScheduleEnv, steps: int, rng: np.random.Generator) -> float:
    """Microseconds per step of one episode's first steps, the choice of the action left out."""
    env.reset()
    mask = env.action_masks()
    spent = 0
    for _ in range(steps):
        action = rng.choice(np.flatnonzero(mask))
        start = time.perf_counter_ns()
        env.step(action)
        mask = env.action_masks()
        spent += time.perf_counter_ns() - start
    return spent / steps / 1e3


def _startup_seconds() -> float:
    """Start ``experiments.run`` in a new process and a folder of its own, and wait for its first trial's line."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.run", "op=conv3x3", "budget.trials=1", f"hydra.run.dir={folder}"]
        environment = {**os.environ, "WPK_STORE": f"{folder}/records.sqlite", "WANDB_MODE": "offline"}
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        seconds = None
        for line in process.stdout:
            if line.startswith("trial 1") and seconds is None:
                seconds = time.perf_counter() - start
        process.wait()
    if seconds is None:
        raise UserError("experiments.run ended before its first trial; run it by itself to see why")
    return seconds


def main() -> None:
    """The command line."""
    launch("bench", bench, check=check)


if __name__ == "__main__":
    main()
