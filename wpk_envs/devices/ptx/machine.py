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

from numba import njit

from wpk_envs.devices.ptx.access import access, at, blame, compiled, examine, first_of, inlined, mask_at
from wpk_envs.devices.ptx.counting import close, enter, fork, muster, reach
from wpk_envs.devices.ptx.lanes import blend, compute, restrict, zeros
from wpk_envs.devices.ptx.layout import ACTIVE, CHOSEN, Column, Fault, Geometry, Kind
from wpk_envs.devices.ptx.tally import SEGMENTS

NEVER = 1 << 60
"""A place that no thread reaches."""

RUNNING, WAITING, ENDED = 0, 1, 2
"""States of a thread."""


@lru_cache(maxsize=1)
def machine() -> Callable[..., int]:
    """The compiled loop over blocks: compiled in about 10 s once, read from disk afterwards.

    Returns:
        A function of a `layout.State`, a `tally.Tally` or None, and the linear numbers of the blocks; it gives a
        `layout.Fault`. It is compiled once for each of the two: what counts is not in the plain one.
    """
    fingerprint = _fingerprint()

    @njit(nogil=True, _nrt=False, cache=True)
    def run(state: Any, tally: Any, blocks: Any) -> int:
        if len(fingerprint) == 0:  # only to have it in the closure
            return -1
        for block in blocks:
            _forget(state)
            _set_coordinates(state, block)
            if _run_block(state, tally) < 0:
                state.fault[4] = block
                return state.fault[0]
        return 0

    return run


def _fingerprint() -> str:
    """Hash of this package's sources."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@compiled
def _forget(state: Any) -> None:
    """Make the variables' memory what it is before a block has written anything."""
    for byte in range(len(state.flags)):  # assigning whole arrays needs numba's reference counts
        state.flags[byte] = state.fresh[byte]


@compiled
def _set_coordinates(state: Any, block: int) -> None:
    """Fill the rows of the block's own coordinates."""
    geometry, rest = state.geometry, block
    for axis in range(3):
        size, row = geometry[Geometry.GRID_X + axis], geometry[Geometry.CTAID_X + axis]
        if row >= 0:
            for group in range(geometry[Geometry.GROUPS]):
                start = (group * geometry[Geometry.BYTES] + row) >> 2
                state.words[start : start + geometry[Geometry.LANES]] = rest % size
        rest //= size


@inlined
def _run_block(state: Any, tally: Any) -> int:
    """Run all groups of a block from barrier to barrier; gives 0, or -1 after a fault."""
    geometry = state.geometry
    groups, threads = geometry[Geometry.GROUPS], geometry[Geometry.THREADS]
    left = geometry[Geometry.STEPS] * groups
    for thread in range(len(state.places)):
        state.places[thread], state.states[thread] = 0, RUNNING if thread < threads else ENDED
    while True:
        for turn in range(groups):
            left = _run_group(state, tally, groups - 1 - turn if geometry[Geometry.REVERSE] else turn, left)
            if left < 0:
                return -1
        if tally is not None and not close(tally):
            return blame(state, Fault.CROWDED, 0, 0, SEGMENTS)
        waiting = _release(state, threads)
        if waiting <= 0:
            return waiting


@compiled
def _release(state: Any, threads: int) -> int:
    """Let all threads pass the barrier; gives their number, 0 if all have ended, -1 after a fault."""
    places, states, waiting, meeting = state.places, state.states, 0, NEVER
    for thread in range(threads):
        if states[thread] == WAITING:
            waiting += 1
            meeting = min(meeting, places[thread])
    if waiting == 0:
        return 0
    for thread in range(threads):
        if states[thread] == ENDED:
            return blame(state, Fault.PARTIAL, meeting, thread, waiting)
        if places[thread] != meeting:
            return blame(state, Fault.SCATTERED, meeting, thread, places[thread])
        places[thread], states[thread] = meeting + 1, RUNNING
    return waiting


@inlined
def _run_group(state: Any, tally: Any, group: int, left: int) -> int:
    """Run one group until its threads wait or have ended; gives the steps that are left, or -1 after a fault."""
    code, lanes, active = state.code, state.geometry[Geometry.LANES], mask_at(state, ACTIVE)
    base, thread = at(state.longs) + group * state.geometry[Geometry.BYTES], group * lanes
    while True:
        place, stop, together, aside = _choose(state, thread)
        if place == NEVER:
            return left
        if tally is not None:
            muster(state, tally)
        while True:
            if place >= stop:
                _park(state, thread, ACTIVE, place, RUNNING)
                break
            left -= 1
            kind, mask, some, masked = code[place, Column.KIND], ACTIVE, together, aside
            if tally is not None and kind == Kind.ENTER:
                enter(tally, code[place, Column.SLOT])
                place += 1
                continue
            if code[place, Column.GUARD] >= 0:
                guard = base + code[place, Column.GUARD]
                some = restrict(lanes, mask_at(state, CHOSEN), active, guard, code[place, Column.WANTED])
                if some < together:
                    mask, masked = CHOSEN, True
            if kind == Kind.BRANCH:
                if left < 0:
                    steps = state.geometry[Geometry.STEPS]
                    return blame(state, Fault.ENDLESS, place, thread + first_of(state, ACTIVE), steps)
                if 0 < some < together:
                    if tally is not None:
                        fork(state, tally)
                    _park(state, thread, ACTIVE, place + 1, RUNNING)
                    _park(state, thread, CHOSEN, code[place, Column.TARGET], RUNNING)
                    break
                place = code[place, Column.TARGET] if some else place + 1
                continue
            if some:
                if kind <= Kind.DIVIDE:
                    if kind == Kind.DIVIDE and _divides_by_zero(state, place, base, thread, mask):
                        return -1
                    _compute(state, place, base, mask, masked)
                elif kind <= Kind.STORE and tally is not None:
                    if examine(state, place, base, thread, mask) < 0:
                        return -1
                    reach(state, tally, place, base, mask)
                elif kind <= Kind.STORE:
                    if access(state, place, base, thread, mask) < 0:
                        return -1
                elif kind == Kind.BARRIER:
                    _park(state, thread, ACTIVE, place, WAITING)
                    break
                else:
                    _park(state, thread, ACTIVE, place + 1, RUNNING)
                    _park(state, thread, mask, place, ENDED)
                    break
            place += 1


@compiled
def _choose(state: Any, thread: int) -> tuple[int, int, int, bool]:
    """Make the running threads of a group that are furthest behind the active ones.

    Returns:
        Their place (`NEVER` if none runs), the place where they meet the next others, their number, and whether
        there are others whose registers must be kept.
    """
    places, states, masks = state.places, state.states, state.masks
    place, stop, together, aside = NEVER, NEVER, 0, False
    for lane in range(masks.shape[1]):
        if states[thread + lane] == RUNNING:
            place = min(place, places[thread + lane])
    for lane in range(masks.shape[1]):
        runs = states[thread + lane] == RUNNING and places[thread + lane] == place
        masks[ACTIVE, lane] = -1 if runs else 0
        together += runs
        if not runs and states[thread + lane] != ENDED:
            aside = True
            if states[thread + lane] == RUNNING:
                stop = min(stop, places[thread + lane])
    return place, stop, together, aside


@compiled
def _park(state: Any, thread: int, mask: int, place: int, into: int) -> None:
    """Put the threads of a mask at a place and into a state."""
    for lane in range(state.masks.shape[1]):
        if state.masks[mask, lane]:
            state.places[thread + lane], state.states[thread + lane] = place, into


@inlined
def _divides_by_zero(state: Any, place: int, base: int, thread: int, mask: int) -> bool:
    code, lanes = state.code, state.masks.shape[1]
    if zeros(code[place, Column.WIDE], lanes, mask_at(state, mask), base + code[place, Column.B]) == 0:
        return False
    blame(state, Fault.DIVISION, place, thread + first_of(state, mask), 0)
    return True


@inlined
def _compute(state: Any, place: int, base: int, mask: int, masked: bool) -> None:
    """Run one computation on all lanes; if some are not to be changed, through a scratch row."""
    code, lanes, scratch = state.code, state.masks.shape[1], at(state.scratch)
    a, b, c = base + code[place, Column.A], base + code[place, Column.B], base + code[place, Column.C]
    d, e = base + code[place, Column.D], base + code[place, Column.E]
    compute(code[place, Column.NUMBER], lanes, scratch if masked else d, a, b, c, e)
    if masked:
        blend(code[place, Column.WIDE], lanes, mask_at(state, mask), d, scratch)
