"""Everything that could compute a node, and what it costs alone.

Nodes that compute the same on tensors of the same shapes are one *case*: their offers are collected and timed once.
Costs are measured when somebody first asks for them, on buffers that the caches hold: a shortlist, no verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from wpk_envs.core import stable_hash
from wpk_envs.errors import UserError, reason_of
from wpk_envs.planner import layouts, providers
from wpk_envs.planner.assembly import CONVERT, VIEW
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Call, Implementation, Provider, Resources, Target
from wpk_envs.planner.memory import ALIGNMENT
from wpk_envs.planner.runtime import runtime_of

ROUNDS = 3
"""Samples of a call; the least counts."""

HOPELESS = 5.0
"""A call that at first takes that many times the least known cost of its case, and more, is not timed again."""


def case_of(graph: Graph, node: Node) -> str:
    """Hash of what a node computes: operation, attributes and shapes, which inputs are constants."""
    inputs = [[name in graph.constants, graph.tensors[name].shape, graph.tensors[name].dtype] for name in node.inputs]
    same = [node.inputs.index(name) for name in node.inputs]
    return stable_hash([node.op, _plain(node.attributes), inputs, same])


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


class Offers:
    """Implementations of a graph's nodes with their costs.

    Args:
        graph: The optimised graph.
        offering: Providers by name.
        target: What offers are made for.
        resources: What calls are bound with.
        say: Told of offers that fail.
    """

    def __init__(
        self,
        graph: Graph,
        offering: Mapping[str, Provider],
        target: Target,
        resources: Resources,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._say = say
        self.graph = graph
        self.offering = offering
        self.target = target
        self.resources = resources
        self._of_case: dict[str, list[Implementation]] = {}
        self._costs: dict[tuple[str, int], float] = {}
        self._conversions: dict[tuple[Tensor, str, str], Implementation] = {}

    def of(self, node: Node) -> list[Implementation]:
        """Every offer for a node."""
        case = case_of(self.graph, node)
        if case not in self._of_case:
            views = _views(self.graph, node, self.target)
            enough = any(view.inputs == (layouts.PLAIN,) for view in views)
            self._of_case[case] = views if enough else [*views, *self._offered(self.graph, node)]
        return self._of_case[case]

    def _offered(self, graph: Graph, node: Node) -> list[Implementation]:
        return [offer for provider in self.offering.values() for offer in provider.offers(graph, node, self.target)]

    def cost_us(self, node: Node, offer: Implementation) -> float:
        """What one call takes alone, in microseconds; infinite for an offer that fails."""
        if offer.provider == VIEW:
            return 0.0
        key = (case_of(self.graph, node), self.of(node).index(offer))
        if key not in self._costs:
            known = [cost for (case, _), cost in self._costs.items() if case == key[0]]
            try:
                self._costs[key] = self._measure(self.graph, node, offer, HOPELESS * min(known, default=math.inf))
            except Exception as error:
                self._say(f"{node.name}: {offer.label} fails ({reason_of(error)}), so it is no candidate")
                self._costs[key] = math.inf
        return self._costs[key]

    def known_cost_us(self, node: Node, offer: Implementation) -> float | None:
        """The cost if it was measured already."""
        if offer.provider == VIEW:
            return 0.0
        return self._costs.get((case_of(self.graph, node), self.of(node).index(offer)))

    def set_cost(self, node: Node, offer: Implementation, cost_us: float) -> None:
        """Replace a cost by a better informed one."""
        self._costs[(case_of(self.graph, node), self.of(node).index(offer))] = cost_us

    def drop(self, node: Node, label: str) -> None:
        """Offer an implementation no longer, for any node of this case."""
        case = case_of(self.graph, node)
        kept = [(offer, self.known_cost_us(node, offer)) for offer in self.of(node) if offer.label != label]
        self._costs = {key: cost for key, cost in self._costs.items() if key[0] != case}
        self._of_case[case] = [offer for offer, _ in kept]
        for offer, cost in kept:
            if cost is not None:
                self.set_cost(node, offer, cost)

    def conversion(self, tensor: Tensor, source: str, sink: str) -> Implementation:
        """The fastest way to give a tensor another layout, with its cost.

        Raises:
            UserError: If there is none.
        """
        key = (tensor, source, sink)
        if key not in self._conversions:
            self._conversions[key] = self._fastest_conversion(tensor, source, sink)
        return self._conversions[key]

    def _fastest_conversion(self, tensor: Tensor, source: str, sink: str) -> Implementation:
        node = Node("convert", CONVERT, ("x",), ("y",), {"from": source, "to": sink})
        graph = Graph("", ("x",), ("y",), (node,), {"x": tensor, "y": tensor}, {})
        offers = self._offered(graph, node)
        if not offers:
            raise UserError(f"nothing brings a tensor of {tensor.dtype}{list(tensor.shape)} from {source} to {sink}")
        timed = [dataclasses.replace(offer, cost_us=self._measure(graph, node, offer)) for offer in offers]
        return min(timed, key=lambda offer: offer.cost_us or 0.0)

    def _measure(self, graph: Graph, node: Node, offer: Implementation, hopeless_us: float = math.inf) -> float:
        return runtime_of(self.resources).alone_us(self.bound(graph, node, offer), ROUNDS, hopeless_us)

    def bound(self, graph: Graph, node: Node, offer: Implementation) -> Call:
        """An offer on buffers of its own, filled with random numbers."""
        rng = np.random.default_rng(0)
        names = (*graph.activations(node), *node.outputs)
        held = runtime_of(self.resources).held
        arrays = [
            held(layouts.to_buffer(_random(rng, graph.tensors[name]), layout))
            for name, layout in zip(names, (*offer.inputs, *offer.outputs))
        ]
        inputs, outputs = arrays[: len(offer.inputs)], arrays[len(offer.inputs) :]
        packed = self.offering[offer.provider].pack(graph, node, offer)
        constants = {role: held(array) for role, array in packed.items()}
        return providers.binder(offer.provider)(offer.settings, inputs, outputs, constants, self.resources)


def _random(rng: np.random.Generator, tensor: Tensor) -> np.ndarray:
    if tensor.dtype == "float32":
        return rng.standard_normal(tensor.shape, dtype=np.float32)
    return np.zeros(tensor.shape, tensor.dtype)


def _views(graph: Graph, node: Node, target: Target) -> list[Implementation]:
    """What needs no call: reshapes, and slices that lie in one piece."""
    if node.op not in ("reshape", "slice") or node.inputs[0] in graph.constants:
        return []
    return _reshapes(graph, node, target) if node.op == "reshape" else _slices(graph, node, target)


def _reshapes(graph: Graph, node: Node, target: Target) -> list[Implementation]:
    """In the plain layout; in others an image of one pixel whose channels fill blocks."""
    found = [Implementation(VIEW, "view", (layouts.PLAIN,), (layouts.PLAIN,))]
    shape = graph.tensors[node.inputs[0]].shape
    if len(shape) == 4 and shape[2:] == (1, 1):
        lie_alike = [
            layout
            for layout in target.layouts
            if layout != layouts.PLAIN and shape[1] % (layouts.block_of(layout) or 1) == 0
        ]
        found += [Implementation(VIEW, "view", (layout,), (layouts.PLAIN,)) for layout in lie_alike]
    return found


def _slices(graph: Graph, node: Node, target: Target) -> list[Implementation]:
    """In every layout in which the slice is in one piece that starts where a buffer may."""
    tensor = graph.tensors[node.inputs[0]]
    start, stop = node.attributes["start"], node.attributes["stop"]
    found = []
    for layout in target.layouts:
        if not layouts.fits(layout, tensor.shape):
            continue
        before = layouts.slice_offset(layout, tensor.shape, node.attributes["axis"], start, stop)
        offset = None if before is None else before * np.dtype(tensor.dtype).itemsize
        if offset is not None and offset % ALIGNMENT == 0:
            found.append(Implementation(VIEW, "view", (layout,), (layout,), {"offset": offset}))
    return found
