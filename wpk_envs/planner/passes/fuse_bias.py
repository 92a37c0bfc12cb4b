"""Fusion of bias."""

from __future__ import annotations

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.affine import constant_term, folded, per_channel, takes_affine
from wpk_envs.planner.passes.draft import Draft, exhaust


def fuse_bias(graph: Graph) -> Graph:
    """Add a constant per output channel inside the convolution or gemm before it, as its bias."""
    return exhaust(graph, _fuse)


def _fuse(draft: Draft, node: Node) -> bool:
    found = constant_term(draft, node)
    product = None if found is None else draft.sole_maker(found[0], "conv2d", "gemm")
    if found is None or product is None or not takes_affine(draft, product):
        return False
    shift = per_channel(draft, product, found[1])
    if shift is None:
        return False
    draft.change(product, folded(draft, product, shift=shift))
    draft.substitute(node, product.output)
    return True
