"""The shortlist against trying everything; a synthetic provider makes offers with made-up costs."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planner_graphs import Builder
from wpk_envs.core import DeviceInfo
from wpk_envs.errors import UserError
from wpk_envs.planner import offering
from wpk_envs.planner.choice import choose
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Implementation, Target
from wpk_envs.planner.offering import Offers, case_of

LAYOUTS = ("plain", "NHWC")
DEVICE = DeviceInfo("cpu", "synthetic", {}, {"vector_lanes": 16})


class SyntheticOffers(Offers):
    """Every node in every pair of layouts, at random costs; conversions at a fixed one."""

    def __init__(self, graph: Graph, seed: int, conversion_us: float) -> None:
        super().__init__(graph, {}, Target(DEVICE, LAYOUTS), None)  # type: ignore[arg-type]
        rng = np.random.default_rng(seed)
        self._by_node = {node.name: list(self._random_offers(graph, node, rng)) for node in graph.nodes}
        self._conversion_us = conversion_us
        self.measured: set[str] = set()

    def _random_offers(self, graph: Graph, node: Node, rng: np.random.Generator):
        count = len(graph.activations(node))
        for number, pair in enumerate(itertools.product(LAYOUTS, LAYOUTS)):
            cost = float(rng.integers(1, 20))
            settings = {"candidate": f"{node.name}{pair}", "tuned_us": 0.0} if number % 2 else {}
            yield Implementation("synthetic", f"{node.name}{pair}", (pair[0],) * count, (pair[1],), settings, cost)

    def of(self, node: Node) -> list[Implementation]:
        return self._by_node[node.name]

    def cost_us(self, node: Node, offer: Implementation) -> float:
        self.measured.add(offer.label)
        assert offer.cost_us is not None
        return offer.cost_us

    def known_cost_us(self, node: Node, offer: Implementation) -> float | None:
        return offer.cost_us if offer.label in self.measured else None

    def conversion(self, tensor: Tensor, source: str, sink: str) -> Implementation:
        return Implementation("synthetic", "convert", (source,), (sink,), {}, self._conversion_us)


def branching(joins: list[int]) -> Graph:
    """A chain in which every step also reads an earlier tensor."""
    b = Builder()
    made = [b.input(1, 2, 3, 3)]
    for join in joins:
        made.append(b.binary("add", made[-1], made[join % len(made)]))
    return b.graph(made[-1], made[len(made) // 2])


def cost_of(offers: SyntheticOffers, chosen: dict[str, Implementation]) -> float:
    lies = dict.fromkeys(offers.graph.inputs, "plain")
    total = 0.0
    for node in offers.graph.nodes:
        offer = chosen[node.name]
        wanted = zip(offers.graph.activations(node), offer.inputs)
        total += (offer.cost_us or 0.0) + sum(offers._conversion_us for name, layout in wanted if lies[name] != layout)
        lies[node.output] = offer.outputs[0]
    return total + sum(offers._conversion_us for name in offers.graph.outputs if lies[name] != "plain")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 1000), st.sampled_from([0.0, 3.0, 30.0]))
def test_nothing_is_cheaper_than_the_choice(joins: list[int], seed: int, conversion_us: float) -> None:
    graph = branching(joins)
    offers = SyntheticOffers(graph, seed, conversion_us)
    choice = choose(offers, LAYOUTS)
    every = itertools.product(*(offers.of(node) for node in graph.nodes))
    least = min(cost_of(offers, dict(zip([node.name for node in graph.nodes], each))) for each in every)
    assert choice.cost_us == pytest.approx(least)
    assert cost_of(offers, choice.chosen) == pytest.approx(least)


def test_only_allowed_layouts_are_chosen() -> None:
    offers = SyntheticOffers(branching([0, 1, 2]), 3, 1.0)
    chosen = choose(offers, ("plain",)).chosen
    assert {layout for offer in chosen.values() for layout in (*offer.inputs, *offer.outputs)} == {"plain"}
    with pytest.raises(UserError, match=r"nothing computes .* allow more layouts"):
        choose(offers, ("NCHW16c",))


def test_what_was_hoped_for_is_measured_before_it_is_chosen() -> None:
    offers = SyntheticOffers(branching([0, 1]), 5, 2.0)
    chosen = choose(offers, LAYOUTS).chosen
    assert {offer.label for offer in chosen.values()} <= offers.measured


def test_cases_are_what_is_computed_and_not_where() -> None:
    b = Builder()
    x = b.input(1, 4, 5, 5)
    one, two = b.conv2d(x, 4), b.conv2d(x, 4)
    other = b.conv2d(x, 8)
    graph = b.graph(one, two, other)
    first, second, third = (case_of(graph, node) for node in graph.nodes)
    assert first == second != third
    strided = dataclasses.replace(graph.nodes[0], attributes={**graph.nodes[0].attributes, "stride": (2, 2)})
    assert case_of(graph, strided) != first
    twice, apart = b.binary("add", one, one), b.binary("add", one, two)
    graph = b.graph(twice, apart)
    assert len({case_of(graph, node) for node in graph.nodes[-2:]}) == 2, "one reads a tensor twice"


def test_a_slice_is_a_view_where_it_is_in_one_aligned_piece() -> None:
    b = Builder()
    x = b.input(1, 48, 4, 4)
    pieces = [(1, 16, 48), (1, 4, 8), (1, 1, 2), (2, 0, 2), (2, 1, 2), (3, 0, 2)]
    for axis, start, stop in pieces:
        b.slice(x, axis, start, stop)
    b.slice(b.input(1, 128, 768), 1, 3, 4)
    b.slice(b.input(2, 128, 768), 1, 3, 4)
    b.slice(b.constant([1.0, 2.0]), 0, 0, 1)
    graph = b.graph()
    target = Target(DEVICE, ("plain", "NHWC", "NCHW16c"))
    found = [
        {view.inputs[0]: view.settings["offset"] for view in offering._views(graph, node, target)}
        for node in graph.nodes
    ]
    assert found[0] == {"plain": 4 * 16 * 16, "NCHW16c": 4 * 16 * 16}
    assert found[1] == {"plain": 4 * 4 * 16}
    assert found[2] == {"plain": 64}
    assert found[3] == {"NHWC": 0}
    assert found[4] == {"NHWC": 4 * 4 * 48}
    assert found[5:] == [{}, {"plain": 4 * 3 * 768}, {}, {}]


def test_a_reshape_is_a_view_where_elements_lie_alike() -> None:
    b = Builder()
    x = b.input(1, 32, 1, 1)
    flat = b.reshape(x, 1, 32)
    wide = b.reshape(b.input(1, 2, 3, 4), 1, 24)
    graph = b.graph(flat, wide)
    target = Target(DEVICE, ("plain", "NHWC", "NCHW16c"))
    layouts = [[view.inputs[0] for view in offering._views(graph, node, target)] for node in graph.nodes]
    assert layouts == [["plain", "NHWC", "NCHW16c"], ["plain"]]
