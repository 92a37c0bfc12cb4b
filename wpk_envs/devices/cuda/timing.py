"""Timing calls against each other on a GPU, in turns, with cold caches and with hot ones.

*cold*: the L2 cache is written over before every single call, and CUDA events stand right around the call. The
flushes go on for longer than the host needs to start the call, so that it is started ahead of time and the
host does not count.

*hot*: a CUDA graph replays the call many times between two events, so that the host starts only once and what
one call leaves in the cache the next one finds there.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wpk_envs.devices.cuda.gpu import Call, Gpu, Protocol
from wpk_envs.devices.timing import worthwhile_pairs

HOT_SAMPLE_US = 500.0
"""Shortest sample of the hot protocol; faster calls are replayed more often."""

MOST_REPLAYS = 200
"""Nodes of one graph."""

AHEAD = 2.0
"""The flushes take so many times as long as the host needs to start a call."""

MOST_FLUSHES = 64

WARM_UP_US = 5_000.0
"""Calls run for so long before they are timed: the GPU's clock rises under load."""

MOST_WARM_UPS = 50

OTHER_ROUNDS = 5
"""Samples by the protocol that was not chosen."""


@dataclass(frozen=True)
class Timing:
    """What was found of a candidate and the baseline beside it, position by position.

    Attributes:
        samples_us: Latencies of the candidate by the chosen protocol.
        baseline_us: Those of the baseline; empty without one.
        details: The chosen protocol, and the medians by the other one.
    """

    samples_us: tuple[float, ...]
    baseline_us: tuple[float, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


class Timed:
    """A call that has run before, and what was found out about it.

    Args:
        watch: The stopwatch of its GPU.
        call: Puts the work on the GPU.
    """

    def __init__(self, watch: Stopwatch, call: Call) -> None:
        self._watch = watch
        self._call = call
        self._replay: tuple[Call, int] | None = None
        self.seconds, host_us = self._estimate()
        self._flushes = min(MOST_FLUSHES, math.ceil(AHEAD * host_us / watch.flush_us))

    def sample(self, protocol: Protocol) -> tuple[Any, Any, int]:
        """Put one sample on the GPU: marks before and after, and the calls between them."""
        gpu = self._watch.gpu
        if protocol == "hot":
            call, count = self._graph()
        else:
            call, count = self._call, 1
            for _ in range(self._flushes):
                gpu.flush()
        start = gpu.mark()
        call()
        return start, gpu.mark(), count

    def _graph(self) -> tuple[Call, int]:
        if self._replay is None:
            count = min(MOST_REPLAYS, math.ceil(HOT_SAMPLE_US / (1e6 * self.seconds)))
            self._replay = self._watch.gpu.repeated(self._call, count), count
            self._replay[0]()  # the first replay brings the graph onto the GPU
        return self._replay

    def _estimate(self) -> tuple[float, float]:
        """Seconds of a call on the GPU, and microseconds of the host to start it and its marks; warms up, too."""
        gpu, took, host = self._watch.gpu, math.inf, math.inf
        spent, calls = 0.0, 0
        while calls < 3 or (spent < WARM_UP_US and calls < MOST_WARM_UPS):
            begun = time.perf_counter()
            start = gpu.mark()
            self._call()
            end = gpu.mark()
            host = min(host, 1e6 * (time.perf_counter() - begun))
            gpu.synchronize()
            one = gpu.elapsed_us(start, end)
            took, spent, calls = min(took, one), spent + one, calls + 1
            if one > WARM_UP_US * 10:
                break
        return max(1e-7, took / 1e6), host


class Stopwatch:
    """Times calls on one GPU.

    Args:
        gpu: The GPU.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.flush_us = self._time_flush()

    def pair(self, candidate: Timed, baseline: Timed | None, protocol: Protocol, repeats: int | None = None) -> Timing:
        """Time a candidate, and the baseline in turns with it.

        Args:
            candidate: The one whose time decides how many samples are worth their while.
            baseline: Timed right beside it; none if there is none.
            protocol: The way that samples are taken; the GPU's other one gives medians in `Timing.details`.
            repeats: Pairs of samples; adaptive if none.
        """
        both = [candidate] if baseline is None else [candidate, baseline]
        rounds = repeats or worthwhile_pairs(candidate.seconds, both[-1].seconds)
        samples = self.interleave(both, protocol, rounds)
        details: dict[str, Any] = {"protocol": protocol}
        for other in self.gpu.protocols:
            if other != protocol:
                medians = [statistics.median(each) for each in self.interleave(both, other, min(rounds, OTHER_ROUNDS))]
                details |= dict(zip((f"{other}_us", f"{other}_baseline_us"), medians))
        return Timing(tuple(samples[0]), tuple(samples[1]) if baseline is not None else (), details)

    def interleave(self, calls: Sequence[Timed], protocol: Protocol, rounds: int) -> list[list[float]]:
        """Sample every call once a round, forwards and backwards in turns; microseconds of one call, by call."""
        taken: list[list[tuple[Any, Any, int]]] = [[] for _ in calls]
        order = list(range(len(calls)))
        for _ in range(rounds):
            for position in order:
                taken[position].append(calls[position].sample(protocol))
            order.reverse()
        self.gpu.synchronize()
        return [[self.gpu.elapsed_us(start, end) / count for start, end, count in each] for each in taken]

    def _time_flush(self) -> float:
        """Microseconds of one flush."""
        took = []
        for _ in range(3):
            start = self.gpu.mark()
            for _ in range(10):
                self.gpu.flush()
            end = self.gpu.mark()
            self.gpu.synchronize()
            took.append(self.gpu.elapsed_us(start, end) / 10)
        return max(0.1, min(took))
