"""What the machine stopped at, as a sentence."""

from __future__ import annotations

import numpy as np

from wpk_envs.devices.ptx.layout import CELL_BYTES, START, WINDOW, Column, Fault, Kind
from wpk_envs.devices.ptx.problems import PtxError
from wpk_envs.devices.ptx.rows import Code

Extent = tuple[int, int, int]


class Reporter:
    """Knows the names of everything in one launch."""

    def __init__(self, code: Code, grid: Extent, block: Extent, arrays: list[tuple[str, int]]) -> None:
        """Remember a launch.

        Args:
            code: The kernel.
            grid: Blocks along x, y and z.
            block: Threads of a block along x, y and z.
            arrays: Name and bytes of every window, the first of which is empty.
        """
        self.code, self.grid, self.block, self.arrays = code, grid, block, arrays

    def error(self, fault: np.ndarray) -> PtxError:
        """The error for what the machine has left."""
        kind, place, thread, detail, block = (int(value) for value in fault)
        who = f"thread {_coordinates(thread, self.block)} of block {_coordinates(block, self.grid)}"
        return PtxError(f"{self._line(place)}: {who} {self._what(kind, place, detail)}")

    def _line(self, place: int) -> str:
        function = self.code.function
        instruction = function.instructions[int(self.code.code[place, Column.INSTRUCTION])]
        return f"line {instruction.line} of kernel {function.name}, '{' '.join(instruction.text.split())}'"

    def _what(self, fault: int, place: int, detail: int) -> str:
        if fault in (Fault.OUTSIDE, Fault.MISALIGNED, Fault.READ_ONLY, Fault.UNWRITTEN):
            return self._access(fault, place, detail)
        if fault == Fault.DIVISION:
            return "divides by zero"
        if fault == Fault.ENDLESS:
            return f"has not ended after {detail} instructions"
        if fault == Fault.CROWDED:
            return f"is in a block with more than {detail} different segments between barriers, which are not counted"
        if fault == Fault.PARTIAL:
            return f"has ended while {detail} threads wait at this barrier"
        return f"waits elsewhere ({self._line(detail)}) while others wait at this barrier"

    def _access(self, fault: int, place: int, address: int) -> str:
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


def _coordinates(number: int, sizes: Extent) -> str:
    x, y, _ = sizes
    return f"({number % x}, {number // x % y}, {number // (x * y)})"
