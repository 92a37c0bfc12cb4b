"""Loads and stores of a group of threads, compiled: every access is checked before memory is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from wpk_envs.devices.ptx.lanes import gather, mark, outside, scatter, unwritten
from wpk_envs.devices.ptx.layout import CELL_BYTES, SINGLE, START, WINDOW, Column, Fault, Kind, Memory

compiled = njit(nogil=True, _nrt=False)
"""Compile with numba, without its reference counts: they are atomic, and slower than what is counted."""

inlined = njit(nogil=True, _nrt=False, inline="always")
"""The same for a function with one caller: LLVM would optimise what is large again in every caller's caller."""


@compiled
def at(array: Any) -> Any:
    """Address of an array; numba's own is unsigned, and its sum with a signed number a float."""
    return np.int64(array.ctypes.data)


@compiled
def blame(state: Any, kind: int, place: int, thread: int, detail: int) -> int:
    """Leave the reason for stopping; gives -1."""
    fault = state.fault
    fault[0], fault[1], fault[2], fault[3] = kind, place, thread, detail
    return -1


@compiled
def mask_at(state: Any, mask: int) -> Any:
    """Address of a mask."""
    return at(state.masks) + mask * state.masks.shape[1] * 4


@compiled
def first_of(state: Any, mask: int) -> int:
    """The first lane of a mask, which has one."""
    lane = 0
    while state.masks[mask, lane] == 0:
        lane += 1
    return lane


@inlined
def access(state: Any, place: int, base: int, thread: int, mask: int) -> int:
    """Run a load or store.

    Args:
        state: The machine's `State`.
        place: Number of the micro-operation.
        base: Address of the group's registers.
        thread: Number of the group's first thread.
        mask: Which lanes take part; there is at least one.

    Returns:
        0, or -1 after a fault.
    """
    window, problem = examine(state, place, base, thread, mask), 0
    if window < 0:
        return -1
    if window > 0:
        return _transfer(state, place, base, thread, mask, window)
    for lane in range(state.masks.shape[1]):
        if state.masks[mask, lane] and problem == 0:
            _alone(state, lane)
            problem = _transfer(state, place, base, thread, SINGLE, address_of(state, place, base, lane) >> WINDOW)
    return problem


@inlined
def examine(state: Any, place: int, base: int, thread: int, mask: int) -> int:
    """Check every address of a load or store; the arguments are those of `access`.

    Returns:
        The window that all lanes access, 0 if they access several, -1 after a fault.
    """
    first = address_of(state, place, base, first_of(state, mask))
    if _objection(state, place, first) == 0 and _together(state, place, base, mask, first >> WINDOW):
        return first >> WINDOW
    for lane in range(state.masks.shape[1]):
        if state.masks[mask, lane]:
            address = address_of(state, place, base, lane)
            problem = _objection(state, place, address)
            if problem:
                return blame(state, problem, place, thread + lane, address)
    return 0


@compiled
def address_of(state: Any, place: int, base: int, lane: int) -> Any:
    """The address that a lane accesses."""
    code, longs = state.code, state.longs
    return longs[((base + code[place, Column.A] - at(longs)) >> 3) + lane] + code[place, Column.OFFSET]


@compiled
def bytes_of(state: Any, place: int) -> Any:
    """What a lane accesses at once."""
    return CELL_BYTES[state.code[place, Column.NUMBER]] * state.code[place, Column.COUNT]


@compiled
def _alone(state: Any, lane: int) -> None:
    """Let a mask have one lane."""
    state.masks[SINGLE, :] = 0
    state.masks[SINGLE, lane] = -1


@compiled
def _objection(state: Any, place: int, address: int) -> int:
    """Why a lane's access is not allowed, 0 if it is."""
    code, memory, window, size = state.code, state.memory, address >> WINDOW, bytes_of(state, place)
    if window <= 0 or window >= memory.shape[0]:
        return Fault.OUTSIDE
    if code[place, Column.SPACE] != 0 and code[place, Column.SPACE] != memory[window, Memory.SPACE]:
        return Fault.OUTSIDE
    offset = address - (window << WINDOW) - START
    if offset < 0 or offset + size > memory[window, Memory.BYTES]:
        return Fault.OUTSIDE
    if offset & (size - 1):
        return Fault.MISALIGNED
    return Fault.READ_ONLY if code[place, Column.KIND] == Kind.STORE and not memory[window, Memory.WRITABLE] else 0


@inlined
def _together(state: Any, place: int, base: int, mask: int, window: int) -> bool:
    """Whether all lanes may access one window, which one of them may."""
    size = bytes_of(state, place)
    delta, limit = _delta(state, place, window), state.memory[window, Memory.BYTES] - size
    row = base + state.code[place, Column.A]
    return outside(state.masks.shape[1], mask_at(state, mask), row, delta, limit, size - 1) == 0


@compiled
def _delta(state: Any, place: int, window: int) -> Any:
    """What makes an offset in a window of a register."""
    return state.code[place, Column.OFFSET] - (window << WINDOW) - START


@compiled
def _transfer(state: Any, place: int, base: int, thread: int, mask: int, window: int) -> int:
    """Move the cells of the lanes of a mask; their addresses are known to be good and in one window."""
    code, memory, lanes = state.code, state.memory, state.masks.shape[1]
    cell, address, lanes_at = code[place, Column.NUMBER], base + code[place, Column.A], mask_at(state, mask)
    stride, flags = memory[window, Memory.STRIDE], memory[window, Memory.FLAGS]
    for number in range(code[place, Column.COUNT]):
        value = base + code[place, Column.D if number == 0 else Column.A + number]
        offset = _delta(state, place, window) + thread * stride + number * CELL_BYTES[cell]
        data = memory[window, Memory.DATA] + offset
        if code[place, Column.KIND] == Kind.STORE:
            scatter(cell, lanes, lanes_at, address, data, stride, value)
            if flags:
                mark(cell, lanes, lanes_at, address, flags + offset, stride)
        else:
            if flags and unwritten(cell, lanes, lanes_at, address, flags + offset, stride):
                return _blame_unwritten(state, place, base, thread, mask, flags + offset, stride)
            gather(cell, lanes, lanes_at, address, data, stride, value)
    return 0


@compiled
def _blame_unwritten(state: Any, place: int, base: int, thread: int, mask: int, flags: int, stride: int) -> int:
    """Find the first lane that reads what nothing has written."""
    code, lanes = state.code, state.masks.shape[1]
    cell, address = code[place, Column.NUMBER], base + code[place, Column.A]
    for lane in range(lanes):
        if state.masks[mask, lane]:
            _alone(state, lane)
            if unwritten(cell, lanes, mask_at(state, SINGLE), address, flags, stride):
                return blame(state, Fault.UNWRITTEN, place, thread + lane, address_of(state, place, base, lane))
    return 0
