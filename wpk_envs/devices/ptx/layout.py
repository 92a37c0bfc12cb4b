"""Numbers that the compiled machine and the code around it agree on."""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np

WINDOW = 40
"""Every array has its own window of 2**40 bytes of addresses."""

START = 1 << 39
"""An array starts in the middle of its window: what lies before and after it is never mapped."""

CELLS = ("u8", "s8", "u16", "s16", "b32", "b64")
"""Kinds of memory cells by number: the width in bits, and how a narrow one fills its register."""

CELL_BYTES = (1, 1, 2, 2, 4, 8)
"""Bytes of every kind of memory cell."""


class Memory(enum.IntEnum):
    """Columns of the table of windows.

    DATA and FLAGS are addresses on the host; FLAGS has one byte per byte of data, 255 once it was written,
    and is 0 for an array that was initialised whole. STRIDE is the distance between two threads' copies.
    """

    DATA = 0
    FLAGS = 1
    BYTES = 2
    STRIDE = 3
    SPACE = 4
    WRITABLE = 5


class Geometry(enum.IntEnum):
    """Entries of the description of a launch.

    BYTES is the size of one group's registers; CTAID_X to CTAID_Z are offsets of rows in them, or -1.
    """

    GROUPS = 0
    LANES = 1
    THREADS = 2
    BYTES = 3
    GRID_X = 4
    GRID_Y = 5
    GRID_Z = 6
    CTAID_X = 7
    CTAID_Y = 8
    CTAID_Z = 9
    REVERSE = 10
    STEPS = 11


class Fault(enum.IntEnum):
    """Why the machine stopped. It leaves: fault, place, thread, a detail, block."""

    NONE = 0
    OUTSIDE = 1
    MISALIGNED = 2
    READ_ONLY = 3
    UNWRITTEN = 4
    DIVISION = 5
    ENDLESS = 6
    PARTIAL = 7
    SCATTERED = 8


class Kind(enum.IntEnum):
    """What the machine does with a micro-operation."""

    COMPUTE = 0
    DIVIDE = 1
    LOAD = 2
    STORE = 3
    BRANCH = 4
    BARRIER = 5
    EXIT = 6


class Column(enum.IntEnum):
    """Columns of the code.

    D to E are rows: the result and the operands; of a load or store A is the address and D, B, C, E are the
    values. NUMBER is the place in `OPERATIONS` or in `CELLS`. OFFSET is added to an address. GUARD is a row or
    -1; WANTED is what it must be. WIDE is 1 where the result has 64 bits. COUNT is a number of cells.
    CLASS is an `isa.Class`; INSTRUCTION the place in the function.
    """

    KIND = 0
    NUMBER = 1
    D = 2
    A = 3
    B = 4
    C = 5
    E = 6
    OFFSET = 7
    GUARD = 8
    WANTED = 9
    WIDE = 10
    COUNT = 11
    SPACE = 12
    TARGET = 13
    CLASS = 14
    INSTRUCTION = 15


SPACES = ("", "global", "shared", "local")
"""State spaces by number; the first is a generic address."""

SPECIALS = tuple(f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz")
"""Special registers that have a row, if the function reads them."""

WIDE_ROW = 1 << 24
"""Added to the number of a row of the 64-bit file."""

ACTIVE, CHOSEN, SINGLE = 0, 1, 2
"""Masks: threads at the place that runs, those of them whose guard holds, and one alone."""


class State(NamedTuple):
    """Everything that the machine reads and writes.

    Attributes:
        code: Micro-operations, one column per `Column`; rows are offsets in bytes in a group's registers.
        geometry: One entry per `Geometry`.
        longs: Registers, group after group, as int64.
        words: The same memory as int32.
        places: Place of every thread.
        states: State of every thread.
        masks: One row per mask.
        scratch: A row of its own.
        memory: One row per window, one column per `Memory`.
        flags: Flags of the variables' memory.
        fresh: What they are when a block starts.
        fault: What stopped the machine, see `Fault`.
    """

    code: np.ndarray
    geometry: np.ndarray
    longs: np.ndarray
    words: np.ndarray
    places: np.ndarray
    states: np.ndarray
    masks: np.ndarray
    scratch: np.ndarray
    memory: np.ndarray
    flags: np.ndarray
    fresh: np.ndarray
    fault: np.ndarray
