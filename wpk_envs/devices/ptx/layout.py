"""Numbers that the compiled machine and the code around it agree on."""

from __future__ import annotations

import enum

WINDOW = 40
"""Every array has its own window of 2**40 bytes of addresses."""

START = 1 << 39
"""An array starts in the middle of its window: what lies before and after it is never mapped."""

CELL_BYTES = (1, 1, 2, 2, 4, 8)
"""Bytes of every kind of memory cell, in the order of `lanes.CELLS`."""


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
