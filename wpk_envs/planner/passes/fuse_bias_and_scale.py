"""Fusion of bias and scale."""

from __future__ import annotations

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.affine import constant_factor, constant_term, folded, per_channel, takes_affine
from wpk_envs.planner.passes.draft import Draft, exhaust


def fuse_bias_and_scale(graph: Graph) -> Graph:
    """Take constants that are added to output channels or multiply them into the convolution or gemm before."""
    return exhaust(graph, lambda draft, node: _bias(draft, node) or _scale(draft, node))


def _bias(draft: Draft, node: Node) -> bool:
    found = constant_term(draft, node)
    product = None if found is None else draft.sole_maker(found[0], "conv2d", "gemm")
    if found is None or product is None or not takes_affine(draft, product):
        return False
    shift = per_channel(draft, product, found[1])
    if shift is None:
        return False
    draft.change(product, folded(draft, product, shift=shift))
    draft.substitute(node, found[0])
    return True


def _scale(draft: Draft, node: Node) -> bool:
    found = constant_factor(draft, node)
    if found is None:
        return False
    tensor, factor = found
    product = draft.sole_maker(draft.behind_views(tensor) if factor.size == 1 else tensor, "conv2d", "gemm")
    if product is None or not takes_affine(draft, product):
        return False
    scale = per_channel(draft, product, factor.reshape(()) if factor.size == 1 else factor)
    if scale is None:
        return False
    draft.change(product, folded(draft, product, scale=scale))
    draft.substitute(node, tensor)
    return True
