"""Choosing many configs of many operators at once: fair to each operator, and to each template of it."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

import numpy as np

from wpk_envs.schedules.space import INVALID_NODE, Prefix, ScheduleSpace

SMALL = 1 << 16
"""Spaces of so many configs are shuffled whole; larger ones are drawn from again and again."""


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """Split a number of configs over spaces: at least one each, else equally, but none gets more than it has.

    Args:
        sizes: How many configs each space has; the first ones get what does not divide.
        total: How many to split; as many as there are spaces if that is more.
    """
    given = [0] * len(sizes)
    left = min(max(total, len(sizes)), sum(sizes))
    while left:
        open_ones = [position for position, size in enumerate(sizes) if given[position] < size]
        each = max(1, left // len(open_ones))
        for position in open_ones[:left]:
            taken = min(each, sizes[position] - given[position], left)
            given[position] += taken
            left -= taken
    return given


def spread(space: ScheduleSpace, seed: int) -> Iterator[Prefix]:
    """All configs of a space in a random order that is fair to its templates.

    First one of each template, then by turns one from the whole space, every config being as likely, and one
    of the next template. A beginning of the order stays the same however much of it is taken.

    Args:
        space: Its configs come once each.
        seed: Of every random choice.
    """
    ranges = _template_ranges(space)
    streams = [_shuffled(*each, seed=[seed, number]) for number, each in enumerate(ranges, start=1)]
    everything = _shuffled(0, space.size, seed=[seed, 0])
    left = [end - start for start, end in ranges]
    seen: set[int] = set()
    for turn in _turns(len(ranges)):
        if turn is None or left[turn]:
            stream = everything if turn is None else streams[turn]
            rank = next(rank for rank in stream if rank not in seen)
            seen.add(rank)
            left[bisect.bisect([start for start, _ in ranges], rank) - 1] -= 1
            yield space.unrank(rank)
        if len(seen) == space.size:
            return


def _turns(templates: int) -> Iterator[int | None]:
    """Whose turn it is: a template's by number, or that of all together (none)."""
    yield from range(templates)
    while True:
        for template in range(templates):
            yield None
            yield template


def _template_ranges(space: ScheduleSpace) -> list[tuple[int, int]]:
    """First rank and end of each template's configs: the template is the first knob, so they lie side by side."""
    ranges, start = [], 0
    for option in range(len(space.encoding.knobs[0].options)):
        child = space.child(space.root, option)
        if child != INVALID_NODE:
            ranges.append((start, start + space.count(child)))
            start += space.count(child)
    return ranges


def _shuffled(start: int, end: int, seed: Sequence[int]) -> Iterator[int]:
    """Whole numbers from ``start`` to before ``end`` in random order; large ranges may repeat some."""
    rng, count = np.random.default_rng(list(seed)), end - start
    if count <= SMALL:
        yield from (start + int(number) for number in rng.permutation(count))
        return
    while True:
        yield start + int.from_bytes(rng.bytes(count.bit_length() // 8 + 9), "little") % count
