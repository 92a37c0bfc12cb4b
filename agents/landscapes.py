"""What is recorded of operators, as arrays that agents learn from before they tune."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wpk_envs.core import Operator
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.errors import UserError, unknown
from wpk_envs.records.library import DEFAULT
from wpk_envs.schedules import build_space
from wpk_envs.schedules.space import ScheduleSpace

FAMILY = "family/"
"""What an exclusion of a whole family begins with: ``family/conv3x3``."""


@dataclass(frozen=True)
class Landscape:
    """All recorded configs of one operator.

    Attributes:
        name: The name it was recorded under.
        space: Its recorded space.
        vectors: The configs in lexicographic order, ``uint8[configs, knobs]``.
        rewards: What they are worth, ``float64[configs]``.
        table: Checksum of the table.
    """

    name: str
    space: ScheduleSpace
    vectors: np.ndarray
    rewards: np.ndarray
    table: str

    @property
    def operator(self) -> Operator:
        """What is computed."""
        return self.space.operator


@functools.lru_cache(maxsize=4)
def landscapes(tables: str | Path = DEFAULT) -> tuple[Landscape, ...]:
    """Everything that a folder of tables has, read once per process.

    Args:
        tables: A name of `wpk_envs.records.library.shipped`, or the path of a folder of Parquet tables.

    Raises:
        UserError: If there are no such tables, or one is damaged or of another version.
    """
    with RecordedDevice(tables) as device:
        return tuple(_landscape(device, name, operator) for name, operator in device.operators.items())


def _landscape(device: RecordedDevice, name: str, operator: Operator) -> Landscape:
    space = build_space(operator, device.info, among=device.configs(operator))
    vectors = list(space)
    answers = device.measure([space.candidate(vector) for vector in vectors])
    rewards = np.array([answer.reward for answer in answers])
    return Landscape(name, space, np.array(vectors, dtype=np.uint8), rewards, device.datasheet(operator)["sha256"])


def families(among: Sequence[Landscape]) -> list[str]:
    """The families of operators, each once."""
    return list(dict.fromkeys(each.operator.family for each in among))


def without(among: Sequence[Landscape], exclude: Sequence[str], operator: Operator | None = None) -> list[Landscape]:
    """Those that may be learnt from.

    Args:
        among: All there are.
        exclude: Names of operators, or of families as ``family/NAME``, to leave out.
        operator: One more to leave out, whatever its name.

    Raises:
        UserError: If a name is unknown, or nothing is left.
    """
    allowed = [*(each.name for each in among), *(FAMILY + family for family in families(among))]
    for name in exclude:
        if name not in allowed:
            raise unknown("operator or family to exclude", name, allowed)
    kept = [
        each
        for each in among
        if each.name not in exclude and FAMILY + each.operator.family not in exclude and each.operator != operator
    ]
    if not kept:
        raise UserError("nothing is left to learn from; exclude fewer operators, or give other tables")
    return kept
