"""Operations that torch computes straight into a given tensor; what they mean is `wpk_envs.planner.operations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from wpk_envs.planner.implementation import Call
from wpk_envs.planner.operations import BINARY


def bind(operation: str, attributes: Mapping[str, Any], arguments: Sequence[Any], result: Any) -> Call:
    """A call that computes an operation of `OPERATIONS`.

    Args:
        operation: Its name.
        attributes: Of the node.
        arguments: Torch tensors in the canonical order of axes.
        result: The tensor that it writes.
    """
    return OPERATIONS[operation](attributes, result, *arguments)


def _unary(attributes: Mapping[str, Any], result: Any, x: Any) -> Call:
    function = attributes["function"]
    if function == "relu6":
        return lambda: torch.clamp(x, 0.0, 6.0, out=result)
    if function == "gelu_tanh":
        return lambda: torch.ops.aten.gelu.out(x, approximate="tanh", out=result)
    compute = getattr(torch.ops.aten, function).out
    return lambda: compute(x, out=result)


def _binary(attributes: Mapping[str, Any], result: Any, x: Any, y: Any) -> Call:
    compute: Any = getattr(torch, BINARY[attributes["function"]])
    return lambda: compute(x, y, out=result)


def _matmul(attributes: Mapping[str, Any], result: Any, a: Any, b: Any) -> Call:
    """The product is scaled and its axes are permuted as it is written."""
    left, right = (
        tensor.permute(*attributes[axes]) if attributes.get(axes) else tensor
        for tensor, axes in ((a, "a_axes"), (b, "b_axes"))
    )
    axes, scale = attributes.get("out_axes"), attributes.get("scale", 1.0)
    if not axes and scale == 1.0:
        return lambda: torch.matmul(left, right, out=result)
    made = result.permute(*np.argsort(axes).tolist()) if axes else result
    return lambda: torch.mul(torch.matmul(left, right), scale, out=made)


def _max_pool2d(attributes: Mapping[str, Any], result: Any, x: Any) -> Call:
    window = [attributes[name] for name in ("kernel", "stride", "padding", "dilation", "ceil_mode")]
    places = torch.empty_like(result, dtype=torch.int64)
    return lambda: torch.ops.aten.max_pool2d_with_indices.out(x, *window, out=result, indices=places)


def _avg_pool2d(attributes: Mapping[str, Any], result: Any, x: Any) -> Call:
    window = [attributes[name] for name in ("kernel", "stride", "padding", "ceil_mode", "count_include_pad")]
    return lambda: torch.ops.aten.avg_pool2d.out(x, *window, out=result)


def _global_avg_pool(attributes: Mapping[str, Any], result: Any, x: Any) -> Call:
    return lambda: torch.mean(x, (2, 3), True, out=result)


def _softmax(attributes: Mapping[str, Any], result: Any, x: Any) -> Call:
    return lambda: torch.softmax(x, attributes["axis"], out=result)


def _concat(attributes: Mapping[str, Any], result: Any, *parts: Any) -> Call:
    return lambda: torch.cat(parts, attributes["axis"], out=result)


def _transpose(attributes: Mapping[str, Any], result: Any, x: Any) -> Call:
    permuted = x.permute(*attributes["axes"])
    return lambda: result.copy_(permuted)


OPERATIONS: dict[str, Callable[..., Call]] = {
    "unary": _unary,
    "binary": _binary,
    "matmul": _matmul,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool": _global_avg_pool,
    "softmax": _softmax,
    "concat": _concat,
    "transpose": _transpose,
}
"""What computes each, bound: given attributes, the result and the arguments."""
