"""The operator that a node of a graph is, where templates and the store know it."""

from __future__ import annotations

import math

from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.operators.fused import ACTIVATIONS, FusedOperator
from wpk_envs.planner.graph import Graph, Node


def operator_of(graph: Graph, node: Node) -> FusedOperator | None:
    """The operator that computes exactly what a node computes.

    A gemm's leading dimensions are folded into its rows. None for other operations, for activations that operators do
    not have, types other than float32, weights that are no constants or nothing else, and sizes that operators refuse.
    """
    if node.op not in ("conv2d", "gemm"):
        return None
    if node.inputs[0] in graph.constants or node.inputs[1] not in graph.constants:
        return None
    if any(graph.tensors[name].dtype != "float32" for name in (*node.inputs, *node.outputs)):
        return None
    if node.attributes.get("activation", "none") not in ACTIVATIONS:
        return None
    try:
        return _conv2d(graph, node) if node.op == "conv2d" else _gemm(graph, node)
    except UserError:
        return None


def _conv2d(graph: Graph, node: Node) -> Conv2d:
    batch, channels, height, width = graph.tensors[node.inputs[0]].shape
    filters, _, *kernel = graph.tensors[node.inputs[1]].shape
    return Conv2d(
        batch=batch,
        channels=channels,
        height=height,
        width=width,
        filters=filters,
        kernel=kernel,
        stride=node.attributes.get("stride", 1),
        padding=node.attributes.get("padding", 0),
        dilation=node.attributes.get("dilation", 1),
        groups=node.attributes.get("groups", 1),
        **_epilogue(node),
    )


def _gemm(graph: Graph, node: Node) -> Gemm:
    *rows, k = graph.tensors[node.inputs[0]].shape
    n = graph.tensors[node.inputs[1]].shape[1]
    return Gemm(math.prod(rows), n, k, **_epilogue(node))


def _epilogue(node: Node) -> dict:
    epilogue = {name: bool(node.attributes.get(name)) for name in ("bias", "residual")}
    return {**epilogue, "activation": node.attributes.get("activation", "none")}
