"""Numbers that the compiled machine and the code around it agree on.

Numbers of columns are tuples with names: numba takes them for indices, enumerations only in its latest versions.
"""

from __future__ import annotations

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


class _Memory(NamedTuple):
    """Columns of the table of windows.

    DATA and FLAGS are addresses on the host; FLAGS has one byte per byte of data, 255 once it was written,
    and is 0 for an array that was initialised whole. STRIDE is the distance between two threads' copies.
    """

    DATA: int = 0
    FLAGS: int = 1
    BYTES: int = 2
    STRIDE: int = 3
    SPACE: int = 4
    WRITABLE: int = 5


Memory = _Memory()


class _Geometry(NamedTuple):
    """Entries of the description of a launch.

    BYTES is the size of one group's registers; CTAID_X to CTAID_Z are offsets of rows in them, or -1.
    """

    GROUPS: int = 0
    LANES: int = 1
    THREADS: int = 2
    BYTES: int = 3
    GRID_X: int = 4
    GRID_Y: int = 5
    GRID_Z: int = 6
    CTAID_X: int = 7
    CTAID_Y: int = 8
    CTAID_Z: int = 9
    REVERSE: int = 10
    STEPS: int = 11


Geometry = _Geometry()


class _Fault(NamedTuple):
    """Why the machine stopped. It leaves: fault, place, thread, a detail, block."""

    NONE: int = 0
    OUTSIDE: int = 1
    MISALIGNED: int = 2
    READ_ONLY: int = 3
    UNWRITTEN: int = 4
    DIVISION: int = 5
    ENDLESS: int = 6
    PARTIAL: int = 7
    SCATTERED: int = 8
    CROWDED: int = 9


Fault = _Fault()


class _Kind(NamedTuple):
    """What the machine does with a micro-operation; ENTER is the start of a straight line of code to be counted."""

    COMPUTE: int = 0
    DIVIDE: int = 1
    LOAD: int = 2
    STORE: int = 3
    BRANCH: int = 4
    BARRIER: int = 5
    EXIT: int = 6
    ENTER: int = 7


Kind = _Kind()


class _Column(NamedTuple):
    """Columns of the code.

    D to E are rows: the result and the operands; of a load or store A is the address and D, B, C, E are the
    values. NUMBER is the place in `OPERATIONS` or in `CELLS`. OFFSET is added to an address. GUARD is a row or
    -1; WANTED is what it must be. WIDE is 1 where the result has 64 bits. COUNT is a number of cells.
    CLASS is an `isa.Class`; INSTRUCTION the place in the function. SLOT, only of a skeleton (see
    `wpk_envs.devices.ptx.skeleton`), is the number of a straight line or of an access to shared memory.
    """

    KIND: int = 0
    NUMBER: int = 1
    D: int = 2
    A: int = 3
    B: int = 4
    C: int = 5
    E: int = 6
    OFFSET: int = 7
    GUARD: int = 8
    WANTED: int = 9
    WIDE: int = 10
    COUNT: int = 11
    SPACE: int = 12
    TARGET: int = 13
    CLASS: int = 14
    INSTRUCTION: int = 15
    SLOT: int = 16


Column = _Column()


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
