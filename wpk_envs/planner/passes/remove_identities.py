"""Removal of operations that change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.affine import constant_factor, constant_term
from wpk_envs.planner.passes.draft import Draft, exhaust


def remove_identities(graph: Graph) -> Graph:
    """Remove what changes nothing: times 1, plus 0, views that give back what they get; views in a row become one."""
    return exhaust(graph, _simplify)


def _simplify(draft: Draft, node: Node) -> bool:
    rule = _RULES.get(node.op)
    return rule is not None and rule(draft, node)


def _binary(draft: Draft, node: Node) -> bool:
    for neutral, found in ((1, constant_factor(draft, node)), (0, constant_term(draft, node))):
        if found is not None and (found[1] == neutral).all():
            draft.substitute(node, found[0])
            return True
    return False


def _concat(draft: Draft, node: Node) -> bool:
    if len(node.inputs) == 1:
        draft.substitute(node, node.inputs[0])
    return len(node.inputs) == 1


def _reshape(draft: Draft, node: Node) -> bool:
    (x,) = node.inputs
    inner = draft.maker(x, "reshape")
    if draft.tensors[x].shape == draft.tensors[node.output].shape:
        draft.substitute(node, x)
    elif inner is not None:
        draft.put(replace(node, inputs=inner.inputs), node)
    else:
        return False
    return True


def _transpose(draft: Draft, node: Node) -> bool:
    (x,), axes = node.inputs, tuple(node.attributes["axes"])
    inner = draft.maker(x, "transpose")
    if axes == tuple(range(len(axes))):
        draft.substitute(node, x)
    elif inner is not None:
        composed = tuple(inner.attributes["axes"][axis] for axis in axes)
        draft.put(replace(node, inputs=inner.inputs, attributes={"axes": composed}), node)
    elif _moves_nothing(draft, x, axes):
        draft.put(replace(node, op="reshape", attributes={"shape": draft.tensors[node.output].shape}), node)
    else:
        return False
    return True


def _moves_nothing(draft: Draft, x: str, axes: tuple[int, ...]) -> bool:
    """Whether a transpose only moves axes of length 1, so that every element stays where it lies in memory."""
    long = [axis for axis in axes if draft.tensors[x].shape[axis] != 1]
    return long == sorted(long)


_RULES: dict[str, Callable[[Draft, Node], bool]] = {
    "binary": _binary,
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _transpose,
}
