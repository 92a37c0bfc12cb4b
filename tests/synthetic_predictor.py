"""A stand-in for the model of predicted devices, which needs no compiler. Its numbers are made up."""

from __future__ import annotations

import os
import time
from typing import ClassVar

from tests.synthetic import fraction
from wpk_envs.core import Candidate, DeviceInfo, Measurement
from wpk_envs.schedules.cuda.gemm import GemmTemplate

SETTINGS = {"predictor": f"{__name__}:predict", "version": "synthetic 1"}
"""What makes a `PredictedDevice` use it."""

prepared = False


def prepare() -> None:
    """Note that a worker was made ready."""
    global prepared
    prepared = True


def predict(candidate: Candidate, device: DeviceInfo) -> Measurement:
    """A made-up time that depends on config and device alone; a third of the configs are of low confidence."""
    name = candidate.template.name
    if name == Hanging.name:
        time.sleep(60)
    if name == Dying.name:
        os.abort()
    if name == Raising.name:
        raise LookupError("a defect of the predictor")
    if name == Measuring.name:
        return Measurement(samples_us=(1.0,))
    if name == Refused.name:
        return Measurement(error="compile", message="ptxas does not like it", build_seconds=0.25)
    config = sorted(candidate.config.items())
    latency = 10 + 90 * fraction("latency", candidate.operator.key, config, device.limits["clock_mhz"])
    low = fraction("confidence", config) < 1 / 3
    return Measurement(
        predicted_latency_us=latency,
        confidence="low: low occupancy" if low else "high",
        layouts={"output": "NCHW"},
        build_seconds=0.5,
        measure_seconds=0.25,
        details={"registers": 40, "roofline_us": 8.0, "prepared": prepared, "pid": os.getpid()},
    )


def refuse(candidate: Candidate, device: DeviceInfo) -> Measurement:
    """Nothing can be compiled."""
    return Measurement(error="compile", message="ptxas likes nothing")


class Refused(GemmTemplate):
    name: ClassVar[str] = "synthetic/refused"


class Hanging(GemmTemplate):
    name: ClassVar[str] = "synthetic/hanging"


class Dying(GemmTemplate):
    name: ClassVar[str] = "synthetic/dying"


class Raising(GemmTemplate):
    name: ClassVar[str] = "synthetic/raising"


class Measuring(GemmTemplate):
    name: ClassVar[str] = "synthetic/measuring"
