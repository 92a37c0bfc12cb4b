"""What a GPU's runner process is asked, and what GPUs cannot exceed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wpk_envs.core import Operator
from wpk_envs.devices.baseline import Baseline
from wpk_envs.devices.ceilings import Ceilings
from wpk_envs.devices.cuda.program import Program

CACHE_BYTES_PER_CLOCK = 64
"""What one multiprocessor gets from the L2 cache at most in a clock.

Source: NVIDIA's white papers for P100 to H100; several give less."""


@dataclass(frozen=True)
class Job:
    """A compiled kernel to be checked and timed.

    Attributes:
        operator: What it computes.
        program: What the GPU is given.
        tolerance: Largest accepted error relative to the reference's largest magnitude.
        executed_flops: Arithmetic that the kernel itself executes in one call.
        build_seconds: What it took to build; it becomes part of the measurement.
    """

    operator: Operator
    program: Program
    tolerance: float
    executed_flops: float
    build_seconds: float = 0.0


@dataclass(frozen=True)
class MeasureJob:
    """Asks for a job's `Measurement`.

    Attributes:
        job: What to check and time.
        baseline_name: The vendor path to time beside it; none if empty.
        ceilings: What the GPU cannot exceed.
        repeats: Pairs of samples; adaptive if none.
        details: What becomes part of the measurement's details.
    """

    job: Job
    baseline_name: str
    ceilings: Ceilings
    repeats: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GpuBaseline(Baseline):
    """The race of cuDNN's and cuBLAS's paths in float32, and if asked for the best one in TF32 beside them.

    Attributes:
        tf32_name: The fastest path whose products are rounded to TF32; empty if it was not asked for.
        tf32_latency_us: Its median latency in microseconds.
    """

    tf32_name: str = ""
    tf32_latency_us: float | None = None

    def details(self) -> dict[str, Any]:
        """What becomes part of a measurement's details."""
        if not self.tf32_name:
            return {}
        return {"tf32_baseline": self.tf32_name, "tf32_baseline_us": self.tf32_latency_us}


def ceilings_of(limits: Mapping[str, int]) -> Ceilings:
    """What a GPU cannot exceed: its nominal peaks, from `DeviceInfo.limits`; without a known clock there are none."""
    clocks = limits["multiprocessors"] * limits["clock_mhz"] / 1e3
    if not clocks:
        return Ceilings(math.inf, math.inf)
    return Ceilings(
        gflops=2 * limits["fp32_lanes_per_sm"] * clocks,
        gigabytes_per_second=max(CACHE_BYTES_PER_CLOCK * clocks, float(limits["memory_gbps"])),
    )
