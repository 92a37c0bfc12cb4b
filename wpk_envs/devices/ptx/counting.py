"""Counting what a block does, compiled: every function is called by the machine's loop."""

from __future__ import annotations

from typing import Any

from wpk_envs.devices.ptx.access import address_of, at, bytes_of, compiled, first_of, mask_at
from wpk_envs.devices.ptx.lanes import advance, differing
from wpk_envs.devices.ptx.layout import ACTIVE, CHOSEN, START, WINDOW, Column, Kind
from wpk_envs.devices.ptx.tally import (
    BANKS,
    CLASSES,
    END,
    FIRST_MEMORY,
    ORIGIN,
    SECTOR,
    SEGMENTS,
    SOURCES,
    SUMS,
    TARGETS,
    WIDTHS,
    Mark,
    Sum,
)

WARP = 32
GLOBAL, SHARED = 1, 2
"""Numbers of these state spaces in `layout.SPACES`."""


@compiled
def muster(state: Any, tally: Any) -> None:
    """Find the warps that run."""
    tally.marks[Mark.WARPS] = 0
    for warp in range(state.masks.shape[1] // WARP):
        runs = _members(state, ACTIVE, warp) > 0
        tally.active[warp] = runs
        tally.marks[Mark.WARPS] += runs


@compiled
def _members(state: Any, mask: int, warp: int) -> int:
    """How many threads of a warp are in a mask."""
    members = 0
    for lane in range(warp * WARP, warp * WARP + WARP):
        members -= state.masks[mask, lane]
    return members


@compiled
def enter(tally: Any, line: int) -> None:
    """Count the instructions of a straight line, and follow their data, for the warps that run."""
    for kind in range(CLASSES):
        tally.sums[Sum.INSTRUCTIONS + kind] += tally.mix[line, kind] * tally.marks[Mark.WARPS]
    warps, active = tally.active.shape[0], at(tally.active)
    end = at(tally.times) + END * 2 * 8 * warps
    for instruction in range(tally.lines[line], tally.lines[line + 1]):
        advance(warps, active, end, at(tally.flows) + instruction * (2 + TARGETS + SOURCES) * 8)


@compiled
def fork(state: Any, tally: Any) -> None:
    """Count the warps of which some threads, but not all, take a branch."""
    for warp in range(state.masks.shape[1] // WARP):
        if 0 < _members(state, CHOSEN, warp) < _members(state, ACTIVE, warp):
            tally.sums[Sum.DIVERGENT] += 1


@compiled
def close(tally: Any) -> bool:
    """End a segment; gives whether there was room for it."""
    _measure(tally)
    kept, sums = tally.marks[Mark.KEPT], tally.sums
    segment = kept - 1
    while segment >= 0 and _differences(tally, segment):
        segment -= 1
    if segment < 0:
        if kept == SEGMENTS:
            return False
        segment = kept
        tally.repeats[kept] = 0
        tally.marks[Mark.KEPT] += 1
    tally.repeats[segment] += 1
    for column in range(SUMS):
        tally.segments[segment, column] = sums[column]
        sums[column] = 0
    return True


@compiled
def _measure(tally: Any) -> None:
    """Add the paths of the slowest warp to a segment's sums, and let the next one start when all results are there."""
    warps, times, sums = tally.active.shape[0], tally.times, tally.sums
    start, last = times[ORIGIN * 2 * warps], END * 2 * warps
    for warp in range(warps):
        sums[Sum.PATH] = max(sums[Sum.PATH], times[last + warp] - start)
        sums[Sum.ISSUE] = max(sums[Sum.ISSUE], times[last + warps + warp] - start)
    start += max(sums[Sum.PATH], sums[Sum.ISSUE]) + tally.marks[Mark.LONGEST]
    for half in range(2 * warps):
        times[ORIGIN * 2 * warps + half] = times[last + half] = start


@compiled
def _differences(tally: Any, segment: int) -> int:
    """How many sums are not those of an earlier segment."""
    differences = 0
    for column in range(SUMS):
        differences += tally.segments[segment, column] != tally.sums[column]
    return differences


@compiled
def reach(state: Any, tally: Any, place: int, base: int, mask: int) -> None:
    """Count a load or store of the lanes of a mask, of which there is one; the addresses are known to be good."""
    space, memory = state.code[place, Column.SPACE], state.code[place, Column.CLASS] - FIRST_MEMORY
    if space == SHARED:
        transactions, requests = _shared(state, tally, place, base, mask)
    elif space == GLOBAL:
        transactions, requests = _global(state, tally, place, base, mask)
    else:
        transactions, requests = _local(state, tally, place, base, mask)
    size = bytes_of(state, place)
    width = 0 if size <= 4 else 1 if size == 8 else 2
    tally.sums[Sum.TRANSACTIONS + memory] += transactions
    tally.sums[Sum.REQUESTS + memory * WIDTHS + width] += requests


@compiled
def _global(state: Any, tally: Any, place: int, base: int, mask: int) -> tuple[int, int]:
    """Sectors and requests; an aligned access never reaches into a second sector."""
    transactions, requests, store = 0, 0, int(state.code[place, Column.KIND] == Kind.STORE)
    for warp in range(state.masks.shape[1] // WARP):
        if _members(state, mask, warp):
            requests += 1
            tally.marks[Mark.SERIAL] += 1
            for lane in range(warp * WARP, warp * WARP + WARP):
                if state.masks[mask, lane]:
                    address = address_of(state, place, base, lane)
                    window = address >> WINDOW
                    sector = tally.places[window, store] + ((address - (window << WINDOW) - START) // SECTOR)
                    if tally.stamps[sector] < tally.marks[Mark.FIRST]:
                        tally.sectors[window, store] += 1
                    transactions += _stamped(tally, sector)
    return transactions, requests


@compiled
def _stamped(tally: Any, place: int) -> bool:
    """Stamp a place; gives whether the request at hand had not yet done so."""
    fresh = tally.stamps[place] != tally.marks[Mark.SERIAL]
    tally.stamps[place] = tally.marks[Mark.SERIAL]
    return fresh


@compiled
def _local(state: Any, tally: Any, place: int, base: int, mask: int) -> tuple[int, int]:
    """Sectors and requests: a warp's copies of one word lie side by side, so that eight threads' fill a sector."""
    transactions, requests = 0, 0
    for warp in range(state.masks.shape[1] // WARP):
        if _members(state, mask, warp):
            requests += 1
            tally.marks[Mark.SERIAL] += 1
            for lane in range(warp * WARP, warp * WARP + WARP):
                if state.masks[mask, lane]:
                    address = address_of(state, place, base, lane)
                    window, quarter = address >> WINDOW, lane % WARP // 8
                    offset = address - (window << WINDOW) - START
                    for word in range(offset // 4, (offset + bytes_of(state, place) + 3) // 4):
                        transactions += _stamped(tally, tally.places[window, 0] + word * 4 + quarter)
    return transactions, requests


@compiled
def _shared(state: Any, tally: Any, place: int, base: int, mask: int) -> tuple[int, int]:
    """Transactions and requests.

    Moving all addresses by the same number of words only renames the banks, so that what was counted for an
    instruction before often holds.
    """
    slot, lanes, first = state.code[place, Column.SLOT], state.masks.shape[1], first_of(state, mask)
    pattern, took = at(tally.patterns) + slot * lanes * 8, at(tally.lanes) + slot * lanes * 4
    row, moved = base + state.code[place, Column.A], address_of(state, place, base, first) - tally.patterns[slot, first]
    if moved % 4 or differing(
        lanes, mask_at(state, mask), took, row, pattern, moved - state.code[place, Column.OFFSET]
    ):
        tally.transactions[slot, 0] = _conflicts(state, tally, place, base, mask)
        tally.transactions[slot, 1] = 0
        for warp in range(lanes // WARP):
            tally.transactions[slot, 1] += _members(state, mask, warp) > 0
        for lane in range(lanes):
            tally.lanes[slot, lane] = state.masks[mask, lane]
            tally.patterns[slot, lane] = address_of(state, place, base, lane)
    return tally.transactions[slot, 0], tally.transactions[slot, 1]


@compiled
def _conflicts(state: Any, tally: Any, place: int, base: int, mask: int) -> int:
    """Transactions of an access to shared memory: wide ones are served half or a quarter of a warp at a time."""
    words = max(1, bytes_of(state, place) // 4)
    together = WARP // words
    transactions = 0
    for start in range(0, state.masks.shape[1], together):
        tally.marks[Mark.SERIAL] += 1
        for bank in range(BANKS):
            tally.banks[bank] = 0
        worst = 0
        for lane in range(start, start + together):
            if state.masks[mask, lane]:
                address = address_of(state, place, base, lane)
                window = address >> WINDOW
                word = (address - (window << WINDOW) - START) // 4
                for each in range(word, word + words):
                    if _stamped(tally, tally.places[window, 0] + each):
                        tally.banks[each % BANKS] += 1
                        worst = max(worst, tally.banks[each % BANKS])
        transactions += worst
    return transactions
