"""Runs a kernel's skeleton and gives what it has counted.

All warps of a block run in lock step, each block whole: nothing is sampled or extrapolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from wpk_envs.devices.ptx.counts import BlockCounts, Cycles
from wpk_envs.devices.ptx.launch import WARP, Launch
from wpk_envs.devices.ptx.layout import SPACES, Memory
from wpk_envs.devices.ptx.memory import Argument, Buffer
from wpk_envs.devices.ptx.skeleton import Skeleton
from wpk_envs.devices.ptx.tally import (
    BANKS,
    CLASSES,
    FIRST_MEMORY,
    MEMORIES,
    SECTOR,
    SEGMENTS,
    SUMS,
    WIDTHS,
    WORD,
    Mark,
    Sum,
    Tally,
)
from wpk_envs.devices.ptx.vectors import WIDTH

_STAMPS = {"": (1, 0, 0), "global": (SECTOR, 1, 1), "shared": (WORD, 1, 0), "local": (WORD, 4, 0)}
"""By state space: bytes that have stamps of their own, and how many for loads and for stores (see `counting`)."""


def count(
    skeleton: Skeleton,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Argument],
    cycles: Cycles,
    blocks: Iterable[int] | None,
    max_steps: int,
    dynamic_shared: int,
) -> list[BlockCounts]:
    """Count blocks; see `wpk_envs.devices.ptx.program.Program.count`."""
    launch = Launch(skeleton.code, grid, block, "together", max_steps)
    launch.bind([_blank(argument) for argument in arguments], dynamic_shared)
    counter = _Counter(skeleton, launch, cycles, [isinstance(each, (np.ndarray, Buffer)) for each in arguments])
    return [counter.count(number) for number in launch.chosen(blocks)]


def _blank(argument: Argument) -> Argument:
    """An array as one whose values do not matter."""
    return Buffer(argument, initialised=True) if isinstance(argument, np.ndarray) else argument


class _Counter:
    """Counts blocks of one launch, one after the other."""

    def __init__(self, skeleton: Skeleton, launch: Launch, cycles: Cycles, is_array: Sequence[bool]) -> None:
        self.skeleton, self.launch = skeleton, launch
        self.warps = launch.lanes // WARP
        self.windows = np.cumsum(is_array, dtype=np.int64) * np.array(is_array, np.int64)
        self.tally = self._tally(cycles)

    def count(self, block: int) -> BlockCounts:
        """Count one block."""
        tally = self.tally
        tally.marks[[Mark.FIRST, Mark.KEPT]] = tally.marks[Mark.SERIAL] + 1, 0
        tally.sums[:] = tally.sectors[:] = tally.times[:] = 0
        self.launch.execute(tally, [block])
        kept = int(tally.marks[Mark.KEPT])
        return self._counts(block, tally.segments[:kept].copy(), tally.repeats[:kept].copy())

    def _counts(self, block: int, sums: np.ndarray, repeats: np.ndarray) -> BlockCounts:
        requests = np.zeros((len(sums), CLASSES, WIDTHS), np.int64)
        transactions = np.zeros((len(sums), CLASSES), np.int64)
        memories = slice(FIRST_MEMORY, FIRST_MEMORY + MEMORIES)
        requests[:, memories] = sums[:, Sum.REQUESTS :].reshape(-1, MEMORIES, WIDTHS)
        transactions[:, memories] = sums[:, Sum.TRANSACTIONS : Sum.REQUESTS]
        return BlockCounts(
            block=block,
            warps=self.warps,
            repeats=repeats,
            instructions=sums[:, :CLASSES],
            divergent=sums[:, Sum.DIVERGENT],
            requests=requests,
            transactions=transactions,
            critical_path=sums[:, Sum.PATH],
            issue_path=sums[:, Sum.ISSUE],
            loaded=self.tally.sectors[self.windows, 0],
            stored=self.tally.sectors[self.windows, 1],
        )

    def _tally(self, cycles: Cycles) -> Tally:
        """All tables, empty."""
        skeleton, lanes, slots = self.skeleton, self.launch.lanes, max(1, self.skeleton.slots)
        places, stamps = self._places()
        padded = -(-self.warps // WIDTH) * WIDTH
        times = np.zeros(skeleton.rows * 2 * padded, np.int64)
        addresses = times.ctypes.data + skeleton.times * 2 * padded * times.itemsize
        costs = cycles.table()
        return Tally(
            lines=skeleton.lines,
            mix=_mix(skeleton),
            flows=np.hstack([costs[skeleton.kinds], addresses]),
            times=times,
            active=np.zeros(padded, np.int32),
            sums=np.zeros(SUMS, np.int64),
            segments=np.empty((SEGMENTS, SUMS), np.int64),
            repeats=np.empty(SEGMENTS, np.int64),
            marks=np.array([0, 0, 0, 0, costs[:, 0].max()]),
            stamps=np.zeros(stamps, np.int64),
            places=places,
            sectors=np.zeros_like(places),
            patterns=np.zeros((slots, lanes), np.int64),
            lanes=np.zeros((slots, lanes), np.int32),
            transactions=np.zeros((slots, 2), np.int64),
            banks=np.zeros(BANKS, np.int64),
        )

    def _places(self) -> tuple[np.ndarray, int]:
        """Where the stamps of every window start, for loads and for stores, and how many there are."""
        sizes = []
        for size, space in self.launch.windows.table[:, [Memory.BYTES, Memory.SPACE]].tolist():
            unit, *stamps = _STAMPS[SPACES[space]]
            sizes.append([-(-size // unit) * count for count in stamps])
        ends = np.cumsum(sizes)
        return ends.reshape(-1, 2) - sizes, int(ends[-1])


def _mix(skeleton: Skeleton) -> np.ndarray:
    """Instructions by straight line and class."""
    mix = np.zeros((len(skeleton.lines) - 1, CLASSES), np.int64)
    line = np.repeat(np.arange(len(mix)), np.diff(skeleton.lines))
    np.add.at(mix, (line, skeleton.kinds), 1)
    return mix
