"""What is counted while a kernel's skeleton runs: the tables that the compiled loop fills.

A kernel's *segments* are what lies between its barriers. Everything is summed over the segment at hand, and kept
when it ends: a segment that has the same sums as an earlier one only makes that one's multiplicity larger.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wpk_envs.devices.ptx.isa import Class

CLASSES = len(Class)

FIRST_MEMORY = int(Class.LOAD_GLOBAL)
"""The first class that accesses memory."""

MEMORIES = int(Class.STORE_LOCAL) + 1 - FIRST_MEMORY
"""Number of those classes; they are contiguous."""

WIDTHS = 3
"""A thread accesses up to 4, 8 or 16 bytes at once."""

SECTOR = 32
"""Bytes that are moved between global or local memory and a multiprocessor at the least."""

BANKS = 32
"""Banks of shared memory; each serves one word at a time."""

WORD = 4
"""Bytes of such a word."""


class _Sum(NamedTuple):
    """Columns of the sums over a segment.

    INSTRUCTIONS is the first of one per class, TRANSACTIONS of one per class that accesses memory, REQUESTS of
    `WIDTHS` per such class. DIVERGENT are branches that only some of a warp's threads take. PATH and ISSUE are the
    cycles of `wpk_envs.devices.ptx.counts.BlockCounts`.
    """

    INSTRUCTIONS: int = 0
    DIVERGENT: int = CLASSES
    PATH: int = CLASSES + 1
    ISSUE: int = CLASSES + 2
    TRANSACTIONS: int = CLASSES + 3
    REQUESTS: int = CLASSES + 3 + MEMORIES


Sum = _Sum()

SUMS = Sum.REQUESTS + MEMORIES * WIDTHS
"""Number of columns."""

SEGMENTS = 4096
"""Different segments of one block that there is room for."""


class _Mark(NamedTuple):
    """Numbers that change as the machine runs.

    SERIAL is the number of the request at hand, FIRST that of the block's first one; KEPT is the number of different
    segments, WARPS of warps that run, LONGEST the longest latency.
    """

    SERIAL: int = 0
    FIRST: int = 1
    KEPT: int = 2
    WARPS: int = 3
    LONGEST: int = 4


Mark = _Mark()

TARGETS, SOURCES = 4, 7
"""Registers that one instruction may set, and more than it may read, so that ORIGIN is always among them."""

ORIGIN, UNREAD, END, FIRST_TIME = 0, 1, 2, 3
"""Rows of the table of times: the segment's start, what is never read, the segment's end, and the first register.

Every row has two halves of one number per warp: the cycle from which a register may be read if instructions wait for
nothing but their operands, and if they also issue in order. The halves of END are when the last result is
there, and when the next instruction may issue. Times before the segment's start count as that.
"""


class Tally(NamedTuple):
    """Everything that is read and written only to count.

    Attributes:
        lines: First instruction of every straight line, and of what follows the last.
        mix: Instructions by straight line and class.
        flows: By instruction: latency, cycles until the next may issue, and the addresses in ``times`` of what it
            sets and reads.
        times: The table of times.
        active: One word per warp, not 0 if one of its threads runs; as many as a half row of ``times``.
        sums: Of the segment at hand, see `Sum`.
        segments: Sums of the segments before it.
        repeats: How often each occurred.
        marks: See `Mark`.
        stamps: By sector of every array that is read, of every array that is written, or by word: the last request
            that accessed it.
        places: Where in ``stamps`` a window starts for loads and for stores.
        sectors: Different sectors of every window that a block has loaded, and stored.
        patterns: Addresses of all lanes at every access to shared memory, when it was last counted.
        lanes: Which of them took part.
        transactions: What it needed: transactions and requests.
        banks: Words that a request needs of every bank.
    """

    lines: np.ndarray
    mix: np.ndarray
    flows: np.ndarray
    times: np.ndarray
    active: np.ndarray
    sums: np.ndarray
    segments: np.ndarray
    repeats: np.ndarray
    marks: np.ndarray
    stamps: np.ndarray
    places: np.ndarray
    sectors: np.ndarray
    patterns: np.ndarray
    lanes: np.ndarray
    transactions: np.ndarray
    banks: np.ndarray
