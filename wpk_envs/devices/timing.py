"""Timing two calls against each other on a machine that others use too.

One thread is timed by its own CPU time, which other processes hardly touch. That says nothing of a kernel
with several threads: there every sample is the fastest single call by the wall clock.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Call = Callable[[], Any]

SAMPLE_SECONDS = 2.5e-3
"""Shortest sample; faster calls are repeated within it."""

PAIRS = 20
FEWEST_PAIRS = 5
PAIRS_OF_SLOW = 5
SLOW = 0.33
"""A candidate slower than the baseline by more than this factor gets fewer pairs: its rank is clear."""

LONG_SECONDS = 0.4
"""Where `PAIRS` would take longer than this there are fewer: their samples are longer, too."""


def time_pair(
    candidate: Call, baseline: Call, threads: int = 1, repeats: int | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time two calls in turns; each must have run before.

    Args:
        candidate: The one whose time decides how many samples are worth their while.
        baseline: Timed right beside it.
        threads: Threads that a call uses.
        repeats: Pairs of samples; adaptive if none.

    Returns:
        Samples of the candidate and of the baseline, in microseconds of one call, position by position.
    """
    with no_garbage_collection():
        estimates = [estimate_seconds(call, threads) for call in (candidate, baseline)]
        pairs = repeats or worthwhile_pairs(*estimates)
        samples = interleave([candidate, baseline], estimates, pairs, threads)
    return tuple(samples[0]), tuple(samples[1])


def interleave(calls: Sequence[Call], estimates: Sequence[float], rounds: int, threads: int = 1) -> list[list[float]]:
    """Sample every call once a round, forwards and backwards in turns; microseconds by call."""
    counts = [max(1, math.ceil(SAMPLE_SECONDS / seconds)) for seconds in estimates]
    samples: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    for _ in range(rounds):
        for position in order:
            samples[position].append(1e6 * _sample(calls[position], counts[position], threads))
        order.reverse()
    return samples


def worthwhile_pairs(candidate_seconds: float, baseline_seconds: float) -> int:
    """How many pairs of samples a candidate deserves."""
    if candidate_seconds * SLOW > baseline_seconds:
        return PAIRS_OF_SLOW if candidate_seconds < LONG_SECONDS / PAIRS_OF_SLOW else 1
    pair = max(SAMPLE_SECONDS, candidate_seconds) + max(SAMPLE_SECONDS, baseline_seconds)
    return max(FEWEST_PAIRS, min(PAIRS, int(LONG_SECONDS / pair)))


def estimate_seconds(call: Call, threads: int = 1) -> float:
    """A first estimate of one call, from a few."""
    first = _sample(call, 1, threads)
    if first > SAMPLE_SECONDS:
        return first
    return max(1e-7, min(first, *(_sample(call, 3, threads) for _ in range(2))))


def _sample(call: Call, count: int, threads: int) -> float:
    """Seconds of one call: the mean of CPU time for one thread, the least wall time for more."""
    if threads == 1:
        started = time.thread_time()
        for _ in itertools.repeat(None, count):
            call()
        return (time.thread_time() - started) / count
    least = math.inf
    for _ in range(count):
        started = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - started)
    return least


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect no garbage while the block runs."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
