"""One turn of a candidate that is timed among others in the same process.

A turn begins with a pause until no thread of the one before is busy any more, and with an inference that is not timed,
since the others have driven its weights from the caches. One thread is timed by the CPU time of the process, which
other processes hardly touch and which counts the threads that some runtimes compute in; more threads, and GPUs, by the
wall clock, of which a turn's fastest inference is taken.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

from wpk_envs.devices.timing import SAMPLE_SECONDS

Call = Callable[[], Any]

ESTIMATES = 3
LONG_SECONDS = 0.5
"""An inference that takes longer is not repeated for an estimate, and has no need of warm caches."""

PAUSE_SECONDS = 2e-3
LONGEST_PAUSE = 0.25
BUSY_SHARE = 0.15
"""Share of a pause that the process may be busy for; going to sleep and waking up take some of it."""


class Timer:
    """Times inferences.

    Args:
        by_cpu_time: By the process's CPU time, else by the wall clock.

    Attributes:
        clock: What times are of, in words.
    """

    def __init__(self, by_cpu_time: bool) -> None:
        self._by_cpu_time = by_cpu_time
        self.clock = "CPU time of the process" if by_cpu_time else "wall clock, the fastest inference of each turn"

    def turn(self, call: Call, estimate: float) -> float:
        """Seconds of one inference, when the others are quiet and its own data are back in the caches.

        Args:
            call: One inference.
            estimate: What it takes, in seconds; quick ones are repeated.
        """
        wait_for_quiet()
        if estimate < LONG_SECONDS:
            call()
        return self._sample(call, max(1, math.ceil(SAMPLE_SECONDS / estimate)))

    def estimate(self, call: Call) -> float:
        """Seconds of one inference, from a few."""
        wait_for_quiet()
        first = self._sample(call, 1)
        return first if first > LONG_SECONDS else min(first, *(self._sample(call, 1) for _ in range(ESTIMATES - 1)))

    def _sample(self, call: Call, count: int) -> float:
        """Seconds of one inference: the mean of CPU time, the least of wall time."""
        if self._by_cpu_time:
            started = time.process_time()
            for _ in itertools.repeat(None, count):
                call()
            return max(1e-9, (time.process_time() - started) / count)
        least = math.inf
        for _ in itertools.repeat(None, count):
            started = time.perf_counter()
            call()
            least = min(least, time.perf_counter() - started)
        return least


def wait_for_quiet() -> None:
    """Wait until no thread of this process is busy: idle pools spin for a while, at the expense of whoever is next."""
    deadline = time.perf_counter() + LONGEST_PAUSE
    while time.perf_counter() < deadline:
        busy = time.process_time()
        time.sleep(PAUSE_SECONDS)
        if time.process_time() - busy < BUSY_SHARE * PAUSE_SECONDS:
            return
