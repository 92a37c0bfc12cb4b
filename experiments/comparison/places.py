"""Where runs take place: a device that measures, or one that replays recorded tables."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from wpk_envs import devices, operators, schedules
from wpk_envs.core import Device, Operator
from wpk_envs.errors import UserError, unknown
from wpk_envs.records import Store
from wpk_envs.schedules.space import ScheduleSpace
from wpk_envs.tuning import Budget, TuningProblem

REPLAYING = ("recorded",)
"""Names of the devices that replay tables."""


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
        UserError: If an operator is unknown, or not among the recorded ones.
    """

    def __init__(
        self, device: Device, names: Sequence[str] | None, store: Store | None = None, reuse: bool = False
    ) -> None:
        self.device = device
        self.operators = _chosen(device, names)
        self._store, self._reuse = store, reuse
        self._spaces: dict[str, ScheduleSpace] = {}

    def space(self, name: str) -> ScheduleSpace:
        """The space of an operator; on a device that replays, of the recorded configs."""
        if name not in self._spaces:
            self._spaces[name] = space_on(self.device, self.operators[name])
        return self._spaces[name]

    def problem(self, name: str, budget: Budget) -> TuningProblem:
        """A new problem, nothing known of it."""
        space = self.space(name)
        return TuningProblem(space.operator, self.device, space, self._store, budget, self._reuse)

    def best_known(self, name: str) -> float | None:
        """The gain of the best recorded config of an operator; none on a device that measures."""
        return self.device.best(self.operators[name]).gain if replays(self.device) else None  # type: ignore[attr-defined]


def replays(device: Device) -> bool:
    """Whether a device answers from recorded tables."""
    return bool(getattr(device, "replays", False))


def space_on(device: Device, operator: Operator) -> ScheduleSpace:
    """The space that runs on a device search."""
    if not replays(device):
        return schedules.build_space(operator, device.info)
    return schedules.build_space(operator, device.info, among=device.configs(operator))  # type: ignore


def _chosen(device: Device, names: Sequence[str] | None) -> dict[str, Operator]:
    if not replays(device):
        return {name: operators.get(name) for name in names or ()}
    recorded: dict[str, Operator] = device.operators  # type: ignore[attr-defined]
    for name in names or ():
        if name not in recorded:
            raise unknown("recorded operator", name, recorded)
    if not recorded:
        raise UserError("no operator is recorded; record some with python -m experiments.record")
    return {name: recorded[name] for name in (recorded if names is None else names)}


@functools.lru_cache(maxsize=1)
def replaying_place(settings: str, names: tuple[str, ...]) -> Place:
    """The place of this process, for workers: opened once, its spaces kept.

    Args:
        settings: What `wpk_envs.devices.open_device` is called with, as JSON.
        names: The operators.
    """
    given: dict[str, Any] = json.loads(settings)
    return Place(devices.open_device(**given), names)
