"""Whole models timed beside each other in one process: a plan and its peers, round by round.

Every round times everybody once, forwards and backwards in turns, so that what the machine does meanwhile falls on all
alike; `experiments.turns` says how one is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.finals import median_interval
from experiments.known import Ratio
from experiments.peers import Peer, Prepared, attempt, max_abs_error
from experiments.turns import Call, Timer
from wpk_envs.devices.timing import no_garbage_collection
from wpk_envs.planner.importing import Source

PLAN = "plan"
"""What the plan is called among the candidates."""

FEWEST_ROUNDS = 7
MOST_ROUNDS = 200

SLOW = 10.0
"""A candidate slower than the fastest by more than this factor takes part in `ROUNDS_OF_SLOW` only."""

ROUNDS_OF_SLOW = 3
SHARE_OF_SLOW = 0.25
"""Share of the time that a slow candidate may have for them; one round it has in any case."""


@dataclass(frozen=True)
class Samples:
    """What candidates took.

    Attributes:
        latencies_us: Of one inference by name, a figure per round; slow candidates have those of the first rounds.
        clock: What they were timed by, in words.
    """

    latencies_us: Mapping[str, tuple[float, ...]]
    clock: str

    def latency_us(self, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.latencies_us[name])

    def fastest(self, names: Sequence[str]) -> str:
        """Whoever of some has the least median."""
        return min(names, key=self.latency_us)

    def ratio(self, name: str, plan: str = PLAN) -> Ratio:
        """How many times as long as the plan somebody took: the median over the rounds with its 95% interval."""
        ratios = [theirs / own for theirs, own in zip(self.latencies_us[name], self.latencies_us[plan])]
        return Ratio(statistics.median(ratios), *median_interval(ratios))


def measure(candidates: Mapping[str, Call], threads: int = 1, seconds: float = 20.0, kind: str = "cpu") -> Samples:
    """Time calls in turns; each must have run before.

    Args:
        candidates: One inference each, by name.
        threads: Threads that an inference uses on a CPU.
        seconds: When to stop, after `FEWEST_ROUNDS` at least and `MOST_ROUNDS` at most.
        kind: Of device.
    """
    timer = Timer(threads == 1 and kind == "cpu")
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    with no_garbage_collection():
        estimates = {name: timer.estimate(call) for name, call in candidates.items()}
        rounds = {name: _rounds(estimate, min(estimates.values()), seconds) for name, estimate in estimates.items()}
        order, deadline = list(candidates), time.perf_counter() + seconds
        for number in range(MOST_ROUNDS):
            if number >= FEWEST_ROUNDS and time.perf_counter() >= deadline:
                break
            for name in order:
                if number < rounds[name]:
                    samples[name].append(1e6 * timer.turn(candidates[name], estimates[name]))
            order.reverse()
    return Samples({name: tuple(values) for name, values in samples.items()}, timer.clock)


def _rounds(estimate: float, fastest: float, seconds: float) -> int:
    """How many rounds a candidate takes part in, from what one inference takes."""
    if estimate <= SLOW * fastest:
        return MOST_ROUNDS
    return max(1, min(ROUNDS_OF_SLOW, int(SHARE_OF_SLOW * seconds / estimate)))


@dataclass(frozen=True)
class ModelRow:
    """How the plan of one model did beside its peers.

    Attributes:
        model: Its name.
        samples: Of the plan, by the name `PLAN`, and of the peers, by theirs.
        errors: Largest absolute error of each one's outputs against the framework's, by name.
        about: Version and settings of the peers that have samples, by name.
        failed: Peers that have none, and why, in a sentence.
    """

    model: str
    samples: Samples
    errors: Mapping[str, float]
    about: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the peers that were measured."""
        return tuple(name for name in self.samples.latencies_us if name != PLAN)

    @property
    def fastest_peer(self) -> str | None:
        """Who has the least median latency; none without peers."""
        return self.samples.fastest(self.peers) if self.peers else None

    def figures(self) -> dict[str, Any]:
        """Every number of the model as plain data, null where nothing was measured."""
        fastest = self.fastest_peer
        ratio = None if fastest is None else self.samples.ratio(fastest)
        return {
            "model": self.model,
            "plan_us": self.samples.latency_us(PLAN),
            "peers": {name: self._peer(name) for name in self.peers},
            "fastest_peer": fastest,
            "ratio_to_fastest_peer": ratio and ratio.value,
            "ratio_low": ratio and ratio.low,
            "ratio_high": ratio and ratio.high,
            "max_abs_error": self.errors[PLAN],
            "failed_peers": dict(self.failed),
            "clock": self.samples.clock,
            "samples_us": {name: list(values) for name, values in self.samples.latencies_us.items()},
        }

    def _peer(self, name: str) -> dict[str, Any]:
        about = self.about.get(name, "")
        return {
            "latency_us": self.samples.latency_us(name),
            "max_abs_error": self.errors[name],
            "about": about,
        }


def beside_peers(
    source: Source,
    plan: Prepared,
    peers: Sequence[Peer],
    reference: Sequence[np.ndarray],
    threads: int = 1,
    seconds: float = 20.0,
    kind: str = "cpu",
) -> ModelRow:
    """Make a model ready with every peer, check what they compute and time them beside the plan.

    Args:
        source: The model.
        plan: The plan, bound to the source's example inputs.
        peers: Whom it is measured beside; one that fails is a sentence in the row.
        reference: What the framework computes for the source's example inputs.
        threads: Threads of one inference on a CPU.
        seconds: For the timing.
        kind: Of device.
    """
    ready, failed = {PLAN: plan}, {}
    errors = {PLAN: max_abs_error(plan.outputs(), reference)}
    for peer in peers:
        found = attempt(peer, source, threads, reference)
        if isinstance(found, str):
            failed[peer.name] = found
        else:
            ready[peer.name], errors[peer.name] = found
    samples = measure({name: each.run for name, each in ready.items()}, threads, seconds, kind)
    about = {name: f"{each.version}, {each.settings}" for name, each in ready.items() if name != PLAN}
    return ModelRow(source.name, samples, errors, about, failed)
