"""From a graph and one implementation per node to steps over buffers: conversions between layouts are put in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Implementation

VIEW = "view"
"""The provider of what needs no call: a tensor under another shape, or a piece of it; the setting ``offset`` says where
the piece starts, in bytes."""

CONVERT = "convert"
"""The operation that gives a tensor another layout."""

Converter = Callable[[Tensor, str, str], Implementation]
"""The implementation that converts a tensor from one layout to another."""


@dataclass(frozen=True)
class Buffer:
    """Memory that steps read and write.

    Attributes:
        tensor: What it holds.
        layout: How.
        alias_of: The buffer in whose memory it lies, under another shape; none if it has its own.
        offset: Where in that it starts, in bytes.
    """

    tensor: Tensor
    layout: str
    alias_of: str | None = None
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the buffer in its layout."""
        return layouts.buffer_shape(self.layout, self.tensor.shape)

    @property
    def bytes(self) -> int:
        """Its size."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.tensor.dtype).itemsize


@dataclass(frozen=True)
class Step:
    """One call of a plan.

    Attributes:
        node: What it computes; conversions have one of their own.
        implementation: How.
        inputs: Names of the buffers that it reads.
        outputs: Names of the buffers that it writes.
    """

    node: Node
    implementation: Implementation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Assembly:
    """Steps in order, and their buffers.

    Attributes:
        graph: What they compute.
        steps: Without those that need no call.
        buffers: By name.
        inputs: Buffers that the caller fills, in the graph's order.
        outputs: Buffers that the caller reads, all in the plain layout.
        constants: Buffers that hold constants, outputs of the graph themselves, by name of the constant.
    """

    graph: Graph
    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, str]

    def root(self, buffer: str) -> str:
        """The buffer with memory of its own in which a buffer lies."""
        while (other := self.buffers[buffer].alias_of) is not None:
            buffer = other
        return buffer

    def offset(self, buffer: str) -> int:
        """Where in its root's memory a buffer starts, in bytes."""
        found = self.buffers[buffer]
        return 0 if found.alias_of is None else found.offset + self.offset(found.alias_of)


def assemble(graph: Graph, chosen: Mapping[str, Implementation], converter: Converter) -> Assembly:
    """Lay out the steps of a graph.

    Args:
        graph: The optimised graph.
        chosen: An implementation by name of node.
        converter: Where a node reads a tensor in another layout than it was made in, this gives the step between. A
            tensor is converted once for all who read it so.
    """
    return _Assembling(graph, converter).run(chosen)


class _Assembling:
    def __init__(self, graph: Graph, converter: Converter) -> None:
        self.graph = graph
        self.converter = converter
        self.buffers: dict[str, Buffer] = {}
        self.steps: list[Step] = []
        self.home: dict[str, str] = {}
        self.constants: dict[str, str] = {}

    def run(self, chosen: Mapping[str, Implementation]) -> Assembly:
        graph = self.graph
        for name in graph.inputs:
            self._make(name, layouts.PLAIN)
        for node in graph.nodes:
            self._add(node, chosen[node.name])
        for name in graph.outputs:
            if name in graph.constants and name not in self.home:
                self.constants[name] = self._make(name, layouts.PLAIN)
        outputs = tuple(self._in_layout(name, layouts.PLAIN) for name in graph.outputs)
        inputs = tuple(self.home[name] for name in graph.inputs)
        return Assembly(graph, tuple(self.steps), self.buffers, inputs, outputs, self.constants)

    def _make(self, name: str, layout: str, alias_of: str | None = None, offset: int = 0) -> str:
        self.home[name] = name
        self.buffers[name] = Buffer(self.graph.tensors[name], layout, alias_of, offset)
        return name

    def _add(self, node: Node, implementation: Implementation) -> None:
        activations = self.graph.activations(node)
        inputs = tuple(self._in_layout(name, layout) for name, layout in zip(activations, implementation.inputs))
        if implementation.provider == VIEW:
            self._make(node.output, implementation.outputs[0], inputs[0], implementation.settings.get("offset", 0))
            return
        outputs = tuple(self._make(name, layout) for name, layout in zip(node.outputs, implementation.outputs))
        self.steps.append(Step(node, implementation, inputs, outputs))

    def _in_layout(self, name: str, layout: str) -> str:
        """The buffer that holds a tensor in a layout, converted if need be."""
        home = self.home[name]
        made_in = self.buffers[home].layout
        if made_in == layout:
            return home
        converted = f"{name}@{layout}"
        if converted not in self.buffers:
            tensor = self.graph.tensors[name]
            node = Node(f"{name} to {layout}", CONVERT, (name,), (name,), {"from": made_in, "to": layout})
            self.buffers[converted] = Buffer(tensor, layout)
            self.steps.append(Step(node, self.converter(tensor, made_in, layout), (home,), (converted,)))
        return converted
