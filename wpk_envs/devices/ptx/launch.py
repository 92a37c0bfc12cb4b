"""One run of a kernel: its registers and memory, made ready for the machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wpk_envs.devices.ptx.faults import Reporter
from wpk_envs.devices.ptx.layout import WIDE_ROW, Column, Geometry, State
from wpk_envs.devices.ptx.machine import machine
from wpk_envs.devices.ptx.memory import Argument, Buffer
from wpk_envs.devices.ptx.problems import PtxError
from wpk_envs.devices.ptx.rows import Code
from wpk_envs.devices.ptx.tally import Tally
from wpk_envs.devices.ptx.windows import Windows

MAX_THREADS = 1024
"""Largest block of every NVIDIA GPU since Fermi (CUDA C++ programming guide, compute capabilities)."""

WARP = 32
AXES = "xyz"
ORDERS = ("forward", "reverse", "together")


class Launch:
    """Registers, memory and tables of one run."""

    def __init__(self, code: Code, grid: Sequence[int], block: Sequence[int], warps: str, steps: int) -> None:
        """Lay out the registers of a block; the arguments are those of `Program.run`."""
        if warps not in ORDERS:
            raise PtxError(f"warps is 'forward', 'reverse' or 'together', not {warps!r}")
        self.code, self.grid, self.block = code, _extent(grid, "grid"), _extent(block, "block")
        self._check_bounds()
        self.windows = Windows()
        threads = math.prod(self.block)
        rounded = -(-threads // WARP) * WARP
        self.lanes = rounded if warps == "together" else WARP
        self.groups = rounded // self.lanes
        size = (8 * code.longs + 4 * code.words) * self.lanes
        self.longs = _aligned(self.groups * size // 8)
        self.words = self.longs.view(np.int32)
        self.longs[:] = -1
        self.geometry = np.full(len(Geometry), -1, np.int64)
        self.geometry[: Geometry.CTAID_X] = [self.groups, self.lanes, threads, size, *self.grid]
        self.geometry[Geometry.REVERSE :] = [warps == "reverse", steps]
        self._fill_constants()

    def _check_bounds(self) -> None:
        name, bounds, threads = self.code.function.name, self.code.function.bounds, math.prod(self.block)
        largest = min(MAX_THREADS, math.prod(bounds.get("maxntid", (MAX_THREADS,))))
        if threads > largest:
            raise PtxError(f"kernel {name} runs at most {largest} threads in a block, not {threads}")
        needed = (*bounds.get("reqntid", self.block), 1, 1)[:3]
        if needed != self.block:
            raise PtxError(f"kernel {name} needs blocks of {needed} threads, not {self.block}")

    def bind(self, arguments: Sequence[Argument], dynamic_shared: int) -> None:
        """Give every parameter and every variable its value."""
        parameters, name = self.code.function.parameters, self.code.function.name
        if len(arguments) != len(parameters):
            raise PtxError(f"kernel {name} takes {len(parameters)} arguments, not {len(arguments)}")
        for number, (parameter, kind) in enumerate(parameters.items()):
            value = self._argument(number, kind, arguments[number])
            if parameter in self.code.parameters:
                self._fill(self.code.parameters[parameter], value)
        addresses = self.windows.add_variables(self.code.variables, dynamic_shared, self.groups * self.lanes)
        for row, address in zip(self.code.addresses.values(), addresses):
            self._fill(row, address)

    def _argument(self, number: int, kind: str, argument: Argument) -> int:
        """Bits of a parameter; an array gets a window."""
        if not isinstance(argument, (np.ndarray, Buffer)):
            return int(np.float32(argument).view(np.uint32)) if kind == "f32" else int(argument)
        if not kind.endswith("64"):
            raise PtxError(f"argument {number} of kernel {self.code.function.name} is a number, not an array")
        buffer = argument if isinstance(argument, Buffer) else Buffer(argument)
        return self.windows.add_buffer(f"argument {number}", buffer)

    def run(self, blocks: Iterable[int] | None) -> None:
        """Run blocks, all if None."""
        self.execute(None, self.chosen(blocks))

    def execute(self, tally: Tally | None, blocks: Sequence[int]) -> None:
        """Run blocks, and count into a tally if the code is a skeleton's."""
        lanes = self.groups * self.lanes
        state = State(
            code=self._scaled(),
            geometry=self.geometry,
            longs=self.longs,
            words=self.words,
            places=np.zeros(lanes, np.int64),
            states=np.zeros(lanes, np.int64),
            masks=np.zeros((3, self.lanes), np.int32),
            scratch=_aligned(self.lanes),
            memory=self.windows.table,
            flags=self.windows.flags,
            fresh=self.windows.fresh,
            fault=np.zeros(5, np.int64),
        )
        if machine()(state, tally, np.array(blocks, np.int64)):
            raise Reporter(self.code, self.grid, self.block, self.windows.names).error(state.fault)

    def chosen(self, blocks: Iterable[int] | None) -> Sequence[int]:
        """The linear numbers of the blocks to run."""
        total = math.prod(self.grid)
        if blocks is None:
            return range(total)
        numbers = [int(number) for number in blocks]
        wrong = [number for number in numbers if not 0 <= number < total]
        if wrong:
            raise PtxError(f"block {wrong[0]} does not exist in a grid of {total} blocks")
        return numbers

    def _offsets(self, rows: Any) -> Any:
        """Where rows start in a group's registers, in bytes: the 64-bit ones come first."""
        words = (8 * self.code.longs + 4 * rows) * self.lanes
        return np.where(rows >= WIDE_ROW, (rows - WIDE_ROW) * 8 * self.lanes, words)

    def _scaled(self) -> np.ndarray:
        """The code with offsets in the place of rows."""
        code, columns = self.code.code.copy(), [*range(Column.D, Column.E + 1), Column.GUARD]
        rows = code[:, columns]
        code[:, columns] = np.where(rows < 0, -1, self._offsets(rows))
        return code

    def _fill(self, row: int, value: int | np.ndarray) -> None:
        """Set a row: the same bits for every thread, or a number for each as (groups, lanes)."""
        bits = 64 if row >= WIDE_ROW else 32
        if isinstance(value, int):
            value &= (1 << bits) - 1
            value -= (value >> (bits - 1)) << bits
        registers = self.longs if bits == 64 else self.words
        start = int(self._offsets(row)) * 8 // bits
        registers.reshape(self.groups, -1)[:, start : start + self.lanes] = value

    def _fill_constants(self) -> None:
        """Fill the rows of constants and special registers; those of the block's number are left to the machine."""
        for row, bits in self.code.constants.items():
            self._fill(row, bits)
        threads = np.arange(self.groups * self.lanes).reshape(self.groups, -1)
        x, y, _ = self.block
        places = (threads % x, threads // x % y, threads // (x * y))
        values: dict[str, int | np.ndarray] = {}
        for axis, place, size, count in zip(AXES, places, self.block, self.grid):
            values |= {f"%tid.{axis}": place, f"%ntid.{axis}": size, f"%nctaid.{axis}": count}
        for name, row in self.code.specials.items():
            if name in values:
                self._fill(row, values[name])
            else:
                self.geometry[Geometry.CTAID_X + AXES.index(name[-1])] = self._offsets(row)


def _extent(given: Sequence[int], what: str) -> tuple[int, int, int]:
    sizes = [int(size) for size in given] + [1] * (3 - len(given))
    if len(sizes) != 3 or min(sizes) < 1:
        raise PtxError(f"a {what} has one to three sizes of at least 1, not {tuple(given)}")
    return sizes[0], sizes[1], sizes[2]


def _aligned(count: int) -> np.ndarray:
    """An array of int64 that starts at a cache line."""
    raw = np.empty(count + 8, np.int64)
    start = -raw.ctypes.data % 64 // 8
    return raw[start : start + count]
