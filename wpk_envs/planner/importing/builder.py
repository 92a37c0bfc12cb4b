"""Graphs under construction: what the importers of both frameworks write with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wpk_envs.planner.graph import Graph, Node, Tensor, unused_name


class Builder:
    """Collects tensors, constants and nodes under names that it keeps unique.

    Args:
        name: Of the graph.

    Attributes:
        tensors: By name, inputs and constants included.
        constants: Values by name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, np.ndarray] = {}
        self._inputs: list[str] = []
        self._nodes: dict[str, Node] = {}
        self._transposed: dict[str, str] = {}

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """Declare the next input of the graph; returns its name."""
        name = self._tensor(name, Tensor(tuple(shape), dtype))
        self._inputs.append(name)
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Keep a constant, row by row; returns its name."""
        name = self._tensor(name, Tensor(value.shape, value.dtype.name))
        self.constants[name] = np.require(value, requirements=["C", "W"])
        return name

    def scalar(self, value: float, rank: int) -> str:
        """A number as a float32 constant that broadcasts against a tensor of some rank."""
        shape = (1,) if rank else ()
        name = f"{value:g}" if rank else f"{value:g} of rank 0"
        number = np.full(shape, value, np.float32)
        if name in self.constants and np.array_equal(self.constants[name], number, equal_nan=True):
            return name
        return self.constant(name, number)

    def transposed(self, name: str) -> str:
        """The transpose of a constant matrix, made once however often it is asked for."""
        if name not in self._transposed:
            self._transposed[name] = self.constant(f"{name}.T", self.constants[name].T)
        return self._transposed[name]

    def add(
        self, op: str, inputs: Iterable[str], shape: Sequence[int], name: str, attributes: dict[str, Any] | None = None
    ) -> str:
        """Add a node with one float32 output; returns the output's name."""
        (output,) = self.add_many(op, inputs, [Tensor(tuple(shape))], name, attributes)
        return output

    def add_many(
        self,
        op: str,
        inputs: Iterable[str],
        outputs: Sequence[Tensor],
        name: str,
        attributes: dict[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """Add a node with any outputs; returns their names."""
        name = unused_name(name, self._nodes)
        labels = [name] if len(outputs) == 1 else [f"{name}.{number}" for number in range(len(outputs))]
        names = tuple(self._tensor(label, tensor) for label, tensor in zip(labels, outputs))
        self._nodes[name] = Node(name, op, tuple(inputs), names, attributes or {})
        return names

    def graph(self, outputs: Iterable[str]) -> Graph:
        """The graph so far, with these outputs, without constants that nobody reads."""
        nodes = tuple(self._nodes.values())
        graph = Graph(self.name, tuple(self._inputs), tuple(outputs), nodes, self.tensors, self.constants)
        return graph.with_nodes(nodes)

    def _tensor(self, name: str, tensor: Tensor) -> str:
        name = unused_name(name, self.tensors)
        self.tensors[name] = tensor
        return name
