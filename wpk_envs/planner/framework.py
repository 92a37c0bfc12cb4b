"""Operations that only the model's framework computes: what an importer has no counterpart for.

A ``framework`` node's attributes name the ``framework`` and the operator, ``target``. For torch, ``arguments`` is the
template of its arguments (`planner.framework_torch`); for ONNX, ``model`` is a model of that one node
(`planner.framework_onnx`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wpk_envs.planner.graph import Graph, Node

Run = Callable[..., tuple[Any, ...]]
"""Torch tensors to torch tensors."""


def make(attributes: Mapping[str, Any]) -> Run:
    """Prepare the call of a ``framework`` node once, to be made many times.

    Args:
        attributes: Of the node.

    Returns:
        A function of one contiguous torch tensor per input to a tuple with one per output.

    Raises:
        UserError: If the operator is unknown to the framework that is installed.
    """
    if attributes["framework"] == "onnx":
        from wpk_envs.planner import framework_onnx

        return framework_onnx.make(attributes["model"])
    from wpk_envs.planner import framework_torch

    return framework_torch.make(attributes["target"], attributes["arguments"])


def evaluate(node: Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Compute a ``framework`` node once.

    Args:
        node: The node.
        inputs: One torch tensor per input.
    """
    return make(node.attributes)(*inputs)


def framework_nodes(graph: Graph) -> list[tuple[str, str]]:
    """Name and operator of every node that runs through the framework, for people."""
    return [(node.name, str(node.attributes["target"])) for node in graph.nodes if node.op == "framework"]
