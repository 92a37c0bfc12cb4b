"""``python -m wpk_envs.devices.time_bundle BUNDLE --out DIR --seconds N``: measure a bundle where the GPU is.

It needs Python, numpy, torch, and cuda-bindings or CuPy; nothing else of the suite's dependencies. Every kernel
is checked against the float64 reference and timed beside the best of cuDNN and cuBLAS, the most valuable ones
first, and written down as soon as it is known (`wpk_envs.devices.cuda.timings`): being cut off loses nothing, and
the same command goes on.

Exit codes: 0 done, or the time was over; 1 the GPU was not accepted, or a defect; 2 a sentence says what to mend;
130 interrupted.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import wpk_envs
from wpk_envs.core import Measurement, Operator
from wpk_envs.devices.cuda import timings
from wpk_envs.devices.cuda.bundle import Bundle, Entry
from wpk_envs.devices.cuda.gpu import PROTOCOLS, check_toolchain
from wpk_envs.devices.cuda.gpu_acceptance import accept, ceilings_for, job_of
from wpk_envs.devices.cuda.jobs import MeasureJob
from wpk_envs.devices.cuda.runner import DEADLINE_SECONDS, RACE_SECONDS, TORCH_GPU, GpuRunner
from wpk_envs.devices.cuda.timings import Timing, TimingFiles
from wpk_envs.devices.failures import NO_MEMORY, as_measurement
from wpk_envs.errors import UserError

ACCEPTANCE_SECONDS = 440.0
ACCEPTANCE_DEADLINE = 8.0
SHOWN_SECONDS = 10.0
"""At least this long between two lines of progress."""

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None, gpu: str = TORCH_GPU) -> int:
    """Run the program; its exit code.

    Args:
        arguments: The command line; that of this process if none.
        gpu: The class of `wpk_envs.devices.cuda.gpu.Gpu` to use, as ``module:Class``.
    """
    try:
        given = _parser().parse_args(arguments)
        return _run(given, gpu)
    except UserError as error:
        print(error, file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted: what was measured is kept, and the same command goes on", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wpk_envs.devices.time_bundle",
        description="Checks and times the kernels of a bundle on a GPU, the most valuable first.",
        allow_abbrev=False,
    )
    parser.add_argument("bundle", type=Path, help="what python -m experiments.record stage=build made")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the measurements")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after so long; none: when all are measured")
    parser.add_argument("--gpu", type=int, default=0, metavar="I", help="number of the GPU, from 0")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="cold", help="caches before each call")
    parser.add_argument("--tf32", action="store_true", help="also race the vendor's paths in TF32, for the record")
    parser.add_argument("--acceptance", action="store_true", help="check the GPU and this suite on it, write a report")
    return parser


def _run(given: argparse.Namespace, gpu: str) -> int:
    started = time.monotonic()
    if given.seconds is not None and not given.seconds > 0:
        raise UserError(f"--seconds must be greater than 0, not {given.seconds:g}")
    bundle = Bundle.read(given.bundle)
    if given.acceptance != bundle.acceptance:
        raise UserError(_other_kind(given.bundle, bundle.acceptance))
    timings.check_writable(given.out)
    deadline = ACCEPTANCE_DEADLINE if given.acceptance else DEADLINE_SECONDS
    tf32 = given.tf32 or given.acceptance
    with GpuRunner([given.gpu], given.protocol, tf32, deadline, gpu) as runner:
        bundle.check_runs_on(runner.info.arch, runner.info.model)
        check_toolchain(runner.info, bundle.versions["nvrtc"])
        if runner.info.no_vendor:
            print(f"{runner.info.no_vendor}; kernels are timed without a baseline")
        if given.acceptance:
            return _accept(given, bundle, runner)
        timing = Timer(bundle, runner, TimingFiles(given.out, header_of(bundle, runner, given.protocol, given.tf32)))
        return timing.run(None if given.seconds is None else started + given.seconds)


def header_of(bundle: Bundle, runner: GpuRunner, protocol: str, tf32: bool) -> dict[str, Any]:
    """What the lines of one run share: GPU, versions, bundle and protocol."""
    return {
        "gpu": asdict(runner.info),
        "versions": {"wpk_envs": wpk_envs.__version__, "python": platform.python_version(), **runner.info.versions},
        "bundle": {
            "sha256": bundle.sha256,
            "created": bundle.created,
            "seed": bundle.seed,
            "device": asdict(bundle.device),
            "versions": dict(bundle.versions),
        },
        "protocol": protocol,
        "tf32": tf32,
    }


class Timer:
    """Measures a bundle's kernels one after the other.

    Args:
        bundle: The kernels.
        runner: The GPU.
        files: Where measurements go; what they know is not measured again.
    """

    def __init__(self, bundle: Bundle, runner: GpuRunner, files: TimingFiles) -> None:
        self._bundle = bundle
        self._runner = runner
        self._files = files
        self._ceilings = ceilings_for(bundle, runner)
        self._steps: list[float] = []
        self._shown = time.monotonic()
        self._unmeasurable: dict[Operator, str] = {}
        self._no_baseline: set[Operator] = set()

    def run(self, end: float | None) -> int:
        """Measure until all are known or the clock reaches ``end``; the program's exit code."""
        waiting = [entry for entry in self._bundle.entries if not self._files.knows(entry)]
        known = len(self._bundle.entries) - len(waiting)
        print(f"{len(waiting)} kernels to measure on {self._runner.info.model}, {known} are known", flush=True)
        try:
            done = sum(self._step(number, entry, end) for number, entry in enumerate(waiting, 1) if self._time_for(end))
        finally:
            self._files.close()
            show(self._files.mine())
        for sentence in self._unmeasurable.values():
            print(sentence, file=sys.stderr)
        left = len(waiting) - done
        print(f"{left} kernels are left; the same command goes on" if left else "all kernels are measured")
        return USER_ERROR if self._unmeasurable else 0

    def _time_for(self, end: float | None) -> bool:
        """Whether another kernel is likely to be measured in time."""
        expected = 2 * statistics.median(self._steps[-20:]) if self._steps else 0.0
        return end is None or time.monotonic() + expected < end

    def _step(self, number: int, entry: Entry, end: float | None) -> bool:
        """Measure one kernel and write it down; whether that was possible."""
        if entry.operator in self._unmeasurable:
            return False
        started = time.monotonic()
        allowed = DEADLINE_SECONDS if end is None else min(DEADLINE_SECONDS, max(0.1, end - started))
        measurement = self._measured(entry, allowed, end)
        self._steps.append(time.monotonic() - started)
        if measurement is None or (measurement.error == "timeout" and allowed < DEADLINE_SECONDS):
            return False  # the lack of time was not the kernel's fault
        self._files.add(entry, measurement)
        self._tell(number, entry, measurement)
        return True

    def _measured(self, entry: Entry, allowed: float, end: float | None) -> Measurement | None:
        """The measurement; none if its operator cannot be measured here, or the time was over first."""
        try:
            request = self._request(entry, RACE_SECONDS if end is None else min(RACE_SECONDS, end - time.monotonic()))
        except UserError as error:
            if end is None or time.monotonic() < end:
                self._unmeasurable[entry.operator] = str(error)
            return None
        (reply,) = self._runner.pool.run([request], allowed)
        measurement = as_measurement(reply, allowed, entry.build_seconds)
        if measurement.error == "crash" and NO_MEMORY in measurement.message:
            self._unmeasurable[entry.operator] = (
                f"GPU memory is not enough for {entry.operator.label}: {measurement.message}; end what else uses the "
                "GPU and run the same command again"
            )
            return None
        return measurement

    def _request(self, entry: Entry, race_seconds: float) -> MeasureJob:
        job = job_of(entry)
        if entry.operator not in self._no_baseline:
            try:
                if not self._runner.info.no_vendor:
                    self._runner.baseline(entry.operator, race_seconds)
                return self._runner.request(job, self._ceilings)
            except RuntimeError as error:
                print(f"{entry.name} is timed without a baseline: {error}", flush=True)
                self._no_baseline.add(entry.operator)
        return MeasureJob(job, "", self._ceilings)

    def _tell(self, number: int, entry: Entry, measurement: Measurement) -> None:
        if time.monotonic() - self._shown > SHOWN_SECONDS:
            self._shown = time.monotonic()
            speedup = measurement.speedup
            outcome = measurement.error or (f"{speedup:.2f}x" if speedup else f"{measurement.latency_us:.1f} us")
            print(f"kernel {number}: {entry.name} {entry.template}, {outcome}", flush=True)


def show(found: Sequence[Timing]) -> None:
    """Print what is known of each operator: kernels measured and wrong, the best latency and speedup."""
    by_name: dict[str, list[Measurement]] = {}
    for timing in found:
        by_name.setdefault(timing.line["name"], []).append(timing.measurement)
    print(f"{'operator':<24}{'measured':>9}{'failed':>8}{'best us':>10}{'speedup':>9}  baseline")
    for name, measurements in by_name.items():
        right = [each for each in measurements if each.samples_us]
        best = min(right, key=lambda each: statistics.median(each.samples_us), default=None)
        figures = f"{'-':>10}{'-':>9}"
        if best is not None:
            speedup = f"{best.speedup:.2f}x" if best.speedup else "-"
            figures = f"{best.latency_us:>10.1f}{speedup:>9}  {best.baseline_name}"
        print(f"{name:<24}{len(right):>9}{len(measurements) - len(right):>8}{figures}")


def _accept(given: argparse.Namespace, bundle: Bundle, runner: GpuRunner) -> int:
    command = f"python -m wpk_envs.devices.time_bundle {given.bundle} --out {given.out} --acceptance"
    seconds = given.seconds or ACCEPTANCE_SECONDS
    report = accept(bundle, runner, command, seconds, lambda line: print(line, flush=True))
    try:
        path = report.write(given.out)
    except OSError as error:
        raise UserError(f"'{given.out}' cannot be written: {error.strerror}; name another folder") from error
    print(f"{report.sentence}; report in {path}")
    return 0 if report.passed else FAILED


def _other_kind(path: Path, acceptance: bool) -> str:
    if acceptance:
        return f"bundle '{path}' is for acceptance and holds kernels that misbehave; add --acceptance"
    return (
        f"bundle '{path}' is not for acceptance; leave --acceptance out, or make one that is: "
        "python -m experiments.record stage=build acceptance=true device=NAME bundle=FILE"
    )


if __name__ == "__main__":
    sys.exit(main())
