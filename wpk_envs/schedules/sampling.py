"""Choosing many configs of many operators at once: fair to each operator, and to each template of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from wpk_envs.schedules.defaults import nearest
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
    """All configs of a space, fair to its templates: their documented defaults, then a random order.

    First one of each template, its default schedule if it has one; then by turns one from the whole space, every
    config being as likely, and one of the next template. A beginning of the order stays the same however much of
    it is taken.

    Args:
        space: Its configs come once each.
        seed: Of every random choice.
    """
    ranges = _template_ranges(space)
    streams = {option: _shuffled(*ends, seed=[seed, option + 1]) for option, ends in ranges.items()}
    everything = _shuffled(0, space.size, seed=[seed, 0])
    left = {option: end - start for option, (start, end) in ranges.items()}
    seen: set[Prefix] = set()
    for turn, option in enumerate(_turns(list(ranges))):
        if option is None or left[option]:
            stream = everything if option is None else streams[option]
            vector = _default(space, option) if option is not None and turn < len(ranges) else None
            vector = vector or next(vector for vector in map(space.unrank, stream) if vector not in seen)
            seen.add(vector)
            left[vector[0]] -= 1
            yield vector
        if len(seen) == space.size:
            return


def _turns(templates: Sequence[int]) -> Iterator[int | None]:
    """Whose turn it is: a template's, by its option, each once; then that of all together (none) in between."""
    yield from templates
    for template in itertools.cycle(templates):
        yield None
        yield template


def _default(space: ScheduleSpace, option: int) -> Prefix | None:
    """The valid config nearest to a template's documented default; none if it has no default."""
    name = space.encoding.knobs[0].options[option]
    default = space.templates[str(name)].default
    found = nearest(space, {"template": name, **default}) if default else None
    return found if found and found[0] == option else None


def _template_ranges(space: ScheduleSpace) -> dict[int, tuple[int, int]]:
    """First rank and end of each template's configs, by its option: as the first knob it keeps them side by side."""
    ranges, start = {}, 0
    for option in range(len(space.encoding.knobs[0].options)):
        child = space.child(space.root, option)
        if child != INVALID_NODE:
            ranges[option] = (start, start + space.count(child))
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
