"""Whole models: a plan measured beside its peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.peers import Peer, Prepared, attempt
from experiments.rounds import Samples, measure, together
from wpk_envs.planner.checking import max_abs_error
from wpk_envs.planner.importing import Source

PLAN = "plan"
"""What the plan is called among the candidates."""

PASSES = 5
"""The same model made ready twice by the same runtime differs by a few percent, whatever the number of rounds: by where
in memory everything happens to lie. So it is made ready anew for every pass, and the intervals are over passes, too."""

QUICK_SECONDS = 4.0
"""A peer that takes longer to make a model ready does so once."""


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
        ratio = None if fastest is None else self.samples.ratio(fastest, PLAN)
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
            "samples_us": [
                {name: list(values) for name, values in latencies.items()} for latencies in self.samples.passes
            ],
        }

    def _peer(self, name: str) -> dict[str, Any]:
        latency, error = self.samples.latency_us(name), self.errors[name]
        return {"latency_us": latency, "max_abs_error": error, "about": self.about.get(name, "")}


def beside_peers(
    source: Source,
    load: Callable[[], Prepared],
    peers: Sequence[Peer],
    reference: Sequence[np.ndarray],
    threads: int = 1,
    seconds: float = 20.0,
    kind: str = "cpu",
    tell: Callable[[str], None] = lambda words: None,
) -> ModelRow:
    """Make a model ready with every peer, check what they compute and time them beside the plan.

    Args:
        source: The model.
        load: Loads the plan and binds it to the source's example inputs, anew at every call.
        peers: Whom it is measured beside; one that fails is a sentence in the row.
        reference: What the framework computes for the source's example inputs.
        threads: Threads of one inference on a CPU.
        seconds: For the timing; making ready comes on top.
        kind: Of device.
        tell: Told what is being done.
    """
    race = _Race(source, load, peers, reference, threads)
    passes = []
    for number in range(1, PASSES + 1):
        race.make_ready(tell)
        tell(f"{source.name}: timing the plan and its peers, pass {number} of {PASSES}")
        calls = {name: each.run for name, each in race.ready.items()}
        passes.append(measure(calls, threads, seconds / PASSES, kind))
        race.dismiss_slow(passes[-1])
    return ModelRow(source.name, together(passes), race.errors, race.about, race.failed)


class _Race:
    """A plan and its peers.

    Attributes:
        ready: Who takes part in the next pass, by name.
        errors: The largest absolute error of everybody who is or was ready.
        about: Version and settings of the peers among them.
        failed: Why the other peers never were.
    """

    def __init__(
        self,
        source: Source,
        load: Callable[[], Prepared],
        peers: Sequence[Peer],
        reference: Sequence[np.ndarray],
        threads: int,
    ) -> None:
        self._source, self._load, self._reference, self._threads = source, load, reference, threads
        self._again = list(peers)
        self.ready: dict[str, Prepared] = {}
        self.errors: dict[str, float] = {}
        self.about: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def make_ready(self, tell: Callable[[str], None]) -> None:
        """Make the model ready anew with the plan and all who are quick at it, one beside its predecessor."""
        plan = self._load()
        self._enter(PLAN, plan, max_abs_error(plan.outputs(), self._reference))
        for peer in list(self._again):
            tell(f"{self._source.name}: making it ready with {peer.label}")
            started = time.perf_counter()
            found = attempt(peer, self._source, self._threads, self._reference)
            if isinstance(found, str):
                if peer.name not in self.ready:
                    self.failed[peer.name] = found
            else:
                self._enter(peer.name, *found)
                self.about[peer.name] = f"{found[0].version}, {found[0].settings}"
            if isinstance(found, str) or time.perf_counter() - started > QUICK_SECONDS:
                self._again.remove(peer)

    def _enter(self, name: str, prepared: Prepared, error: float) -> None:
        self.ready[name] = prepared
        self.errors[name] = max(error, self.errors.get(name, 0.0))

    def dismiss_slow(self, samples: Samples) -> None:
        """Leave those out of later passes who had fewer rounds than others: what they take is clear."""
        rounds = {name: len(values) for name, values in samples.latencies_us.items()}
        for name in rounds.keys() - {PLAN}:
            if rounds[name] < max(rounds.values()):
                del self.ready[name]
                self._again = [peer for peer in self._again if peer.name != name]
