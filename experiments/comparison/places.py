"""Where runs take place: a device that measures, or one that replays recorded tables."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from experiments.finals import FINAL_REPEATS
from wpk_envs import devices, operators, schedules
from wpk_envs.core import Device, Measurement, Operator
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.errors import UserError, unknown
from wpk_envs.records import Store
from wpk_envs.schedules.space import Prefix, ScheduleSpace
from wpk_envs.tuning import Budget, Trial, TuningProblem

RECORDED = "recorded"
"""Name of the device that replays tables."""


class Place:
    """A device with its operators, and their spaces, built once.

    Args:
        device: Where; the caller closes it.
        names: The operators that are wanted; none for every recorded one.
        store: The records of a device that measures.
        reuse: Whether they may answer trials.

    Attributes:
        operators: The operators by name.

    Raises:
        UserError: If an operator is unknown or not among the recorded ones, or the device predicts.
    """

    def __init__(
        self, device: Device, names: Sequence[str] | None, store: Store | None = None, reuse: bool = False
    ) -> None:
        if device.predicts:
            raise UserError(f"{device.info.name} is predicted, and agents are compared by what was measured")
        self.device = device
        self.operators = _chosen(device, names)
        self._store, self._reuse = store, reuse
        self._spaces: dict[str, ScheduleSpace] = {}

    def space(self, name: str) -> ScheduleSpace:
        """What agents search; where tables are replayed, what they have."""
        if name not in self._spaces:
            operator, device = self.operators[name], self.device
            self._spaces[name] = schedules.build_space(operator, device.info, among=device.configs(operator))
        return self._spaces[name]

    def problem(self, name: str, budget: Budget, seed: int) -> TuningProblem:
        """A new problem, nothing known of it; replayed noise, if there is any, is that of the seed."""
        space, device = self.space(name), self.device
        if isinstance(device, RecordedDevice):
            device = device.reseeded(seed)
        return TuningProblem(space.operator, device, space, self._store, budget, self._reuse)

    def gain(self, name: str, trial: Trial) -> float:
        """What a run's best trial is worth: its gain, on a device that replays the recorded one, without noise."""
        measurement = trial.measurement
        if isinstance(self.device, RecordedDevice):
            measurement = self.device.recorded(self.space(name).candidate(trial.vector))
        return measurement.gain or 0.0

    def best_known(self, name: str) -> float | None:
        """The gain of the best recorded config of an operator; none on a device that measures."""
        return self.device.best(self.operators[name]).gain if isinstance(self.device, RecordedDevice) else None

    def answers(self, name: str, vectors: Sequence[Prefix]) -> dict[Prefix, Measurement]:
        """Final measurements of valid configs of an operator: as recorded, without noise, or measured now."""
        space = self.space(name)
        candidates = [space.candidate(vector) for vector in vectors]
        if isinstance(self.device, RecordedDevice):
            return dict(zip(vectors, map(self.device.recorded, candidates)))
        return dict(zip(vectors, self.device.measure(candidates, repeats=FINAL_REPEATS)))

    def table(self, name: str) -> str:
        """Checksum of the table that has an operator; empty on a device that measures."""
        device = self.device
        return str(device.datasheet(self.operators[name])["sha256"]) if isinstance(device, RecordedDevice) else ""


def _chosen(device: Device, names: Sequence[str] | None) -> dict[str, Operator]:
    if not isinstance(device, RecordedDevice):
        return {name: operators.get(name) for name in names or ()}
    for name in names or ():
        if name not in device.operators:
            raise unknown("recorded operator", name, device.operators)
    return {name: device.operators[name] for name in (device.operators if names is None else names)}


@functools.lru_cache(maxsize=1)
def recorded_place(settings: str, names: tuple[str, ...]) -> Place:
    """The place of this process, for workers: opened once, its tables and spaces kept.

    Args:
        settings: What `wpk_envs.devices.open_device` is called with, as JSON.
        names: The operators.
    """
    given: dict[str, Any] = json.loads(settings)
    return Place(devices.open_device(**given), names)
