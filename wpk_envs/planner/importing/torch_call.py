"""One call of an ATen operator, its arguments by name, and the graph that its counterpart is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpk_envs.planner.importing.builder import Builder


@dataclass(frozen=True)
class Operand:
    """A tensor among the arguments of a call, by its name in the graph."""

    name: str


@dataclass(frozen=True)
class Call:
    """A call to import.

    Attributes:
        builder: Where its counterpart goes.
        name: What the counterpart is called.
        arguments: By the names of the operator's schema, defaults filled in, tensors as `Operand`.
        shape: Of its only output.
    """

    builder: Builder
    name: str
    arguments: Mapping[str, Any]
    shape: tuple[int, ...]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments.get(argument)

    def shape_of(self, argument: str) -> tuple[int, ...]:
        """Shape of a tensor among the arguments."""
        return self.builder.tensors[self[argument].name].shape

    def constant(self, argument: str) -> np.ndarray | None:
        """Value of a tensor among the arguments; none if it is computed or not given."""
        operand = self[argument]
        return None if operand is None else self.builder.constants.get(operand.name)

    def fixed(self, *arguments: str) -> bool:
        """Whether these tensors are constants, or not given."""
        return all(self[name] is None or self.constant(name) is not None for name in arguments)

    def operand(self, argument: str, rank: int) -> str:
        """A tensor or number among the arguments as a tensor that broadcasts against some rank."""
        value = self[argument]
        return value.name if isinstance(value, Operand) else self.builder.scalar(float(value), rank)

    def vector(self, argument: str, length: int, default: float) -> str:
        """A vector among the arguments, or a constant one of equal elements where it is not given."""
        if self[argument] is not None:
            return self[argument].name
        return self.builder.constant(f"{self.name}.{argument}", np.full(length, default, np.float32))

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Write a node of the call's own output shape; returns its output's name."""
        return self.builder.add(op, inputs, self.shape, self.name, attributes)

    def reshape(self, name: str) -> str:
        """Bring a tensor into the shape of the call's output; returns the result's name."""
        return self.builder.add("reshape", [name], self.shape, self.name, {"shape": self.shape})
