"""What blocks of a kernel do, counted exactly: the input of a model of a GPU's time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wpk_envs.devices.ptx.isa import Class


@dataclass(frozen=True)
class Cycles:
    """What an instruction costs a warp, by class; classes left out cost nothing and take one cycle to issue.

    Attributes:
        latency: Cycles until its result may be used.
        issue: Cycles until the warp's next instruction may issue.
    """

    latency: Mapping[Class, int]
    issue: Mapping[Class, int]

    def table(self) -> np.ndarray:
        """Both numbers by class; shape (classes, 2)."""
        return np.array([(self.latency.get(kind, 0), self.issue.get(kind, 1)) for kind in Class], np.int64)


@dataclass(frozen=True)
class BlockCounts:
    """What one block does. Arrays have one entry for every different segment.

    A segment is what all of a block's warps do between two barriers; those that are the same in every number are one
    entry. An instruction counts once for every warp of which it finds a thread active, a request once for
    every warp of which a thread accesses memory. The last axis of ``requests`` is the width of the access: up
    to 4, 8 or 16 bytes per thread.

    The critical path of a segment starts when all that was computed before is there, and takes every instruction
    for as long as its latency once its operands are there; that of the slowest warp counts. The issue path is that
    of a warp that is alone on its scheduler: instructions issue in order, and wait for their operands.

    Attributes:
        block: Linear number of the block.
        warps: Its warps.
        repeats: How often every segment occurs.
        instructions: Warp instructions by `isa.Class`; shape (segments, classes).
        divergent: Branches that some threads of a warp take and some do not.
        requests: Loads and stores of a warp by class and width; shape (segments, classes, 3).
        transactions: What they need by class: sectors of 32 bytes of global and of local memory, passes of shared
            memory (1 without bank conflicts, 2 or 4 at the least for 8 or 16 bytes per thread).
        critical_path: Cycles from the segment's start to its last result.
        issue_path: Cycles from the segment's start until the next instruction may issue.
        loaded: Different sectors that the block loads, by argument; 0 for numbers.
        stored: Different sectors that it stores, by argument.
    """

    block: int
    warps: int
    repeats: np.ndarray
    instructions: np.ndarray
    divergent: np.ndarray
    requests: np.ndarray
    transactions: np.ndarray
    critical_path: np.ndarray
    issue_path: np.ndarray
    loaded: np.ndarray
    stored: np.ndarray

    def total(self, counts: np.ndarray) -> np.ndarray:
        """Sum one of the arrays over all segments."""
        return np.tensordot(self.repeats, counts, 1)
