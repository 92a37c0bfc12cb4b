"""``python -m experiments.gpu_check``: is the GPU here, and this suite on it, to be trusted? Writes a report.

The checks of ``time_bundle --acceptance``, with kernels compiled here, and a short run of two agents. With
``device=cpu`` the same is asked of the CPU.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig
from rich.console import Console

import agents
import wpk_envs
from experiments import progress, summary
from experiments.bundle_build import BuildSettings, BundleBuild
from experiments.config import ProgramConfig, device_of
from experiments.files import check_writable, publish
from experiments.launcher import DEFECT, launch
from experiments.misbehaving import misbehaving_candidates
from experiments.planning import plan
from wpk_envs import devices, operators
from wpk_envs.core import Candidate, Device, Measurement
from wpk_envs.devices.acceptance import MISBEHAVIOUR, ODD_OPERATORS, TEMPLATES, Case, VendorCase, run_all
from wpk_envs.devices.cuda.bundle import Bundle
from wpk_envs.devices.cuda.gpu_acceptance import accept
from wpk_envs.devices.cuda.runner import TORCH_GPU, GpuRunner
from wpk_envs.devices.report import Check, Report
from wpk_envs.devices.worker import load
from wpk_envs.errors import UserError
from wpk_envs.schedules import build_space
from wpk_envs.tuning import Budget, TuningProblem

AGENTS = ("ppo", "ga")
OPERATOR = "conv3x3"
GPU_DEADLINE_SECONDS = 8.0
"""Kernels that never end are given up after this on a GPU, whose process does not compile."""


@dataclass
class GpuCheckConfig(ProgramConfig):
    """``python -m experiments.gpu_check``; the keys are explained in ``conf/gpu_check.yaml``."""

    device: Any = MISSING
    configs: int = 96
    trials: int = 16
    seconds: float = 420.0
    seed: int = 0


ConfigStore.instance().store(name="gpu_check_schema", node=GpuCheckConfig)


def main() -> None:
    """Run the program with the command line's arguments."""
    launch("gpu_check", task=act, check=check)


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for settings that cannot work, before anything is opened."""
    for key, least in {"configs": 1, "trials": 1, "seed": 0}.items():
        if cfg[key] < least:
            raise UserError(f"{key} must be a whole number of at least {least}, not {cfg[key]}")
    if not cfg.seconds > 0:
        raise UserError(f"seconds must be greater than 0, not {cfg.seconds:g}")
    devices.check_measures(device_of(cfg.device).name)
    check_writable(cfg.out)


def act(cfg: DictConfig, folder: Path) -> None:
    """Run the checks, write the report and the summary.

    Raises:
        UserError: If the device cannot be used at all.
        SystemExit: With code 1 if a check failed.
    """
    console, started = progress.console(), time.perf_counter()
    with devices.open_device(**device_of(cfg.device).settings) as device:
        examine = _accept_gpu if device.info.kind == "cuda" else _accept_cpu
        report = examine(cfg, device, folder, console)
        agent_checks = []
        for name in AGENTS:
            agent_checks.append(agent_check(name, device, cfg.trials, cfg.seed))
            _tell(console, agent_checks[-1])
        report = replace(report, checks=[*report.checks, *agent_checks])
    path = report.write(folder)
    console.print(f"{report.sentence}; report in {path}", highlight=False, soft_wrap=True)
    publish({**report.to_dict(), "report": str(path), "seconds": time.perf_counter() - started}, folder, cfg.out)
    if not report.passed:
        raise SystemExit(DEFECT)


def agent_check(name: str, device: Device, trials: int, seed: int) -> Check:
    """Let an agent tune conv3x3 for a few trials; it passes if it finds a working schedule."""
    started, operator = time.perf_counter(), operators.get(OPERATOR)
    problem = TuningProblem(operator, device, build_space(operator, device.info), budget=Budget(trials=trials))
    best = agents.get(name).tune(problem, seed).best
    errors = ", ".join(f"{count} {kind}" for kind, count in problem.errors.items()) or "none"
    note = f"{len(problem.trials)} trials, errors: {errors}"
    if best is not None:
        speedup, latency = best.measurement.speedup, best.measurement.latency_us
        ratio = f"{speedup:.2f}x {best.measurement.baseline_name}" if speedup else "no baseline"
        note = f"best {latency:.1f} us, {ratio}; {note}"
    seconds = time.perf_counter() - started
    return Check("agents", f"{name} on {OPERATOR}", "passed" if best is not None else "failed", note, seconds)


def _accept_gpu(cfg: DictConfig, device: Device, folder: Path, console: Console) -> Report:
    """Compile the bundle for acceptance here, and run what ``time_bundle --acceptance`` runs."""
    bundle = _bundle(cfg, device, folder, console)
    gpus = cfg.device.get("gpus") or [0]
    with GpuRunner(gpus[:1], cfg.device.get("protocol", "cold"), True, GPU_DEADLINE_SECONDS, TORCH_GPU) as runner:
        return accept(bundle, runner, _command(), cfg.seconds, lambda line: _print(console, line))


def _bundle(cfg: DictConfig, device: Device, folder: Path, console: Console) -> Bundle:
    settings = BuildSettings(
        device=device.info,
        operators=ODD_OPERATORS,
        bundle=folder / "acceptance.bundle",
        configs=cfg.configs,
        acceptance=True,
        check=0,
        workers=device.workers,
        seed=cfg.seed,
        image=load(TORCH_GPU).image,
    )
    planned = plan(settings.operators, settings.device, settings.configs, settings.seed)
    with contextlib.closing(BundleBuild(settings, planned, console)) as build:
        build.compile()
        build.finish()
        assert build.bundle is not None
        return build.bundle


def _accept_cpu(cfg: DictConfig, device: Device, folder: Path, console: Console) -> Report:
    checks: list[Check] = []
    for each in run_all([*_cpu_cases(device, cfg.configs, cfg.seed)], cfg.seconds):
        checks.append(each)
        _tell(console, each)
    info = device.info
    facts = {
        "threads of a kernel": info.threads,
        "peak": f"{device.peak_gflops():.0f} GFLOP/s",
        **{f"version of {name}": version for name, version in info.versions.items()},
        "version of wpk_envs": wpk_envs.__version__,
    }
    return Report(_command(), info.name, facts, summary.now(), checks)


def _cpu_cases(device: Device, configs: int, seed: int) -> Iterator[Case | VendorCase]:
    def measure(candidate: Candidate) -> Callable[[], Measurement]:
        return lambda: device.measure([candidate])[0]

    planned = plan(ODD_OPERATORS, device.info, configs, seed)
    for each in planned:
        config = " ".join(f"{knob}={value}" for knob, value in each.candidate.config.items() if knob != "template")
        name = f"{each.candidate.template.name} on {each.name}: {config}"
        yield Case(TEMPLATES, name, "correct", measure(each.candidate))
    race: Any = getattr(device, "baseline", None)
    for name, operator in ODD_OPERATORS.items() if race is not None else ():
        yield VendorCase(f"{name}: {operator.label}", lambda operator=operator: race(operator))  # type: ignore[misc]
    for title, expected, candidate in misbehaving_candidates():
        yield Case(MISBEHAVIOUR, f"a kernel that {title}", expected, measure(candidate))
        yield Case(MISBEHAVIOUR, "a good kernel right after that", "correct", measure(planned[0].candidate))


def _command() -> str:
    return shlex.join(["python", "-m", "experiments.gpu_check", *sys.argv[1:]])


def _tell(console: Console, check: Check) -> None:
    _print(
        console,
        f"{check.outcome}: {check.name} ({check.note})" if check.outcome != "passed" else f"passed: {check.name}",
    )


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
