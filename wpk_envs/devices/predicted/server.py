"""What answers in a predicted device's worker processes: builds candidates and predicts their latency."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from wpk_envs.core import Candidate, DeviceInfo, Measurement
from wpk_envs.devices.cpu_server import limit_memory
from wpk_envs.devices.worker import load


@dataclass(frozen=True)
class Predict:
    """Asks for a candidate's prediction.

    Attributes:
        candidate: What to build and predict.
        device: The GPU that is not here.
    """

    candidate: Candidate
    device: DeviceInfo


class PredictServer:
    """Predicts in this process.

    Args:
        predictor: The function that does it, as ``module:function``: called with a candidate and a `DeviceInfo`, it
            gives a `Measurement` that is a prediction or a typed error. If its module has a function ``prepare``,
            that is called once, before the first candidate.
        memory_bytes: Memory that this process may use on top of what it needs to start.
    """

    info = "a predictor"

    def __init__(self, predictor: str, memory_bytes: int) -> None:
        self._predict: Any = load(predictor)
        prepare = getattr(importlib.import_module(predictor.partition(":")[0]), "prepare", None)
        if prepare is not None:
            prepare()
        limit_memory(memory_bytes)

    def serve(self, request: Predict) -> Measurement:
        """The prediction of one candidate."""
        measurement: Measurement = self._predict(request.candidate, request.device)
        if measurement.samples_us:
            raise TypeError("a predictor cannot measure")
        return measurement
