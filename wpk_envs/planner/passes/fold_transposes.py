"""Folding of transposes into matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.draft import Draft, exhaust


def fold_transposes(graph: Graph) -> Graph:
    """Permute the axes of a matmul's operands and result inside the matmul."""
    return exhaust(graph, lambda draft, node: _of_result(draft, node) or _of_operand(draft, node))


def _of_result(draft: Draft, node: Node) -> bool:
    product = draft.sole_maker(node.inputs[0], "matmul") if node.op == "transpose" else None
    if product is None:
        return False
    axes = _composed(product.attributes.get("out_axes"), node.attributes["axes"])
    draft.put(replace(_with_axes(product, "out_axes", axes), outputs=node.outputs), product, node)
    return True


def _of_operand(draft: Draft, node: Node) -> bool:
    if node.op != "matmul":
        return False
    for position, name in enumerate(("a_axes", "b_axes")):
        transpose = draft.maker(node.inputs[position], "transpose")
        if transpose is not None and _only_matmuls_read(draft, transpose.output):
            axes = _composed(transpose.attributes["axes"], node.attributes.get(name))
            inputs = list(node.inputs)
            inputs[position] = transpose.inputs[0]
            draft.put(replace(_with_axes(node, name, axes), inputs=tuple(inputs)), node)
            return True
    return False


def _only_matmuls_read(draft: Draft, tensor: str) -> bool:
    readers = {node.op for node in draft.before.nodes if tensor in node.inputs}
    return readers == {"matmul"} and tensor not in draft.before.outputs


def _composed(first: Sequence[int] | None, then: Sequence[int] | None) -> tuple[int, ...] | None:
    """Permuting by one and then by the other as one permutation; none leaves the axes, and so does the identity."""
    rank = len(first or then or ())
    axes = tuple(first[axis] if first else axis for axis in then or range(rank))
    return None if axes == tuple(range(rank)) else axes


def _with_axes(node: Node, name: str, axes: tuple[int, ...] | None) -> Node:
    attributes: dict[str, Any] = {key: value for key, value in node.attributes.items() if key != name}
    return replace(node, attributes=attributes if axes is None else {**attributes, name: axes})
