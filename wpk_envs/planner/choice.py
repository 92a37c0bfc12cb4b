"""The shortlist: an implementation and layouts for every node, by dynamic programming over costs measured alone.

Nodes are taken in order; what matters of the past is only in which layouts the tensors lie that are still to be read.
Of all ways to come to the same layouts the cheapest is kept. That is exact as long as there are few of them, and where
branches of a model meet there are; only a conversion that several readers share counts once for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wpk_envs.errors import UserError
from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Node
from wpk_envs.planner.implementation import Implementation
from wpk_envs.planner.offering import Offers

MOST_STATES = 1000
"""The cheapest that many are followed."""

State = tuple[tuple[str, str], ...]
"""Layout by tensor, of the tensors that are still to be read."""


@dataclass(frozen=True)
class Choice:
    """An implementation for every node.

    Attributes:
        chosen: By name of the node.
        cost_us: The sum of all costs, conversions included.
    """

    chosen: dict[str, Implementation]
    cost_us: float


@dataclass(frozen=True)
class _Way:
    """The cheapest way to a state."""

    cost_us: float
    last: Implementation | None = None
    before: _Way | None = None


def choose(offers: Offers, allowed: Sequence[str], step: Callable[[int, int], None] = lambda done, of: None) -> Choice:
    """The cheapest implementations whose layouts are all allowed.

    Costs are measured only where they decide: as long as an offer was not measured it counts with what is hoped for,
    and if it is then chosen it is measured, and everything is chosen anew.

    Args:
        offers: Everything that was offered.
        allowed: The layouts.
        step: Told after every node how many are done, of how many.

    Raises:
        UserError: If some node has no offer in these layouts.
    """
    graph = offers.graph
    while True:
        choice = _cheapest_ways(offers, allowed, step)
        open_ones = [
            (node, choice.chosen[node.name])
            for node in graph.nodes
            if offers.known_cost_us(node, choice.chosen[node.name]) is None
        ]
        if not open_ones:
            return choice
        for number, (node, offer) in enumerate(open_ones, start=1):
            offers.cost_us(node, offer)
            step(number, len(open_ones))


def hoped_us(offers: Offers, node: Node, offer: Implementation) -> float:
    """An offer's cost if it is known; else that of the same schedule in other layouts, or when it was tuned."""
    known = offers.known_cost_us(node, offer)
    if known is not None:
        return known
    candidate = offer.settings.get("candidate")
    if candidate is None:
        return offers.cost_us(node, offer)
    others = [
        offers.known_cost_us(node, each) for each in offers.of(node) if each.settings.get("candidate") == candidate
    ]
    measured = [cost for cost in others if cost is not None]
    if measured:
        return min(measured)
    tuned = offer.settings["tuned_us"]
    return offers.cost_us(node, offer) if tuned is None else float(tuned)


def _cheapest_ways(offers: Offers, allowed: Sequence[str], step: Callable[[int, int], None]) -> Choice:
    graph = offers.graph
    left = graph.uses()
    ways: dict[State, _Way] = {tuple(sorted((name, layouts.PLAIN) for name in graph.inputs if left[name])): _Way(0.0)}
    for number, node in enumerate(graph.nodes, start=1):
        options = _options(offers, node, allowed)
        left.subtract(node.inputs)
        ways = _onward(offers, node, options, ways, left)
        step(number, len(graph.nodes))
    (cost, way) = min(
        ((way.cost_us + _ending(offers, state), way) for state, way in ways.items()), key=lambda each: each[0]
    )
    return Choice(dict(zip([node.name for node in graph.nodes], _path(way))), cost)


def _options(offers: Offers, node: Node, allowed: Sequence[str]) -> list[tuple[Implementation, float]]:
    """The cheapest offer for every combination of layouts."""
    best: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Implementation, float]] = {}
    for offer in offers.of(node):
        if not all(layout in allowed for layout in (*offer.inputs, *offer.outputs)):
            continue
        cost, signature = hoped_us(offers, node, offer), (offer.inputs, offer.outputs)
        if signature not in best or cost < best[signature][1]:
            best[signature] = (offer, cost)
    if not best:
        raise UserError(
            f"nothing computes {node.name} ({node.op}) in the layouts {', '.join(allowed)}; allow more layouts"
        )
    return list(best.values())


def _onward(
    offers: Offers,
    node: Node,
    options: Sequence[tuple[Implementation, float]],
    ways: dict[State, _Way],
    left: dict[str, int],
) -> dict[State, _Way]:
    activations = offers.graph.activations(node)
    onward: dict[State, _Way] = {}
    for state, way in ways.items():
        lies = dict(state)
        kept = {name: layout for name, layout in lies.items() if left[name] > 0}
        for offer, cost in options:
            total = way.cost_us + cost
            for name, wanted in zip(activations, offer.inputs):
                total += _conversion_us(offers, name, lies[name], wanted)
            made = {name: layout for name, layout in zip(node.outputs, offer.outputs) if left[name] > 0}
            reached = tuple(sorted({**kept, **made}.items()))
            if reached not in onward or total < onward[reached].cost_us:
                onward[reached] = _Way(total, offer, way)
    cheapest = sorted(onward.items(), key=lambda each: each[1].cost_us)
    return dict(cheapest[:MOST_STATES])


def _ending(offers: Offers, state: State) -> float:
    """The conversions of the graph's outputs, which its caller gets in the plain layout."""
    lies = dict(state)
    wanted = [name for name in offers.graph.outputs if name in lies]
    return sum(_conversion_us(offers, name, lies[name], layouts.PLAIN) for name in wanted)


def _conversion_us(offers: Offers, name: str, source: str, sink: str) -> float:
    if source == sink:
        return 0.0
    return offers.conversion(offers.graph.tensors[name], source, sink).cost_us or 0.0


def _path(way: _Way) -> list[Implementation]:
    found = []
    while way.before is not None and way.last is not None:
        found.append(way.last)
        way = way.before
    return found[::-1]
