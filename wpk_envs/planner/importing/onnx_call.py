"""One ONNX node to import, its attributes as Python values, and the graph that its counterpart is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpk_envs.planner.importing.builder import Builder


@dataclass(frozen=True)
class Call:
    """A node to import.

    Attributes:
        builder: Where its counterpart goes.
        name: What the counterpart is called.
        attributes: Those that the node has.
        inputs: Names in the graph; none for an optional one that is not given.
        shape: Of its output; of the first one that is read, where there are several.
        opset: Version of the operators.
        outputs: How many there are.
    """

    builder: Builder
    name: str
    attributes: Mapping[str, Any]
    inputs: Sequence[str | None]
    shape: tuple[int, ...]
    opset: int
    outputs: int = 1

    @property
    def x(self) -> str:
        """The first input."""
        return self.names()[0]

    def names(self) -> list[str]:
        """The inputs that are given."""
        return [name for name in self.inputs if name is not None]

    def input(self, index: int) -> str | None:
        """An input; none if it is not given."""
        return self.inputs[index] if index < len(self.inputs) else None

    def shape_of(self, index: int) -> tuple[int, ...]:
        """Shape of an input that is given."""
        return self.builder.tensors[self.names()[index]].shape

    def constant(self, index: int) -> np.ndarray | None:
        """Value of an input; none if it is computed or not given."""
        return self.builder.constants.get(self.input(index) or "")

    def fixed(self, *indices: int) -> bool:
        """Whether these inputs are constants, or not given."""
        return all(self.input(index) is None or self.constant(index) is not None for index in indices)

    def parameter(self, attribute: str, index: int, default: Any = None) -> Any:
        """What older operators take as an attribute and newer ones as a constant input."""
        value = self.constant(index)
        return self.attributes.get(attribute, default) if value is None else value.tolist()

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Write a node of the call's own output shape; returns its output's name."""
        return self.builder.add(op, inputs, self.shape, self.name, attributes)

    def reshape(self, name: str) -> str:
        """Bring a tensor into the shape of the output, if it has not got it; returns the result's name."""
        if self.builder.tensors[name].shape == self.shape:
            return name
        return self.builder.add("reshape", [name], self.shape, self.name, {"shape": self.shape})
