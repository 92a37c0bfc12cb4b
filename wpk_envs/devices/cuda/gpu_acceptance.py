"""The acceptance of a GPU with a bundle that was made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import wpk_envs
from wpk_envs.core import Measurement
from wpk_envs.devices.acceptance import MISBEHAVIOUR, TEMPLATES, Case, VendorCase, run_all
from wpk_envs.devices.ceilings import Ceilings
from wpk_envs.devices.cuda.bundle import Bundle, Entry
from wpk_envs.devices.cuda.jobs import Job, ceilings_of
from wpk_envs.devices.cuda.runner import GpuRunner
from wpk_envs.devices.cuda.timings import now
from wpk_envs.devices.report import Check, Report

MISBEHAVING = "cuda/misbehaving"


def job_of(entry: Entry) -> Job:
    """A bundle's kernel as a runner takes it."""
    return Job(entry.operator, entry.program, entry.tolerance, entry.executed_flops, entry.build_seconds)


def ceilings_for(bundle: Bundle, runner: GpuRunner) -> Ceilings:
    """What the GPU at hand cannot exceed; float32 lanes, which drivers do not tell, are those of the bundle's GPU."""
    return ceilings_of({**bundle.device.limits, **runner.info.properties})


def accept(
    bundle: Bundle, runner: GpuRunner, program: str, seconds: float, tell: Callable[[str], None] = lambda line: None
) -> Report:
    """Run every check that a bundle for acceptance allows.

    Args:
        bundle: Kernels of odd shapes over every template, and some that misbehave.
        runner: The GPU.
        program: The command that asks for this, for the report.
        seconds: Checks that the time does not reach are said not to have run.
        tell: Called with a line per check.
    """
    checks: list[Check] = []
    for check in run_all([*cases(bundle, runner)], seconds):
        checks.append(check)
        tell(f"{check.outcome}: {check.name} ({check.note})" if check.outcome != "passed" else f"passed: {check.name}")
    info = runner.info
    facts = {
        "architecture": info.arch,
        "memory": f"{info.memory_bytes / 2**30:.0f} GiB",
        "driver release": info.driver or "unknown: NVML does not answer",
        **{f"version of {name}": version for name, version in info.versions.items()},
        "version of wpk_envs": wpk_envs.__version__,
        "bundle": f"{bundle.sha256[:16] or 'made in this run'}, for {bundle.device.name}, of {bundle.created}",
        "built with": ", ".join(f"{name} {version}" for name, version in bundle.versions.items()),
    }
    return Report(program, info.model, facts, now(), checks)


def cases(bundle: Bundle, runner: GpuRunner) -> Iterator[Case | VendorCase]:
    """What is checked, those kernels last that might leave a GPU in a bad state."""
    ceilings = ceilings_for(bundle, runner)

    def measure(entry: Entry) -> Callable[[], Measurement]:
        return lambda: runner.measure([job_of(entry)], ceilings)[0]

    misbehaving = [entry for entry in bundle.entries if entry.template == MISBEHAVING]
    good = [entry for entry in bundle.entries if entry.template != MISBEHAVING]
    for entry in good:
        yield Case(TEMPLATES, _name(entry), entry.expected, measure(entry))
    for operator, name in {entry.operator: entry.name for entry in good}.items():
        yield VendorCase(f"{name}: {operator.label}", lambda operator=operator: runner.baseline(operator))  # type: ignore[misc]
    for entry in misbehaving:
        yield Case(MISBEHAVIOUR, f"a kernel that {entry.name}", entry.expected, measure(entry))
        if entry.expected != "correct" and good:
            yield Case(MISBEHAVIOUR, "a good kernel right after that", "correct", measure(good[0]))


def _name(entry: Entry) -> str:
    config = " ".join(f"{knob}={value}" for knob, value in entry.config.items() if knob != "template")
    return f"{entry.template} on {entry.name}: {config}"
