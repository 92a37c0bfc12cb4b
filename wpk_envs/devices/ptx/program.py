"""A kernel that is decoded once and run many times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from wpk_envs.devices.ptx.layout import START, WINDOW, Geometry, Memory
from wpk_envs.devices.ptx.memory import Argument, Buffer
from wpk_envs.devices.ptx.parse import Function, Variable
from wpk_envs.devices.ptx.problems import PtxError

Warps = Literal["forward", "reverse", "together"]
"""How the threads of a block take turns.

``"forward"`` and ``"reverse"``: warp after warp, each up to the next barrier, so that a missing barrier gives
a wrong result in at least one of the two. ``"together"``: all threads in lock step, the fastest.
"""

MAX_STEPS = 20_000_000
"""Instructions that one warp may run before it counts as endless: about a tenth of a second."""

MAX_THREADS = 1024
"""Largest block of every NVIDIA GPU since Fermi."""

WARP = 32

Extent = Sequence[int]
"""Sizes along x, y and z; those left out are 1."""


class Program:
    """One kernel, ready to run.

    Attributes:
        function: The parsed kernel.
        code: Its micro-operations.
    """

    def __init__(self, function: Function) -> None:
        """Decode a kernel (a few milliseconds).

        Raises:
            PtxError: For anything in it that the interpreter does not know.
        """
        from wpk_envs.devices.ptx.decode import decode

        self.function = function
        self.code = decode(function)

    def run(
        self,
        grid: Extent,
        block: Extent,
        arguments: Sequence[Argument],
        blocks: Iterable[int] | None = None,
        warps: Warps = "forward",
        max_steps: int = MAX_STEPS,
        dynamic_shared: int = 0,
    ) -> None:
        """Run blocks of the kernel on arrays, in place.

        Args:
            grid: Blocks along x, y and z.
            block: Threads of a block along x, y and z.
            arguments: One per parameter. Arrays that are not writeable are inputs; writeable ones are outputs, and
                reading an element of them that the kernel has not written is an error (see `Buffer`).
            blocks: Linear numbers (x fastest) of the blocks to run; all if None.
            warps: In which order the threads of a block take turns.
            max_steps: Instructions after which a warp counts as endless.
            dynamic_shared: Bytes of the ``extern __shared__`` array.

        Raises:
            PtxError: For a launch that does not fit the kernel, and for every access, barrier or loop in it that
                is not allowed; the sentence names the instruction, the thread, the block and the array. Blocks
                that were run before keep what they have written.
        """
        from wpk_envs.devices.ptx.machine import machine

        launch = _Launch(self, _extent(grid, "grid"), _extent(block, "block"), warps, max_steps)
        launch.bind(arguments, dynamic_shared)
        launch.fill()
        fault = np.zeros(8, np.int64)
        if machine()(*launch.state(), np.array(launch.chosen(blocks), np.int64), fault):
            raise launch.error(fault)


def execute(function: Function, grid: Extent, block: Extent, arguments: Sequence[Argument], **options: Any) -> None:
    """Decode a kernel and run it once; the options are those of `Program.run`."""
    Program(function).run(grid, block, arguments, **options)


def _extent(given: Extent, what: str) -> tuple[int, int, int]:
    sizes = [int(size) for size in given] + [1] * (3 - len(given))
    if len(sizes) != 3 or min(sizes) < 1:
        raise PtxError(f"a {what} has one to three sizes of at least 1, not {tuple(given)}")
    return sizes[0], sizes[1], sizes[2]


class _Launch:
    """Registers, memory and tables of one run."""

    def __init__(
        self, program: Program, grid: tuple[int, int, int], block: tuple[int, int, int], warps: str, steps: int
    ) -> None:
        self.program, self.code, self.grid, self.block = program, program.code, grid, block
        self.threads = math.prod(block)
        self._check()
        if warps not in ("forward", "reverse", "together"):
            raise PtxError(f"warps is 'forward', 'reverse' or 'together', not {warps!r}")
        rounded = -(-self.threads // WARP) * WARP
        self.lanes = rounded if warps == "together" else WARP
        self.groups = rounded // self.lanes
        self.bytes = (8 * self.code.longs + 4 * self.code.words) * self.lanes
        self.longs = _aligned(self.groups * self.bytes // 8)
        self.longs[:] = -1
        self.words = self.longs.view(np.int32)
        self.rows = self.longs.reshape(self.groups, -1), self.words.reshape(self.groups, -1)
        self.flags = np.zeros(0, np.uint8)
        self.kept: list[object] = []
        self.table: list[tuple[int, ...]] = [(0,) * len(Memory)]
        self.names: list[tuple[str, int]] = [("", 0)]
        self.geometry = np.array([self.groups, self.lanes, self.threads, self.bytes, *grid] + [-1] * 3, np.int64)
        self.geometry = np.append(self.geometry, [warps == "reverse", steps])

    def _check(self) -> None:
        name, bounds = self.program.function.name, self.program.function.bounds
        largest = min(MAX_THREADS, math.prod(bounds.get("maxntid", (MAX_THREADS,))))
        if self.threads > largest:
            raise PtxError(f"kernel {name} runs at most {largest} threads in a block, not {self.threads}")
        needed = (*bounds.get("reqntid", self.block), 1, 1)[:3]
        if needed != self.block:
            raise PtxError(f"kernel {name} needs blocks of {needed} threads, not {self.block}")

    def chosen(self, blocks: Iterable[int] | None) -> list[int]:
        """The linear numbers of the blocks to run."""
        total = math.prod(self.grid)
        if blocks is None:
            return list(range(total))
        numbers = [int(number) for number in blocks]
        wrong = [number for number in numbers if not 0 <= number < total]
        if wrong:
            raise PtxError(f"block {wrong[0]} does not exist in a grid of {total} blocks")
        return numbers

    # memory

    def bind(self, arguments: Sequence[Argument], dynamic_shared: int) -> None:
        """Give every parameter and every variable its place in memory."""
        parameters = self.program.function.parameters
        if len(arguments) != len(parameters):
            name = self.program.function.name
            raise PtxError(f"kernel {name} takes {len(parameters)} arguments, not {len(arguments)}")
        for number, (name, argument) in enumerate(zip(parameters, arguments)):
            value = self._argument(number, parameters[name], argument)
            if name in self.code.parameters:
                self._fill(self.code.parameters[name], value)
        self._variables(dynamic_shared)

    def _argument(self, number: int, kind: str, argument: Argument) -> int:
        """Bits of a parameter; an array gets a window."""
        if not isinstance(argument, (np.ndarray, Buffer)):
            return int(np.float32(argument).view(np.uint32)) if kind == "f32" else int(argument)
        if not kind.endswith("64"):
            raise PtxError(f"argument {number} of kernel {self.program.function.name} is a number, not an array")
        buffer = argument if isinstance(argument, Buffer) else Buffer(argument)
        self.kept.append(buffer)
        flags = 0 if buffer.flags is None else buffer.flags.ctypes.data
        array, writable = buffer.array, buffer.array.flags.writeable
        return self._window(f"argument {number}", array.ctypes.data, flags, array.nbytes, 0, "global", writable)

    def _window(self, name: str, data: int, flags: int, size: int, stride: int, space: str, writable: bool) -> int:
        from wpk_envs.devices.ptx.decode import SPACES

        window = len(self.table)
        self.table.append((data, flags, size, stride, SPACES.index(space), int(writable)))
        self.names.append((name, size))
        return (window << WINDOW) + START

    def _variables(self, dynamic_shared: int) -> None:
        """Windows for shared arrays, of which a block has one, and local ones, of which every thread has one."""
        lanes = self.groups * self.lanes
        sizes = [dynamic_shared if x.bytes is None else x.bytes for x in self.code.variables]
        strides = [-(-size // 16) * 16 for size in sizes]
        copies = [lanes if x.space == "local" else 1 for x in self.code.variables]
        total = sum(stride * count for stride, count in zip(strides, copies))
        storage, self.flags = np.empty(total, np.uint8), np.zeros(total, np.uint8)
        self.kept.append(storage)
        start = 0
        for variable, size, stride, count in zip(self.code.variables, sizes, strides, copies):
            self._variable(variable, storage[start:], self.flags[start:], size, stride if count > 1 else 0)
            start += stride * count

    def _variable(self, variable: Variable, data: np.ndarray, flags: np.ndarray, size: int, stride: int) -> None:
        name = f"{variable.space} array {variable.name}"
        places = (data.ctypes.data, flags.ctypes.data)
        self._fill(self.code.addresses[variable.name], self._window(name, *places, size, stride, variable.space, True))

    # registers

    def _offset(self, row: int) -> int:
        """Where a row starts in a group's registers, in bytes."""
        from wpk_envs.devices.ptx.decode import WIDE_ROW

        if row >= WIDE_ROW:
            return (row - WIDE_ROW) * 8 * self.lanes
        return (8 * self.code.longs + 4 * row) * self.lanes

    def _fill(self, row: int, value: Any) -> None:
        """Set a row: one value, or one per thread as (groups, lanes)."""
        from wpk_envs.devices.ptx.decode import WIDE_ROW

        size = 8 if row >= WIDE_ROW else 4
        if isinstance(value, int):
            value &= (1 << (8 * size)) - 1
            value -= (value >> (8 * size - 1)) << (8 * size)
        start = self._offset(row) // size
        self.rows[0 if size == 8 else 1][:, start : start + self.lanes] = value

    def fill(self) -> None:
        """Fill the rows of constants and special registers."""
        for row, bits in self.code.constants.items():
            self._fill(row, bits)
        threads = np.arange(self.groups * self.lanes).reshape(self.groups, -1)
        (x, y, _), axes = self.block, "xyz"
        places = (threads % x, threads // x % y, threads // (x * y))
        for axis, place, size, count in zip(axes, places, self.block, self.grid):
            for name, value in ((f"%tid.{axis}", place), (f"%ntid.{axis}", size), (f"%nctaid.{axis}", count)):
                if name in self.code.specials:
                    self._fill(self.code.specials[name], value)
            if f"%ctaid.{axis}" in self.code.specials:
                row = self.code.specials[f"%ctaid.{axis}"]
                self.geometry[Geometry.CTAID_X + axes.index(axis)] = self._offset(row)

    def scaled(self) -> np.ndarray:
        """The code with offsets in bytes in the place of rows."""
        from wpk_envs.devices.ptx.decode import WIDE_ROW, Column

        code = self.code.code.copy()
        columns = [Column.D, Column.A, Column.B, Column.C, Column.E, Column.GUARD]
        rows = code[:, columns]
        wide = (rows - WIDE_ROW) * 8 * self.lanes
        narrow = (8 * self.code.longs + 4 * rows) * self.lanes
        code[:, columns] = np.where(rows < 0, -1, np.where(rows >= WIDE_ROW, wide, narrow))
        return code

    def state(self) -> tuple[Any, ...]:
        """What the machine works on, in its order, but for the blocks and the fault."""
        lanes = self.groups * self.lanes
        places, states = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
        masks, scratch = np.zeros((3, self.lanes), np.int32), _aligned(self.lanes)
        table = np.array(self.table, np.int64)
        registers = (self.longs, self.words)
        return (self.scaled(), self.geometry, *registers, places, states, masks, scratch, table, self.flags)

    def error(self, fault: np.ndarray) -> PtxError:
        """The sentence for what the machine stopped at."""
        from wpk_envs.devices.ptx.faults import Reporter

        return Reporter(self.code, self.geometry, self.block, self.names).error(fault)


def _aligned(count: int) -> np.ndarray:
    """An array of int64 that starts at a cache line."""
    raw = np.empty(count + 8, np.int64)
    start = -raw.ctypes.data % 64 // 8
    return raw[start : start + count]
