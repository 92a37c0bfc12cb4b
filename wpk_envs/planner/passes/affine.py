"""Constants that scale or shift a tensor, and how a convolution or gemm takes them into its weights and bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wpk_envs.planner.graph import Node
from wpk_envs.planner.passes.draft import Draft


def constant_factor(draft: Draft, node: Node) -> tuple[str, np.ndarray] | None:
    """The tensor that a node multiplies or divides by a constant, and the factor in float64.

    None for every other node, and where broadcasting changes the tensor's shape.
    """
    found = _constant_operand(draft, node, "mul", "div")
    if found is None or node.attributes["function"] == "mul":
        return found
    tensor, divisor = found
    return (tensor, 1 / divisor) if divisor.all() else None


def constant_term(draft: Draft, node: Node) -> tuple[str, np.ndarray] | None:
    """The tensor that a node adds a constant to or subtracts one from, and the term in float64.

    None for every other node, and where broadcasting changes the tensor's shape.
    """
    found = _constant_operand(draft, node, "add", "sub")
    if found is None or node.attributes["function"] == "add":
        return found
    tensor, subtracted = found
    return tensor, -subtracted


def _constant_operand(draft: Draft, node: Node, commutative: str, other: str) -> tuple[str, np.ndarray] | None:
    if node.op != "binary" or node.attributes["function"] not in (commutative, other):
        return None
    tensor, operand = node.inputs
    if tensor in draft.constants and node.attributes["function"] == commutative:
        tensor, operand = operand, tensor
    if tensor in draft.constants or operand not in draft.constants:
        return None
    if draft.tensors[tensor] != draft.tensors[node.output] or draft.tensors[tensor].dtype != "float32":
        return None
    return tensor, draft.constants[operand].astype(np.float64)


def per_channel(draft: Draft, product: Node, value: np.ndarray) -> np.ndarray | None:
    """A constant that broadcasts over a node's output as one number per output channel, if it is so.

    Channels are axis 1 of a convolution's output and the last axis of everything else.
    """
    shape = draft.tensors[product.output].shape
    axis = 1 if product.op == "conv2d" else len(shape) - 1
    aligned = (1,) * (len(shape) - value.ndim) + value.shape
    if any(extent != 1 for number, extent in enumerate(aligned) if number != axis):
        return None
    return np.broadcast_to(value.ravel(), (shape[axis],))


def is_bare(product: Node) -> bool:
    """Whether nothing is fused behind a convolution's or gemm's bias."""
    return not product.attributes.get("residual") and product.attributes.get("activation", "none") == "none"


def takes_affine(draft: Draft, product: Node) -> bool:
    """Whether a scale and shift of a convolution's or gemm's output can go into its weights and bias."""
    return is_bare(product) and all(name in draft.constants for name in product.inputs[1:])


def folded(draft: Draft, product: Node, scale: np.ndarray | None = None, shift: np.ndarray | None = None) -> Node:
    """A convolution or gemm that computes ``scale * product + shift`` by other weights and another bias.

    Args:
        draft: Where the new constants go.
        product: One that `takes_affine`.
        scale: One number per output channel [O]; none for 1.
        shift: One number per output channel [O]; none for 0.
    """
    x, weight, *biases = product.inputs
    bias = draft.constants[biases[0]].astype(np.float64) if biases else None
    if scale is not None:
        values = draft.constants[weight].astype(np.float64)
        channels = (-1, 1, 1, 1) if product.op == "conv2d" else (-1,)
        weight = draft.constant(f"{product.name}.weight", values * scale.reshape(channels))
        bias = None if bias is None else bias * scale
    if shift is not None:
        bias = shift if bias is None else bias + shift
    inputs = (x, weight) if bias is None else (x, weight, draft.constant(f"{product.name}.bias", bias))
    return replace(product, inputs=inputs, attributes={**product.attributes, "bias": bias is not None})
