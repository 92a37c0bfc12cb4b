"""Common subexpression elimination.

What the framework computes is left alone: it may draw random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.draft import Draft, sweep


def eliminate_common_subexpressions(graph: Graph) -> Graph:
    """Compute the same thing once: equal constants become one, and so do equal operations on equal inputs."""
    seen: dict[Hashable, Node] = {}

    def merge(draft: Draft, node: Node) -> bool:
        if node.op == "framework":
            return False
        first = seen.setdefault((node.op, node.inputs, _frozen(node.attributes)), node)
        if first is node:
            return False
        draft.substitute(node, first.output)
        return True

    return sweep(_merge_constants(graph), merge)


def _merge_constants(graph: Graph) -> Graph:
    first: dict[Hashable, str] = {}
    same = {name: first.setdefault(_content(value), name) for name, value in graph.constants.items()}
    if all(name == kept for name, kept in same.items()):
        return graph
    nodes = (replace(node, inputs=tuple(same.get(name, name) for name in node.inputs)) for node in graph.nodes)
    return graph.with_nodes(nodes, outputs=tuple(same.get(name, name) for name in graph.outputs))


def _content(value: np.ndarray) -> Hashable:
    return value.shape, value.dtype.str, hashlib.sha256(np.ascontiguousarray(value).data).digest()


def _frozen(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _frozen(part)) for name, part in value.items()))
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value
