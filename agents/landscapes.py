"""What is recorded of operators, as arrays that agents learn from before they tune."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wpk_envs.core import Device, Operator
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.envs.observation import Observer
from wpk_envs.envs.tree import PrefixTree
from wpk_envs.errors import UserError, unknown
from wpk_envs.records.library import DEFAULT, shipped
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
        device: Plays it back.
        table: Checksum of the table.
    """

    name: str
    space: ScheduleSpace
    vectors: np.ndarray
    rewards: np.ndarray
    device: Device
    table: str = ""

    @property
    def operator(self) -> Operator:
        """What is computed."""
        return self.space.operator

    @functools.cached_property
    def tree(self) -> PrefixTree:
        """Every prefix of the configs, whose numbers are those of `vectors`."""
        return PrefixTree(self.space, Observer(self.space))


def landscapes(tables: str | Path = DEFAULT) -> tuple[Landscape, ...]:
    """Everything that a folder of tables has, read once per process.

    Args:
        tables: A name of `wpk_envs.records.library.shipped`, or the path of a folder of Parquet tables.

    Raises:
        UserError: If there are no such tables, or one is damaged or of another version.
    """
    return _landscapes(str(tables) if str(tables) in shipped() else str(Path(tables).expanduser().resolve()))


@functools.lru_cache(maxsize=4)
def _landscapes(tables: str) -> tuple[Landscape, ...]:
    device = RecordedDevice(tables)
    return tuple(_landscape(device, name, operator) for name, operator in device.operators.items())


def _landscape(device: RecordedDevice, name: str, operator: Operator) -> Landscape:
    space = build_space(operator, device.info, among=device.configs(operator))
    vectors = list(space)
    answers = device.measure([space.candidate(vector) for vector in vectors])
    rewards = np.array([answer.reward for answer in answers])
    table = str(device.datasheet(operator)["sha256"])
    return Landscape(name, space, np.array(vectors, dtype=np.uint8), rewards, device, table)


def families(known: Mapping[str, Operator]) -> list[str]:
    """The families of operators, each once."""
    return list(dict.fromkeys(operator.family for operator in known.values()))


def remaining(known: Mapping[str, Operator], exclude: Sequence[str]) -> list[str]:
    """Names of the operators that may be learnt from.

    Args:
        known: All that are recorded, by name.
        exclude: Names of operators, or of families as ``family/NAME``, to leave out.

    Raises:
        UserError: If a name is unknown, or nothing is left.
    """
    allowed = [*known, *(FAMILY + family for family in families(known))]
    for name in exclude:
        if name not in allowed:
            raise unknown("operator or family to exclude", name, allowed)
    kept = [name for name, each in known.items() if name not in exclude and FAMILY + each.family not in exclude]
    if not kept:
        raise UserError("no recorded operator is left to learn from; exclude fewer, or give other tables")
    return kept
