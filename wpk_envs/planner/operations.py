"""The operations that a graph is made of, and what each computes, in torch.

What torch computes here is the meaning of an operation: constants are folded with it, it is a candidate for every
node, and a plan that has nothing better for a node runs it. An importer turns what it does not know into ``framework``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wpk_envs.planner.graph import Graph, Node

ACTIVATIONS = ("none", "relu", "relu6", "gelu")
"""What ``conv2d``, ``gemm`` and ``matmul`` may end with; ``gelu`` is the exact one, with the error function."""

UNARY = ("relu", "relu6", "gelu", "gelu_tanh", "sigmoid", "tanh", "silu", "hardswish", "hardsigmoid", "exp", "sqrt",
         "erf", "neg")  # fmt: skip
BINARY = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "div",
    "max": "maximum",
    "min": "minimum",
    "pow": "pow",
}
"""Elementwise functions of two tensors, and what torch calls them."""


def evaluate(node: Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Compute a node's outputs from torch tensors in the canonical layout (imports torch).

    Args:
        node: Of any operation.
        inputs: One torch tensor per input of the node.
    """
    if node.op == "framework":
        from wpk_envs.planner import framework

        return framework.evaluate(node, inputs)
    result = OPERATIONS[node.op](dict(node.attributes), *inputs)
    return result if isinstance(result, tuple) else (result,)


def _conv2d(attributes: dict[str, Any], x: Any, weight: Any, *more: Any) -> Any:
    """``x`` [N, C, H, W], ``weight`` [O, C / groups, kh, kw], then bias [O] and residual [N, O, H', W'] if there.

    Attributes ``stride``, ``padding``, ``dilation`` (pairs), ``groups``; ``bias``, ``residual`` (bool), ``activation``.
    """
    from torch.nn import functional

    rest = list(more)
    bias = rest.pop(0) if attributes.get("bias") else None
    windows = {name: tuple(attributes.get(name, default)) for name, default in _WINDOW.items()}
    out = functional.conv2d(x, weight, bias, groups=attributes.get("groups", 1), **windows)
    return _finish(attributes, out, rest)


_WINDOW = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}


def _gemm(attributes: dict[str, Any], a: Any, b: Any, *more: Any) -> Any:
    """``a`` [..., m, k] times the constant ``b`` [k, n], then bias [n] and residual (the output's shape) if there.

    Attributes ``bias``, ``residual`` (bool), ``activation``.
    """
    rest = list(more)
    out = a @ b
    if attributes.get("bias"):
        out = out + rest.pop(0)
    return _finish(attributes, out, rest)


def _matmul(attributes: dict[str, Any], a: Any, b: Any) -> Any:
    """``a`` [..., m, k] times ``b`` [..., k, n], both computed, times ``scale``.

    Attributes ``a_axes``, ``b_axes``: how the operands' axes are permuted first; ``out_axes``: how the product's are
    at the end; none leaves them.
    """
    left, right = _permuted(a, attributes.get("a_axes")), _permuted(b, attributes.get("b_axes"))
    return _permuted(left @ right * attributes.get("scale", 1.0), attributes.get("out_axes")).contiguous()


def _permuted(array: Any, axes: Sequence[int] | None) -> Any:
    return array if axes is None else array.permute(*axes)


def _finish(attributes: dict[str, Any], out: Any, rest: list[Any]) -> Any:
    if attributes.get("residual"):
        out = out + rest.pop(0)
    activation = attributes.get("activation", "none")
    return out if activation == "none" else _unary({"function": activation}, out)


def _unary(attributes: dict[str, Any], x: Any) -> Any:
    """An elementwise ``function`` of `UNARY`."""
    import torch
    from torch.nn import functional

    functions: dict[str, Callable[[Any], Any]] = {
        "relu": torch.relu,
        "relu6": functional.relu6,
        "gelu": functional.gelu,
        "gelu_tanh": lambda value: functional.gelu(value, approximate="tanh"),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": functional.silu,
        "hardswish": functional.hardswish,
        "hardsigmoid": functional.hardsigmoid,
        "exp": torch.exp,
        "sqrt": torch.sqrt,
        "erf": torch.erf,
        "neg": torch.neg,
    }
    return functions[attributes["function"]](x)


def _binary(attributes: dict[str, Any], x: Any, y: Any) -> Any:
    """An elementwise ``function`` of `BINARY`, broadcast as in NumPy."""
    import torch

    return getattr(torch, BINARY[attributes["function"]])(x, y)


def _batch_norm(attributes: dict[str, Any], x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
    """Normalisation of axis 1 by stored statistics; attribute ``epsilon``."""
    from torch.nn import functional

    return functional.batch_norm(x, mean, variance, gamma, beta, False, 0.0, attributes["epsilon"])


def _max_pool2d(attributes: dict[str, Any], x: Any) -> Any:
    """Attributes ``kernel``, ``stride``, ``padding``, ``dilation`` (pairs), ``ceil_mode``."""
    from torch.nn import functional

    return functional.max_pool2d(
        x, attributes["kernel"], attributes["stride"], attributes["padding"], attributes["dilation"],
        attributes["ceil_mode"],
    )  # fmt: skip


def _avg_pool2d(attributes: dict[str, Any], x: Any) -> Any:
    """Attributes ``kernel``, ``stride``, ``padding`` (pairs), ``ceil_mode``, ``count_include_pad``."""
    from torch.nn import functional

    return functional.avg_pool2d(
        x, attributes["kernel"], attributes["stride"], attributes["padding"], attributes["ceil_mode"],
        attributes["count_include_pad"],
    )  # fmt: skip


def _global_avg_pool(attributes: dict[str, Any], x: Any) -> Any:
    """Mean over the image: [N, C, H, W] to [N, C, 1, 1]."""
    return x.mean((2, 3), keepdim=True)


def _softmax(attributes: dict[str, Any], x: Any) -> Any:
    """Attribute ``axis``, counted from the front."""
    return x.softmax(attributes["axis"])


def _layer_norm(attributes: dict[str, Any], x: Any, gamma: Any, beta: Any) -> Any:
    """Over the last axis; attribute ``epsilon``."""
    from torch.nn import functional

    return functional.layer_norm(x, tuple(gamma.shape), gamma, beta, attributes["epsilon"])


def _reshape(attributes: dict[str, Any], x: Any) -> Any:
    """Attribute ``shape``, without -1."""
    return x.reshape(tuple(attributes["shape"]))


def _transpose(attributes: dict[str, Any], x: Any) -> Any:
    """Attribute ``axes``."""
    return x.permute(*attributes["axes"]).contiguous()


def _slice(attributes: dict[str, Any], x: Any) -> Any:
    """The elements from ``start`` up to ``stop`` of an axis, which stays: attributes ``axis``, ``start``, ``stop``."""
    return x.narrow(attributes["axis"], attributes["start"], attributes["stop"] - attributes["start"]).contiguous()


def _concat(attributes: dict[str, Any], *parts: Any) -> Any:
    """Attribute ``axis``, counted from the front."""
    import torch

    return torch.cat(parts, attributes["axis"])


def _convert(attributes: dict[str, Any], x: Any) -> Any:
    """The same tensor in another layout, attributes ``from`` and ``to``: a plan puts it where layouts meet."""
    return x


OPERATIONS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "gemm": _gemm,
    "matmul": _matmul,
    "unary": _unary,
    "binary": _binary,
    "batch_norm": _batch_norm,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool": _global_avg_pool,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "concat": _concat,
    "convert": _convert,
}
"""Every operation but ``framework``, which is whatever the model's framework computes: see `planner.framework`."""


def run(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """Compute a graph node by node in torch: the slow, sure way.

    Args:
        graph: Any graph.
        inputs: Torch tensors for its inputs.

    Returns:
        Torch tensors of its outputs.
    """
    import torch

    values: dict[str, Any] = {name: torch.from_numpy(value) for name, value in graph.constants.items()}
    values |= dict(zip(graph.inputs, inputs))
    with torch.inference_mode():
        for node in graph.nodes:
            values |= zip(node.outputs, evaluate(node, [values[name] for name in node.inputs]))
    return [values[name] for name in graph.outputs]
