"""Folding of batch normalisation."""

from __future__ import annotations

import numpy as np

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.affine import folded, takes_affine
from wpk_envs.planner.passes.draft import Draft, exhaust


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold batch normalisation into the convolution or gemm before it, else into a multiplication and an addition."""
    return exhaust(graph, _fold)


def _fold(draft: Draft, node: Node) -> bool:
    if node.op != "batch_norm" or any(name not in draft.constants for name in node.inputs[1:]):
        return False
    gamma, beta, mean, variance = (draft.constants[name].astype(np.float64) for name in node.inputs[1:])
    scale = gamma / np.sqrt(variance + node.attributes["epsilon"])
    shift = beta - mean * scale
    product = _product(draft, node)
    if product is None:
        _multiply_and_add(draft, node, scale, shift)
    else:
        draft.change(product, folded(draft, product, scale, shift))
        draft.substitute(node, product.output)
    return True


def _product(draft: Draft, node: Node) -> Node | None:
    product = draft.sole_maker(node.inputs[0], "conv2d", "gemm")
    if product is None or not takes_affine(draft, product):
        return None
    is_per_channel = product.op == "conv2d" or len(draft.tensors[product.output].shape) == 2
    return product if is_per_channel else None


def _multiply_and_add(draft: Draft, node: Node, scale: np.ndarray, shift: np.ndarray) -> None:
    shape = draft.tensors[node.output].shape
    channels = (-1, *(1,) * (len(shape) - 2))
    scaled = draft.tensor(f"{node.name}.scaled", shape)
    for function, constant, x, out in (("mul", scale, node.inputs[0], scaled), ("add", shift, scaled, node.output)):
        name = draft.node_name(f"{node.name}.{function}")
        operand = draft.constant(f"{name}.constant", constant.reshape(channels))
        draft.put(Node(name, "binary", (x, operand), (out,), {"function": function}))
    draft.remove(node)
