"""Fusion of the scale of matrix products."""

from __future__ import annotations

from dataclasses import replace

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.affine import constant_factor
from wpk_envs.planner.passes.draft import Draft, exhaust


def fuse_scale(graph: Graph) -> Graph:
    """Multiply a matmul's operands or result by a number inside the matmul."""
    return exhaust(graph, lambda draft, node: _of_result(draft, node) or _of_operand(draft, node))


def _of_result(draft: Draft, node: Node) -> bool:
    found = constant_factor(draft, node)
    product = None if found is None else draft.sole_maker(draft.behind_views(found[0]), "matmul")
    if found is None or product is None or found[1].size != 1:
        return False
    draft.change(product, _scaled(product, found[1].item()))
    draft.substitute(node, found[0])
    return True


def _of_operand(draft: Draft, node: Node) -> bool:
    if node.op != "matmul":
        return False
    for position, operand in enumerate(node.inputs):
        multiplication = draft.sole_maker(draft.behind_views(operand), "binary")
        found = None if multiplication is None else constant_factor(draft, multiplication)
        if found is not None and found[1].size == 1:
            scaled = _scaled(node, found[1].item())
            draft.put(_past(draft, scaled, position, found[0]), node)
            return True
    return False


def _past(draft: Draft, node: Node, position: int, tensor: str) -> Node:
    """The node with an operand made, through the same views, from another tensor."""
    views = draft.views(node.inputs[position])
    if views:
        draft.change(views[-1], replace(views[-1], inputs=(tensor,)))
        return node
    inputs = (*node.inputs[:position], tensor, *node.inputs[position + 1 :])
    return replace(node, inputs=inputs)


def _scaled(product: Node, factor: float) -> Node:
    return replace(product, attributes={**product.attributes, "scale": product.attributes.get("scale", 1.0) * factor})
