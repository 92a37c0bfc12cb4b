"""What the machine stopped at, as a sentence."""

from __future__ import annotations

import numpy as np

from wpk_envs.devices.ptx.decode import Code, Column, Kind
from wpk_envs.devices.ptx.layout import CELL_BYTES, START, WINDOW, Fault, Geometry
from wpk_envs.devices.ptx.problems import PtxError


class Reporter:
    """Knows the names of everything in one launch."""

    def __init__(self, code: Code, geometry: np.ndarray, block: tuple[int, int, int], arrays: list[tuple[str, int]]):
        """Remember a launch.

        Args:
            code: The kernel.
            geometry: One entry per `Geometry`.
            block: Threads of a block along x, y and z.
            arrays: Name and bytes of every window, the first of which is empty.
        """
        self.code, self.geometry, self.block, self.arrays = code, geometry, block, arrays

    def error(self, fault: np.ndarray) -> PtxError:
        """The error for what the machine has left."""
        kind, place, thread, detail, block = (int(value) for value in fault[:5])
        what = self._what(Fault(kind), place, thread, detail)
        return PtxError(f"{self._line(place)}: thread {self._coordinates(thread)} of block {self._block(block)} {what}")

    def _line(self, place: int) -> str:
        function = self.code.function
        number = int(self.code.code[place, Column.INSTRUCTION])
        instruction = function.instructions[number]
        text = " ".join(instruction.text.split())
        return f"line {instruction.line} of kernel {function.name}, '{text}'"

    def _coordinates(self, thread: int) -> str:
        x, y, _ = self.block
        return f"({thread % x}, {thread // x % y}, {thread // (x * y)})"

    def _block(self, block: int) -> str:
        x, y = int(self.geometry[Geometry.GRID_X]), int(self.geometry[Geometry.GRID_Y])
        return f"({block % x}, {block // x % y}, {block // (x * y)})"

    def _what(self, fault: Fault, place: int, thread: int, detail: int) -> str:
        if fault in (Fault.OUTSIDE, Fault.MISALIGNED, Fault.READ_ONLY, Fault.UNWRITTEN):
            return self._access(fault, place, detail)
        if fault == Fault.DIVISION:
            return "divides by zero"
        if fault == Fault.ENDLESS:
            return f"has not ended after {self.geometry[Geometry.STEPS]} instructions"
        if fault == Fault.PARTIAL:
            return f"has ended while {detail} threads wait at this barrier"
        return f"waits elsewhere ({self._line(detail)}) while others wait at this barrier"

    def _access(self, fault: Fault, place: int, address: int) -> str:
        row = self.code.code[place]
        size = CELL_BYTES[row[Column.NUMBER]] * int(row[Column.COUNT])
        verb = "writes" if row[Column.KIND] == Kind.STORE else "reads"
        start = f"{verb} {size} bytes {self._whereabouts(address, size)}"
        return (
            start
            + {
                Fault.OUTSIDE: ", which is not allowed",
                Fault.MISALIGNED: f", which is no multiple of {size}",
                Fault.READ_ONLY: ", which is an input",
                Fault.UNWRITTEN: ", which nothing has written",
            }[fault]
        )

    def _whereabouts(self, address: int, size: int) -> str:
        window, offset = address >> WINDOW, (address & ((1 << WINDOW) - 1)) - START
        if not 0 < window < len(self.arrays):
            return f"at address {address:#x}, where no array is"
        name, length = self.arrays[window]
        if offset < 0:
            return f"{-offset} bytes before the start of {name}"
        if offset + size > length:
            return f"at byte {offset} of {name}, which has {length} bytes"
        return f"at byte {offset} of {name}"
