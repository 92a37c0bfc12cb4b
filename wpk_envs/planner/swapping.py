"""The verdict: candidates are swapped in the whole running plan, because timings alone promise too much.

The plan runs again and again, each time with other candidates at its steps, and every step is timed where it stands:
with the caches as the steps before leave them. Steps of the same case are swapped together and share their samples.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from wpk_envs.devices.timing import no_garbage_collection
from wpk_envs.planner.assembly import CONVERT, Assembly, Step
from wpk_envs.planner.choice import hoped_us
from wpk_envs.planner.implementation import Call, Implementation, Provider
from wpk_envs.planner.offering import Offers, case_of
from wpk_envs.planner.program import Constants, Program, describe_step

ALTERNATIVES = 4
"""Candidates of a case that are swapped, the chosen one included."""

PROMISING = 1.5
"""Candidates slower than that many times the fastest, timed alone, are left out."""


@dataclass(frozen=True)
class Standing:
    """How the candidates of a case did in the plan.

    Attributes:
        steps: Names of the nodes that share the case and its layouts.
        candidates: The fastest first.
        latencies_us: Median over the rounds of one step's latency, by candidate.
        alone_us: What each was hoped to take alone.
    """

    steps: tuple[str, ...]
    candidates: tuple[Implementation, ...]
    latencies_us: tuple[float, ...]
    alone_us: tuple[float, ...]


class Swapping:
    """Candidates for the steps of one assembly.

    Args:
        offers: All offers of the graph.
        assembly: The plan that runs.
        program: The same, bound.
        offering: Providers by name.
        step: Told after every case whose candidates were compiled and bound how many are, of how many.
    """

    def __init__(
        self,
        offers: Offers,
        assembly: Assembly,
        program: Program,
        offering: Mapping[str, Provider],
        step: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        self._program = program
        self._groups = _groups(offers, assembly)
        self._calls: list[list[list[Call]]] = []
        for number, group in enumerate(self._groups, start=1):
            self._calls.append([
                [self._bound(assembly, assembly.steps[position], candidate, offering) for position in group.positions]
                for candidate in group.candidates
            ])  # fmt: skip
            step(number, len(self._groups))

    def _bound(
        self, assembly: Assembly, step: Step, candidate: Implementation, offering: Mapping[str, Provider]
    ) -> Call:
        constants = Constants()
        described = describe_step(replace(step, implementation=candidate), assembly, constants, offering)
        return self._program.bind(described, constants.arrays)

    def run(self, rounds: int) -> list[Standing]:
        """Swap for a number of rounds; the program has its own calls again afterwards."""
        before = list(self._program.calls)
        samples: list[list[list[float]]] = [[[] for _ in group.candidates] for group in self._groups]
        with no_garbage_collection():
            for turn in range(rounds * ALTERNATIVES):
                playing = [(turn + number) % len(group.candidates) for number, group in enumerate(self._groups)]
                self._place(playing)
                took = self._program.runtime.each_us(self._program.calls)
                for number, group in enumerate(self._groups):
                    each = [took[position] for position in group.positions]
                    samples[number][playing[number]].append(statistics.fmean(each))
        self._program.calls[:] = before
        return [group.standing(found) for group, found in zip(self._groups, samples)]

    def _place(self, playing: Sequence[int]) -> None:
        for number, group in enumerate(self._groups):
            for position, call in zip(group.positions, self._calls[number][playing[number]]):
                self._program.calls[position] = call


@dataclass(frozen=True)
class _Group:
    """Steps of one case in the same layouts, and who may compute them."""

    positions: tuple[int, ...]
    names: tuple[str, ...]
    candidates: tuple[Implementation, ...]
    alone_us: tuple[float, ...]

    def standing(self, samples: Sequence[Sequence[float]]) -> Standing:
        medians = [statistics.median(each) for each in samples]
        order = sorted(range(len(medians)), key=medians.__getitem__)
        return Standing(
            self.names,
            tuple(self.candidates[index] for index in order),
            tuple(medians[index] for index in order),
            tuple(self.alone_us[index] for index in order),
        )


def _groups(offers: Offers, assembly: Assembly) -> list[_Group]:
    found: dict[tuple[object, ...], list[int]] = {}
    for position, step in enumerate(assembly.steps):
        if step.node.op == CONVERT:
            key: tuple[object, ...] = (position,)
        else:
            key = (case_of(assembly.graph, step.node), step.implementation.inputs, step.implementation.outputs)
        found.setdefault(key, []).append(position)
    return [_group(offers, assembly, positions) for positions in found.values()]


def _group(offers: Offers, assembly: Assembly, positions: Sequence[int]) -> _Group:
    step = assembly.steps[positions[0]]
    chosen = step.implementation
    names = tuple(assembly.steps[position].node.name for position in positions)
    if step.node.op == CONVERT:
        return _Group(tuple(positions), names, (chosen,), (chosen.cost_us or 0.0,))
    alike = [
        offer for offer in offers.of(step.node) if (offer.inputs, offer.outputs) == (chosen.inputs, chosen.outputs)
    ]
    costs = {index: hoped_us(offers, step.node, offer) for index, offer in enumerate(alike)}
    order = sorted(costs, key=costs.__getitem__)
    kept = [index for index in order if costs[index] <= PROMISING * costs[order[0]]][:ALTERNATIVES]
    return _Group(tuple(positions), names, tuple(alike[index] for index in kept), tuple(costs[index] for index in kept))
