"""What any device must do before its figures are believed, and how each outcome is judged.

A device is given as calls that answer with a `Measurement` or a `Baseline`, so that the same checks judge a
GPU with or without a compiler beside it, and the CPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wpk_envs.core import ErrorKind, Measurement, Operator
from wpk_envs.devices.baseline import Baseline
from wpk_envs.devices.report import Check
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d, Gemm

TEMPLATES, MISBEHAVIOUR, VENDOR = "templates", "misbehaviour", "vendor"

OUTCOME_OF: dict[str, tuple[ErrorKind | None, ...]] = {
    "correct": (None,),
    "wrong": ("wrong_result",),
    "crash": ("crash",),
    "endless": ("timeout",),
}
"""The errors that a kernel of each kind may be answered with; none is a measurement."""

ODD_OPERATORS: dict[str, Operator] = {
    "odd conv3x3": Conv2d(channels=13, height=15, width=17, filters=19, bias=True, activation="relu"),
    "odd conv3x3 residual": Conv2d(
        batch=2, channels=32, height=9, width=11, filters=24, bias=True, residual=True, activation="relu6"
    ),
    "odd conv3x3 stride 2": Conv2d(channels=7, height=21, width=23, filters=33, stride=2),
    "odd conv5x3 dilated": Conv2d(
        channels=6, height=19, width=16, filters=10, kernel=(5, 3), padding=(4, 2), dilation=2, bias=True
    ),
    "odd conv7x7 stride 2": Conv2d(channels=3, height=37, width=41, filters=18, kernel=7, stride=2, padding=3),
    "odd conv1x1": Conv2d(channels=37, height=7, width=9, filters=51, kernel=1, padding=0, activation="relu"),
    "odd depthwise": Conv2d(channels=29, height=18, width=13, filters=29, groups=29, bias=True, activation="relu6"),
    "odd gemm": Gemm(m=67, n=131, k=59, bias=True, activation="relu"),
    "odd gemv": Gemm(m=1, n=211, k=173, bias=True),
    "odd batched gemm": Gemm(m=33, n=47, k=65, batch=3),
}
"""Operators whose extents few tiles divide, over everything that a template may be asked for."""

OVER = "the time given for the checks was over"


@dataclass(frozen=True)
class Case:
    """A kernel to be measured, and what it must be answered with.

    Attributes:
        group: `TEMPLATES` or `MISBEHAVIOUR`.
        name: What is checked.
        expected: A key of `OUTCOME_OF`.
        measure: Measures it.
    """

    group: str
    name: str
    expected: str
    measure: Callable[[], Measurement]

    def run(self) -> Check:
        """Measure and judge."""
        started = time.perf_counter()
        measurement = self.measure()
        right = measurement.error in OUTCOME_OF[self.expected]
        note = _found(measurement) if right or measurement.error else f"it was not noticed: {_found(measurement)}"
        return Check(self.group, self.name, "passed" if right else "failed", note, time.perf_counter() - started)


@dataclass(frozen=True)
class VendorCase:
    """An operator whose vendor paths are to be raced.

    Attributes:
        name: What is checked.
        race: Checks and times every path.
    """

    name: str
    race: Callable[[], Baseline]

    def run(self) -> Check:
        """Race and judge; a vendor library that this machine lacks is no failure but is said."""
        started = time.perf_counter()
        try:
            baseline = self.race()
        except UserError as error:
            return Check(VENDOR, self.name, "did not run", str(error), time.perf_counter() - started)
        except RuntimeError as error:
            return Check(VENDOR, self.name, "failed", str(error), time.perf_counter() - started)
        wrong = "; ".join(baseline.dropped.values())
        note = f"{baseline.name} takes {baseline.latency_us:.1f} us, the best of {len(baseline.latencies_us)} paths"
        return Check(VENDOR, self.name, "passed", f"{note}; {wrong}" if wrong else note, time.perf_counter() - started)


def run_all(cases: Sequence[Case | VendorCase], seconds: float) -> Iterator[Check]:
    """Run the cases one after the other; those that the time does not reach are said not to have run."""
    deadline = time.perf_counter() + seconds
    for case in cases:
        if time.perf_counter() < deadline:
            yield case.run()
        else:
            group = case.group if isinstance(case, Case) else VENDOR
            yield Check(group, case.name, "did not run", OVER)


def _found(measurement: Measurement) -> str:
    if measurement.error is not None:
        return f"{measurement.error}: {measurement.message}"
    note = f"{statistics.median(measurement.samples_us):.1f} us"
    if measurement.max_error is not None:
        note += f", error {measurement.max_error:.1e}"
    return note if measurement.speedup is None else f"{note}, {measurement.speedup:.2f}x {measurement.baseline_name}"
