"""Worker processes that predict, and every prediction that they have made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wpk_envs.core import Candidate, DeviceInfo, Measurement, Operator
from wpk_envs.devices.failures import as_measurement
from wpk_envs.devices.host import memory_allowance
from wpk_envs.devices.messages import Start
from wpk_envs.devices.pool import WorkerPool
from wpk_envs.devices.predicted.server import Predict
from wpk_envs.devices.shared import Shared

SERVER = "wpk_envs.devices.predicted.server:PredictServer"
WORKER_MEMORY_GIB = 4.0
TRANSIENT_ERRORS = ("timeout", "crash")
"""A busy machine or a full memory can cause these: such a candidate is asked again."""

Settings = tuple[str, int, str]
"""Fingerprint of the GPU and the model, workers, predictor."""

OnKnown = Callable[[int, Measurement], None]


class Predictions(Shared):
    """What predicted devices of the same settings share.

    Attributes:
        baselines: The prediction of each operator's default schedule.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        _, workers, predictor = settings
        memory = memory_allowance(WORKER_MEMORY_GIB, workers)
        self._pool = WorkerPool([Start(SERVER, {"predictor": predictor, "memory_bytes": memory})] * workers)
        self._known: dict[str, Measurement] = {}
        self.baselines: dict[Operator, Measurement] = {}

    def predict(
        self,
        candidates: Sequence[Candidate],
        device: DeviceInfo,
        deadline: float,
        on_known: OnKnown = lambda position, prediction: None,
    ) -> list[Measurement]:
        """Predictions of candidates, in order; a candidate is asked about once, ever.

        Args:
            candidates: All for the same device.
            device: The GPU.
            deadline: Seconds for each.
            on_known: Called with (position, prediction) as soon as each is known.
        """
        keys = [candidate.key for candidate in candidates]
        places: dict[str, list[int]] = {}
        for position, key in enumerate(keys):
            places.setdefault(key, []).append(position)
        found: dict[str, Measurement] = {}

        def take(key: str, prediction: Measurement) -> None:
            found[key] = prediction
            if prediction.error not in TRANSIENT_ERRORS:
                self._known[key] = prediction
            for position in places[key]:
                on_known(position, prediction)

        missing = [key for key in places if key not in self._known]
        for key in [key for key in places if key in self._known]:
            take(key, self._known[key])
        if missing:
            requests = [Predict(candidates[places[key][0]], device) for key in missing]

            def hear(number: int, reply: Any) -> None:
                take(missing[number], as_measurement(reply, deadline))

            self._pool.run(requests, deadline, hear)
        return [found[key] for key in keys]

    def warm_up(self) -> None:
        """Start the workers."""
        self._pool.warm_up()

    def close(self) -> None:
        """End the workers."""
        self._pool.close()
