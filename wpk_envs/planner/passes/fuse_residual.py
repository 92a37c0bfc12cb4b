"""Fusion of residual additions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.affine import is_bare
from wpk_envs.planner.passes.draft import Draft, sweep


def fuse_residual(graph: Graph) -> Graph:
    """Add another activation of the same shape inside the convolution or gemm before it."""
    depths = _depths(graph)
    return sweep(graph, lambda draft, node: _fuse(draft, node, depths))


def _fuse(draft: Draft, node: Node, depths: Mapping[str, int]) -> bool:
    if node.op != "binary" or node.attributes["function"] != "add":
        return False
    if len({draft.tensors[name] for name in (*node.inputs, node.output)}) > 1:
        return False
    pairs = zip(node.inputs, reversed(node.inputs))
    able = [(tensor, other) for tensor, other in pairs if _can_take(draft, tensor, other)]
    if not able:
        return False
    tensor, other = max(able, key=lambda pair: depths[pair[0]])
    product = draft.sole_maker(tensor, "conv2d", "gemm")
    assert product is not None
    fused = replace(
        product,
        inputs=(*product.inputs, other),
        outputs=node.outputs,
        attributes={**product.attributes, "residual": True},
    )
    draft.put(fused, product, node)
    return True


def _can_take(draft: Draft, tensor: str, other: str) -> bool:
    product = draft.sole_maker(tensor, "conv2d", "gemm")
    return product is not None and is_bare(product) and other not in draft.constants


def _depths(graph: Graph) -> dict[str, int]:
    """How many operations in a row lead to each tensor: of two branches that meet, the main one is the longer."""
    depths = dict.fromkeys((*graph.inputs, *graph.constants), 0)
    for node in graph.nodes:
        depth = 1 + max((depths[name] for name in node.inputs), default=0)
        depths |= dict.fromkeys(node.outputs, depth)
    return depths
