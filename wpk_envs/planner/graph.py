"""The planner's view of a model: named tensors, constants, and nodes in the order of execution.

Every node computes one operation of `wpk_envs.planner.operations`; shapes are static and everything is float32
except what the framework itself computes. A graph is changed by the passes of `wpk_envs.planner.passes` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """What a node reads or writes.

    Attributes:
        shape: Static, in the canonical layout (NCHW for images).
        dtype: Name of the NumPy type.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: Unique in its graph, and for people: from the model where it has names.
        op: A name of `wpk_envs.planner.operations.OPERATIONS`.
        inputs: Names of tensors, constants among them, in the operation's order.
        outputs: Names of the tensors that it makes.
        attributes: Plain data; which ones is the operation's matter.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """Its only output."""
        (name,) = self.outputs
        return name


@dataclass(frozen=True)
class Graph:
    """A model: nodes in an order in which each finds its inputs made.

    Attributes:
        name: The model's.
        inputs: Names of the tensors that the caller gives, in order.
        outputs: Names of the tensors that the caller gets, in order; they may be inputs, constants or repeated.
        nodes: In the order of execution.
        tensors: Shape and type of every tensor by name, inputs and constants included.
        constants: Values by name, in the canonical layout.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, np.ndarray]

    def activations(self, node: Node) -> tuple[str, ...]:
        """The inputs of a node that are no constants, in order."""
        return tuple(name for name in node.inputs if name not in self.constants)

    def uses(self) -> Counter[str]:
        """How often each tensor is read, by nodes and as an output of the graph."""
        return Counter([*(name for node in self.nodes for name in node.inputs), *self.outputs])

    def with_nodes(self, nodes: Iterable[Node], **changes: Any) -> Graph:
        """The graph with other nodes; tensors and constants that nobody reads or makes any more are dropped.

        Args:
            nodes: In an order in which each finds its inputs made.
            changes: Other fields to replace, such as ``constants``.
        """
        kept = tuple(nodes)
        graph = replace(self, nodes=kept, **changes)
        used = {*graph.inputs, *graph.outputs, *(name for node in kept for name in (*node.inputs, *node.outputs))}
        return replace(
            graph,
            tensors={name: tensor for name, tensor in graph.tensors.items() if name in used},
            constants={name: value for name, value in graph.constants.items() if name in used},
        )

    def operations(self) -> Counter[str]:
        """How many nodes there are of each operation."""
        return Counter(node.op for node in self.nodes)


def unused_name(wanted: str, taken: Mapping[str, Any]) -> str:
    """``wanted``, with a number behind it if that is taken."""
    return next(name for name in _numbered(wanted) if name not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
