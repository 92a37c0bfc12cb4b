"""Where the arrays of one launch are: a window of addresses each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wpk_envs.devices.ptx.layout import SPACES, START, WINDOW, Memory
from wpk_envs.devices.ptx.memory import Buffer
from wpk_envs.devices.ptx.syntax import Variable

WIDEST = 16
"""Bytes of the widest access."""

NAN_BYTE = 255
"""A float32 of such bytes is NaN."""

WRITTEN = 255
"""Flag of a byte that holds a value."""


class Windows:
    """The table of windows, filled one after the other; the first is never used, so that 0 is no address.

    Attributes:
        names: What errors call each array, and its bytes.
        flags: Flags of the variables' memory.
        fresh: Those flags when a block starts: nothing is written but the bytes that fill a variable up to its
            alignment, which compilers read as part of a wider vector and then ignore.
    """

    def __init__(self) -> None:
        self.names: list[tuple[str, int]] = [("", 0)]
        self.flags = self.fresh = np.zeros(0, np.uint8)
        self._table: list[tuple[int, ...]] = [(0,) * len(Memory)]
        self._kept: list[object] = []

    @property
    def table(self) -> np.ndarray:
        """One row per window, one column per `Memory`."""
        return np.array(self._table, np.int64)

    def add_buffer(self, name: str, buffer: Buffer) -> int:
        """Give a buffer a window; gives its address."""
        self._kept.append(buffer)
        array, flags = buffer.array, 0 if buffer.flags is None else buffer.flags.ctypes.data
        return self._add(name, array.ctypes.data, flags, array.nbytes, 0, "global", array.flags.writeable)

    def add_variables(self, variables: Sequence[Variable], dynamic_shared: int, lanes: int) -> list[int]:
        """Give variables windows: shared arrays, one per block, and local ones, one per lane; gives their addresses."""
        sizes = [dynamic_shared if each.bytes is None else each.bytes for each in variables]
        strides = [-(-size // WIDEST) * WIDEST for size in sizes]
        copies = [lanes if each.space == "local" else 1 for each in variables]
        ends = np.cumsum([0] + [stride * count for stride, count in zip(strides, copies)])
        storage, self.fresh = np.full(ends[-1], NAN_BYTE, np.uint8), np.zeros(ends[-1], np.uint8)
        self.flags = self.fresh.copy()
        self._kept.append(storage)
        addresses = []
        for each, size, stride, count, start in zip(variables, sizes, strides, copies, ends.tolist()):
            places = (storage.ctypes.data + start, self.flags.ctypes.data + start)
            name, unit = f"{each.space} array {each.name}", 1 if each.bytes is None else min(each.align, WIDEST)
            filled = -(-size // unit) * unit
            self.fresh[start : start + stride * count].reshape(count, stride)[:, size:filled] = WRITTEN
            addresses.append(self._add(name, *places, filled, stride if count > 1 else 0, each.space, True))
        return addresses

    def _add(self, name: str, data: int, flags: int, size: int, stride: int, space: str, writable: bool) -> int:
        window = len(self._table)
        self._table.append((data, flags, size, stride, SPACES.index(space), int(writable)))
        self.names.append((name, size))
        return (window << WINDOW) + START
