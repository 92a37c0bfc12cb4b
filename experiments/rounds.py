"""Calls timed beside each other in one process, round by round.

Every round times everybody once, forwards and backwards in turns, so that what the machine does meanwhile falls on all
alike; `experiments.turns` says how one is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.finals import CONFIDENCE, RESAMPLES, median_interval
from experiments.known import Ratio
from experiments.turns import Call, Timer
from wpk_envs.devices.timing import no_garbage_collection

FEWEST_ROUNDS = 5
MOST_ROUNDS = 100

SLOW = 10.0
"""A candidate slower than the fastest by more than this factor takes part in `ROUNDS_OF_SLOW` only."""

ROUNDS_OF_SLOW = 3
SHARE_OF_SLOW = 0.5
"""Share of the time that a slow candidate may have for them; where that is not enough for one, its estimate stands."""

Latencies = Mapping[str, tuple[float, ...]]
"""Microseconds of one call by name, a figure per round; slow candidates have those of the first rounds."""


@dataclass(frozen=True)
class Samples:
    """What candidates took.

    Attributes:
        passes: Latencies of every pass; each pass has other instances of the candidates.
        clock: What they were timed by, in words.
    """

    passes: tuple[Latencies, ...]
    clock: str

    @property
    def latencies_us(self) -> dict[str, tuple[float, ...]]:
        """Everything that was measured, by name."""
        names = dict.fromkeys(name for latencies in self.passes for name in latencies)
        return {name: tuple(value for each in self.passes for value in each.get(name, ())) for name in names}

    def latency_us(self, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.latencies_us[name])

    def fastest(self, names: Sequence[str]) -> str:
        """Whoever of some has the least median."""
        return min(names, key=self.latency_us)

    def ratio(self, name: str, beside: str) -> Ratio:
        """How many times as long as another one somebody took.

        Args:
            name: Who.
            beside: The other one.

        Returns:
            The median over the rounds that both took part in, with its 95% interval.
        """
        passes = [[one / other for one, other in zip(each.get(name, ()), each.get(beside, ()))] for each in self.passes]
        filled = [ratios for ratios in passes if ratios]
        every = [ratio for ratios in filled for ratio in ratios]
        return Ratio(statistics.median(every), *nested_interval(filled))


def together(samples: Iterable[Samples]) -> Samples:
    """Several passes as one whole."""
    several = list(samples)
    return Samples(tuple(latencies for each in several for latencies in each.passes), several[0].clock)


def nested_interval(groups: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float]:
    """The 95% bootstrap interval (percentile method) of the median of samples that come in groups.

    What one group has in common, such as where in memory the weights happened to lie, is no smaller for more samples
    of it; so groups are drawn with replacement first, then samples within each.
    """
    if len(groups) < 2:
        return median_interval(groups[0], seed)
    random = np.random.default_rng(seed)
    arrays = [np.asarray(group) for group in groups]
    medians = [
        np.median(np.concatenate([random.choice(arrays[place], len(arrays[place])) for place in drawn]))
        for drawn in random.integers(len(arrays), size=(RESAMPLES, len(arrays)))
    ]
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def measure(candidates: Mapping[str, Call], threads: int = 1, seconds: float = 20.0, kind: str = "cpu") -> Samples:
    """Time calls in turns, in one pass; each must have run before.

    Args:
        candidates: One inference each, by name.
        threads: Threads that an inference uses on a CPU.
        seconds: When to stop, after `FEWEST_ROUNDS` at least and `MOST_ROUNDS` at most.
        kind: Of device.
    """
    timer = Timer(threads == 1 and kind == "cpu")
    with no_garbage_collection():
        estimates = {name: timer.estimate(call) for name, call in candidates.items()}
        rounds = {name: _rounds(estimate, min(estimates.values()), seconds) for name, estimate in estimates.items()}
        samples = {name: [] if rounds[name] else [1e6 * estimates[name]] for name in candidates}
        order, deadline = list(candidates), time.perf_counter() + seconds
        for number in range(MOST_ROUNDS):
            if number >= FEWEST_ROUNDS and time.perf_counter() >= deadline:
                break
            for name in order:
                if number < rounds[name]:
                    samples[name].append(1e6 * timer.turn(candidates[name], estimates[name]))
            order.reverse()
    return Samples(({name: tuple(values) for name, values in samples.items()},), timer.clock)


def _rounds(estimate: float, fastest: float, seconds: float) -> int:
    """How many rounds a candidate takes part in, from what one inference takes."""
    if estimate <= SLOW * fastest:
        return MOST_ROUNDS
    return min(ROUNDS_OF_SLOW, int(SHARE_OF_SLOW * seconds / estimate))
