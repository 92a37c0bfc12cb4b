"""The compiled loop that runs thread blocks.

The threads of a block are run in *groups* of contiguous lanes. A group runs in lock step: all its threads at
the same place run one micro-operation together. After a branch that only some of them take, those that are
furthest behind run first, until they meet the others. A group runs until all of its threads wait at a barrier
or have ended; then the next one does.

The loop is compiled on first use and kept on disk by numba. Numba looks for changes only in the file of
a function, so the fingerprint of the whole package is part of the compiled function's closure, which makes it
part of the key under which it is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from wpk_envs.devices.ptx.decode import Column, Kind
from wpk_envs.devices.ptx.lanes import (
    blend,
    compute,
    gather,
    mark,
    outside,
    restrict,
    scatter,
    unwritten,
    zeros,
)
from wpk_envs.devices.ptx.layout import CELL_BYTES, START, WINDOW, Fault, Geometry, Memory

NEVER = 1 << 60
"""A place that no thread reaches."""

RUNNING, WAITING, ENDED = 0, 1, 2
"""States of a thread."""

ACTIVE, CHOSEN, SINGLE = 0, 1, 2
"""Masks: threads at the place that runs, those of them whose guard holds, and one alone."""

# Plain integers, for numba compiles them in.
_KIND, _NUMBER, _D, _A, _B, _C, _E = (int(Column[name]) for name in ("KIND", "NUMBER", "D", "A", "B", "C", "E"))
_OFFSET, _GUARD, _WANTED, _WIDE = (int(Column[name]) for name in ("OFFSET", "GUARD", "WANTED", "WIDE"))
_COUNT, _SPACE, _TARGET = (int(Column[name]) for name in ("COUNT", "SPACE", "TARGET"))
_DIVIDE, _LOAD, _STORE = int(Kind.DIVIDE), int(Kind.LOAD), int(Kind.STORE)
_BRANCH, _BARRIER = int(Kind.BRANCH), int(Kind.BARRIER)
_DATA, _FLAGS, _BYTES, _STRIDE = int(Memory.DATA), int(Memory.FLAGS), int(Memory.BYTES), int(Memory.STRIDE)
_PLACE, _WRITABLE = int(Memory.SPACE), int(Memory.WRITABLE)
_GROUPS, _LANES, _THREADS, _STATE = (int(Geometry[name]) for name in ("GROUPS", "LANES", "THREADS", "BYTES"))
_GRID, _CTAID, _ORDER, _STEPS = (int(Geometry[name]) for name in ("GRID_X", "CTAID_X", "REVERSE", "STEPS"))
_OUTSIDE, _UNWRITTEN, _READ_ONLY = int(Fault.OUTSIDE), int(Fault.UNWRITTEN), int(Fault.READ_ONLY)
_MISALIGNED, _ZERO, _ENDLESS = int(Fault.MISALIGNED), int(Fault.DIVISION), int(Fault.ENDLESS)
_PARTIAL, _SCATTERED = int(Fault.PARTIAL), int(Fault.SCATTERED)


@njit(nogil=True, _nrt=False)
def _at(array: Any) -> Any:
    """Address of an array; numba's own is unsigned, and its sum with a signed number a float."""
    return np.int64(array.ctypes.data)


@njit(nogil=True, _nrt=False)
def _blame(fault: Any, kind: int, place: int, thread: int, detail: int) -> int:
    """Leave the reason for stopping; gives -1."""
    fault[0], fault[1], fault[2], fault[3] = kind, place, thread, detail
    return -1


@njit(nogil=True, _nrt=False)
def _first(masks: Any, mask: int) -> int:
    """The first lane of a mask, which has one."""
    lane = 0
    while masks[mask, lane] == 0:
        lane += 1
    return lane


@njit(nogil=True, _nrt=False)
def _alone(masks: Any, lane: int) -> None:
    masks[SINGLE, :] = 0
    masks[SINGLE, lane] = -1


@njit(nogil=True, _nrt=False)
def _objection(address: int, space: int, store: bool, bytes_: int, memory: Any) -> int:
    """Why one access is not allowed, 0 if it is."""
    window = address >> WINDOW
    if window <= 0 or window >= memory.shape[0] or (space != 0 and memory[window, _PLACE] != space):
        return _OUTSIDE
    offset = address - (window << WINDOW) - START
    if offset < 0 or offset + bytes_ > memory[window, _BYTES]:
        return _OUTSIDE
    if offset & (bytes_ - 1):
        return _MISALIGNED
    return _READ_ONLY if store and not memory[window, _WRITABLE] else 0


@njit(nogil=True, _nrt=False)
def _transfer(
    code: Any,
    place: int,
    base: int,
    longs: Any,
    thread: int,
    mask: int,
    masks: Any,
    window: int,
    memory: Any,
    fault: Any,
) -> int:
    """Move the cells of all lanes of a mask; their addresses are known to be good and in one window."""
    lanes, mask_bytes, cell = masks.shape[1], masks.shape[1] * 4, code[place, _NUMBER]
    mask_at = _at(masks) + mask * mask_bytes
    address, stride = base + code[place, _A], memory[window, _STRIDE]
    first = (address - _at(longs)) >> 3
    delta = code[place, _OFFSET] - (window << WINDOW) - START + thread * stride
    data, flags = memory[window, _DATA] + delta, memory[window, _FLAGS]
    for cells in range(code[place, _COUNT]):
        value = base + code[place, _D if cells == 0 else _A + cells]
        shift = cells * CELL_BYTES[cell]
        marks = flags + delta + shift
        if code[place, _KIND] == _STORE:
            scatter(cell, lanes, mask_at, address, data + shift, stride, value)
            if flags:
                mark(cell, lanes, mask_at, address, marks, stride)
        else:
            if flags and unwritten(cell, lanes, mask_at, address, marks, stride):
                for lane in range(lanes):
                    if masks[mask, lane]:
                        _alone(masks, lane)
                        if unwritten(cell, lanes, _at(masks) + SINGLE * mask_bytes, address, marks, stride):
                            return _blame(
                                fault, _UNWRITTEN, place, thread + lane, longs[first + lane] + code[place, _OFFSET]
                            )
            gather(cell, lanes, mask_at, address, data + shift, stride, value)
    return 0


@njit(nogil=True, _nrt=False)
def _access(
    code: Any, place: int, base: int, longs: Any, thread: int, mask: int, masks: Any, memory: Any, fault: Any
) -> int:
    """Run a load or store: all lanes at once if they stay in one array, else one after the other."""
    lanes, space, store = masks.shape[1], code[place, _SPACE], code[place, _KIND] == _STORE
    first = _first(masks, mask)
    bytes_ = CELL_BYTES[code[place, _NUMBER]] * code[place, _COUNT]
    column = (base + code[place, _A] - _at(longs)) >> 3
    address = longs[column + first] + code[place, _OFFSET]
    if _objection(address, space, store, bytes_, memory) == 0:
        window = address >> WINDOW
        delta, limit = code[place, _OFFSET] - (window << WINDOW) - START, memory[window, _BYTES] - bytes_
        mask_at = _at(masks) + mask * lanes * 4
        if outside(lanes, mask_at, base + code[place, _A], delta, limit, bytes_ - 1) == 0:
            return _transfer(code, place, base, longs, thread, mask, masks, window, memory, fault)
    for lane in range(lanes):
        if masks[mask, lane]:
            address = longs[column + lane] + code[place, _OFFSET]
            problem = _objection(address, space, store, bytes_, memory)
            if problem:
                return _blame(fault, problem, place, thread + lane, address)
    for lane in range(lanes):
        if masks[mask, lane]:
            _alone(masks, lane)
            window = (longs[column + lane] + code[place, _OFFSET]) >> WINDOW
            problem = _transfer(code, place, base, longs, thread, SINGLE, masks, window, memory, fault)
            if problem:
                return problem
    return 0


@njit(nogil=True, _nrt=False)
def _park(places: Any, states: Any, masks: Any, mask: int, place: int, state: int) -> None:
    """Put the threads of a mask at a place and into a state."""
    for lane in range(masks.shape[1]):
        if masks[mask, lane]:
            places[lane], states[lane] = place, state


@njit(nogil=True, _nrt=False)
def _run_group(
    code: Any,
    base: int,
    longs: Any,
    thread: int,
    places: Any,
    states: Any,
    masks: Any,
    scratch: int,
    memory: Any,
    steps: int,
    fault: Any,
) -> int:
    """Run one group until its threads wait or have ended; gives the steps that are left, or -1 after a fault."""
    lanes, active = masks.shape[1], _at(masks)
    while True:
        place, stop, together, aside = _choose(places, states, masks)
        if place == NEVER:
            return steps
        while True:
            if place >= stop:
                _park(places, states, masks, ACTIVE, place, RUNNING)
                break
            steps -= 1
            kind, mask, some, masked = code[place, _KIND], ACTIVE, together, aside
            if code[place, _GUARD] >= 0:
                chosen = active + CHOSEN * lanes * 4
                some = restrict(lanes, chosen, active, base + code[place, _GUARD], code[place, _WANTED])
                if some < together:
                    mask, masked = CHOSEN, True
            if kind == _BRANCH:
                if steps < 0:
                    return _blame(fault, _ENDLESS, place, thread + _first(masks, ACTIVE), 0)
                if 0 < some < together:
                    _park(places, states, masks, ACTIVE, place + 1, RUNNING)
                    _park(places, states, masks, CHOSEN, code[place, _TARGET], RUNNING)
                    break
                place = code[place, _TARGET] if some else place + 1
                continue
            if some:
                if kind <= _DIVIDE:
                    if kind == _DIVIDE and zeros(
                        code[place, _WIDE], lanes, active + mask * lanes * 4, base + code[place, _B]
                    ):
                        return _blame(fault, _ZERO, place, thread + _first(masks, mask), 0)
                    _compute(code, place, base, lanes, active + mask * lanes * 4, masked, scratch)
                elif kind <= _STORE:
                    if _access(code, place, base, longs, thread, mask, masks, memory, fault):
                        return -1
                elif kind == _BARRIER:
                    _park(places, states, masks, ACTIVE, place, WAITING)
                    break
                else:
                    _park(places, states, masks, ACTIVE, place + 1, RUNNING)
                    _park(places, states, masks, mask, place, ENDED)
                    break
            place += 1


@njit(nogil=True, _nrt=False)
def _choose(places: Any, states: Any, masks: Any) -> tuple[int, int, int, bool]:
    """Make the running threads that are furthest behind the active ones.

    Returns:
        Their place (`NEVER` if none runs), the place where they meet the next others, their number, and whether
        there are others whose registers must be kept.
    """
    lanes, place, stop, together, aside = masks.shape[1], NEVER, NEVER, 0, False
    for lane in range(lanes):
        if states[lane] == RUNNING:
            place = min(place, places[lane])
    for lane in range(lanes):
        runs = states[lane] == RUNNING and places[lane] == place
        masks[ACTIVE, lane] = -1 if runs else 0
        together += runs
        if not runs and states[lane] != ENDED:
            aside = True
            if states[lane] == RUNNING:
                stop = min(stop, places[lane])
    return place, stop, together, aside


@njit(nogil=True, _nrt=False)
def _compute(code: Any, place: int, base: int, lanes: int, mask: int, masked: bool, scratch: int) -> None:
    """Run one computation on all lanes; if some are not to be changed, through a scratch row."""
    d, a, b, c, e = (
        base + code[place, _D],
        base + code[place, _A],
        base + code[place, _B],
        base + code[place, _C],
        base + code[place, _E],
    )
    compute(code[place, _NUMBER], lanes, scratch if masked else d, a, b, c, e)
    if masked:
        blend(code[place, _WIDE], lanes, mask, d, scratch)


@njit(nogil=True, _nrt=False)
def _run_block(
    code: Any, geometry: Any, longs: Any, places: Any, states: Any, masks: Any, scratch: Any, memory: Any, fault: Any
) -> int:
    """Run all groups of a block from barrier to barrier; gives the fault."""
    groups, lanes, threads = geometry[_GROUPS], geometry[_LANES], geometry[_THREADS]
    left = geometry[_STEPS] * groups
    for thread in range(groups * lanes):
        places[thread], states[thread] = 0, RUNNING if thread < threads else ENDED
    while True:
        for turn in range(groups):
            group = groups - 1 - turn if geometry[_ORDER] else turn
            first, last = group * lanes, (group + 1) * lanes
            base, some = _at(longs) + group * geometry[_STATE], slice(first, last)
            left = _run_group(
                code, base, longs, first, places[some], states[some], masks, _at(scratch), memory, left, fault
            )
            if left < 0:
                return fault[0]
        waiting = _release(places, states, threads, fault)
        if waiting <= 0:
            return -waiting


@njit(nogil=True, _nrt=False)
def _release(places: Any, states: Any, threads: int, fault: Any) -> int:
    """Let all threads pass the barrier; gives their number, 0 if all have ended, or the fault, negative."""
    waiting, meeting = 0, NEVER
    for thread in range(threads):
        if states[thread] == WAITING:
            waiting += 1
            meeting = min(meeting, places[thread])
    if waiting == 0:
        return 0
    for thread in range(threads):
        if states[thread] == ENDED:
            _blame(fault, _PARTIAL, meeting, thread, waiting)
            return -fault[0]
        if places[thread] != meeting:
            _blame(fault, _SCATTERED, meeting, thread, places[thread])
            return -fault[0]
        places[thread], states[thread] = meeting + 1, RUNNING
    return waiting


@njit(nogil=True, _nrt=False)
def _place_block(block: int, geometry: Any, words: Any) -> None:
    """Fill the rows of the block's own coordinates."""
    rest = block
    for axis in range(3):
        number, rest = rest % geometry[_GRID + axis], rest // geometry[_GRID + axis]
        if geometry[_CTAID + axis] >= 0:
            for group in range(geometry[_GROUPS]):
                start = (group * geometry[_STATE] + geometry[_CTAID + axis]) >> 2
                words[start : start + geometry[_LANES]] = number


@lru_cache(maxsize=1)
def machine() -> Callable[..., int]:
    """The compiled loop over blocks: compiled in about 10 s once, read from disk afterwards."""
    fingerprint = _fingerprint()

    @njit(nogil=True, _nrt=False, cache=True)
    def run(
        code: Any,
        geometry: Any,
        longs: Any,
        words: Any,
        places: Any,
        states: Any,
        masks: Any,
        scratch: Any,
        memory: Any,
        flags: Any,
        blocks: Any,
        fault: Any,
    ) -> int:
        """Run blocks, given by their linear numbers, one after the other; gives the fault."""
        if len(fingerprint) == 0:
            return -1
        for block in blocks:
            flags[:] = 0
            _place_block(block, geometry, words)
            if _run_block(code, geometry, longs, places, states, masks, scratch, memory, fault):
                fault[4] = block
                return fault[0]
        return 0

    return run


def _fingerprint() -> str:
    """Hash of this package's sources."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
