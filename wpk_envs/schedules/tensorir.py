"""Shared pieces of every template's TensorIR: a kernel's arguments, the fused epilogue, unrolling.

Imported only when a kernel is built, because it imports TVM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import te
from tvm.s_tir import Schedule

from wpk_envs.core import Argument, Kernel
from wpk_envs.operators import Conv2d, Gemm


class Arguments:
    """Collects a kernel's placeholders together with how their buffers are packed, in call order."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self._arguments: list[Argument] = []

    def add(self, name: str, shape: Sequence[int], layout: str, pack: Callable[[np.ndarray], np.ndarray]) -> Any:
        """Declare an input and return its TE placeholder."""
        tensor = te.placeholder(tuple(shape), name=name, dtype="float32")
        self.tensors.append(tensor)
        self._arguments.append(Argument(name, tuple(shape), layout, pack))
        return tensor

    def finish(self, output: Any, layout: str, unpack: Callable[[np.ndarray], np.ndarray]) -> tuple[Schedule, Any]:
        """Declare the output; returns the schedule to transform and a function that makes the `Kernel`."""
        shape = tuple(int(extent) for extent in output.shape)
        arguments = (*self._arguments, Argument("output", shape, layout, unpack))
        schedule = Schedule(te.create_prim_func([*self.tensors, output]))
        return schedule, lambda: Kernel(schedule.mod, arguments)


def epilogue(operator: Conv2d | Gemm, value: Any, bias: Any | None, residual: Any | None) -> Any:
    """Apply the operator's fused epilogue to one element: + bias, + residual, activation."""
    if bias is not None:
        value = value + bias
    if residual is not None:
        value = value + residual
    if operator.activation in ("relu", "relu6"):
        value = te.max(value, tvm.tirx.const(0.0, "float32"))
    if operator.activation == "relu6":
        value = te.min(value, tvm.tirx.const(6.0, "float32"))
    return value


def unroll_all(schedule: Schedule, loops: Sequence[Any]) -> None:
    """Unroll every loop given."""
    for loop in loops:
        schedule.unroll(loop)


def linear(matrix: np.ndarray, row: Any, term: Callable[[int], Any]) -> Any:
    """Row ``row`` of a constant matrix times a vector of terms; zeros cost nothing once ``row`` is unrolled.

    Args:
        matrix: Its coefficients.
        row: Index of the row, an expression.
        term: The vector's element at a position.
    """

    def dot(coefficients: Sequence[float]) -> Any:
        total = None
        for position, coefficient in enumerate(coefficients):
            if coefficient == 0:
                continue
            value = term(position)
            if abs(coefficient) != 1:
                value = value * tvm.tirx.const(abs(float(coefficient)), "float32")
            if total is None:
                total = value if coefficient > 0 else tvm.tirx.const(0.0, "float32") - value
            else:
                total = total + value if coefficient > 0 else total - value
        return total

    expression = dot(matrix[-1])
    for number in range(len(matrix) - 2, -1, -1):
        expression = tvm.tirx.Select(row == number, dot(matrix[number]), expression)
    return expression
