"""Convolutions and matrix products as primitives of oneDNN."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.onednn.drafts import Draft, described, finish, layout_pairs, strides


def conv2d(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """A convolution for each pair of layouts; a pointwise one of images with channels last also as a product."""
    if node.inputs[0] in graph.constants or node.inputs[1] not in graph.constants:
        return
    for source, destination in layout_pairs(allowed):
        yield _convolution(Draft(graph, node, {"kind": "convolution", "algorithm": "direct"}), source, destination)
    if _is_pointwise(graph, node) and layouts.NHWC in allowed:
        for kind in ("matmul", "inner_product"):
            yield _pixels(Draft(graph, node, {"kind": kind}))


def _convolution(draft: Draft, source: str, destination: str) -> Draft:
    attributes, settings = draft.node.attributes, draft.settings
    groups, weight = attributes.get("groups", 1), draft.shape(1)
    settings["sources"] = [draft.reads("source", 0, source)]
    shape = weight if groups == 1 else (groups, weight[0] // groups, *weight[1:])
    settings["weights"] = _weights(draft, shape, strides(shape))
    if attributes.get("bias"):
        settings["bias"] = draft.reads("bias", 2, layouts.PLAIN)
    settings["destination"] = draft.writes(destination)
    settings["stride"] = list(attributes.get("stride", (1, 1)))
    settings["dilation"] = [step - 1 for step in attributes.get("dilation", (1, 1))]
    settings["before"] = settings["after"] = list(attributes.get("padding", (0, 0)))
    finish(draft, _residual_place(draft.node))
    return draft


def _weights(draft: Draft, dims: Sequence[int], strides: Sequence[int]) -> dict[str, Any]:
    """Let the node's second input be the weights, as the primitive sees the canonical array."""
    draft.reads("weights", 1, layouts.PLAIN)
    return {"dims": list(dims), "strides": list(strides)}


def _residual_place(node: Node) -> int:
    return 3 if node.attributes.get("bias") else 2


def _is_pointwise(graph: Graph, node: Node) -> bool:
    """Whether a convolution is a matrix product over the pixels."""
    attributes = node.attributes
    stays = tuple(attributes.get("stride", (1, 1))) == (1, 1) and tuple(attributes.get("padding", (0, 0))) == (0, 0)
    return graph.tensors[node.inputs[1]].shape[2:] == (1, 1) and stays and attributes.get("groups", 1) == 1


def _pixels(draft: Draft) -> Draft:
    """Pixels are rows, channels columns."""
    batch, channels, height, width = draft.shape(0)
    filters = draft.out_shape[1]
    draft.reads("source", 0, layouts.NHWC)
    draft.writes(layouts.NHWC)
    _product(draft, batch * height * width, channels, filters, transposed=True)
    finish(draft, _residual_place(draft.node))
    return draft


def gemm(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """A product with constant weights, all leading axes of ``a`` as rows, by either primitive that multiplies."""
    if node.inputs[0] in graph.constants or node.inputs[1] not in graph.constants:
        return
    for kind in ("inner_product", "matmul"):
        draft = Draft(graph, node, {"kind": kind})
        *_, k = draft.shape(0)
        *rows, n = draft.out_shape
        draft.reads("source", 0, layouts.PLAIN)
        draft.writes(layouts.PLAIN)
        _product(draft, math.prod(rows), k, n, transposed=False)
        finish(draft, _residual_place(node))
        yield draft


def _product(draft: Draft, m: int, k: int, n: int, transposed: bool) -> None:
    """Describe [m, k] times weights; ``transposed``: the canonical weights are [n, k], not [k, n]."""
    settings = draft.settings
    along_k, along_n = (1, k) if transposed else (n, 1)
    if settings["kind"] == "matmul":
        settings["weights"] = _weights(draft, (k, n), (along_k, along_n))
    else:
        settings["weights"] = _weights(draft, (n, k), (along_n, along_k))
    settings["sources"], settings["destination"] = [described((m, k))], described((m, n))
    if draft.node.attributes.get("bias"):
        shape = (1, n) if settings["kind"] == "matmul" else (n,)
        settings["bias"] = draft.reads("bias", 2, layouts.PLAIN, shape)


def matmul(graph: Graph, node: Node, allowed: Sequence[str]) -> Iterator[Draft]:
    """A product of two activations whose axes are permuted by strides alone; nothing is copied."""
    draft = Draft(graph, node, {"kind": "matmul"})
    if draft.is_constant(0) or draft.is_constant(1):
        return
    attributes, settings = node.attributes, draft.settings
    rank = len(draft.out_shape)
    draft.reads("source", 0, layouts.PLAIN)
    draft.reads("weights", 1, layouts.PLAIN)
    draft.writes(layouts.PLAIN)
    settings["sources"] = [
        _permuted(draft.shape(place), attributes.get(axes), rank) for place, axes in enumerate(("a_axes", "b_axes"))
    ]
    out_axes = attributes.get("out_axes")
    back = None if out_axes is None else [list(out_axes).index(axis) for axis in range(rank)]
    settings["destination"] = _permuted(draft.out_shape, back, rank)
    if attributes.get("scale", 1.0) != 1.0:
        settings["post_ops"] = [{"algorithm": "linear", "alpha": float(attributes["scale"])}]
    yield draft


def _permuted(shape: Sequence[int], axes: Sequence[int] | None, rank: int) -> dict[str, Any]:
    """A tensor with its axes permuted, and axes of length one in front up to a rank."""
    order, steps = range(len(shape)) if axes is None else axes, strides(shape)
    missing = rank - len(shape)
    dims = [1] * missing + [shape[axis] for axis in order]
    return {"dims": dims, "strides": [math.prod(shape)] * missing + [steps[axis] for axis in order]}
