"""Recognition of layer normalisation that is written out, as exports to ONNX before opset 17 have it.

Means are no operation of our own: they are recognised among what the framework computes by name and shapes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.affine import constant_factor, constant_term, per_channel
from wpk_envs.planner.passes.draft import Draft, exhaust

MEANS = ("ReduceMean", "aten.mean.dim")
"""What the frameworks call a mean over some axes."""


def recognise_layer_norm(graph: Graph) -> Graph:
    """Make one operation of a layer normalisation that is written out, with the scale and shift behind it."""
    return exhaust(graph, lambda draft, node: _normalisation(draft, node) or _scale_or_shift(draft, node))


def _normalisation(draft: Draft, node: Node) -> bool:
    """(x - mean(x)) / sqrt(mean((x - mean(x)) ** 2) + epsilon)."""
    if not _computes(node, "div"):
        return False
    centred, deviation = node.inputs
    x = _centred_of(draft, centred)
    root = draft.maker(deviation, "unary")
    addition = draft.maker(root.inputs[0], "binary") if root is not None and _computes(root, "sqrt") else None
    shifted = None if addition is None else constant_term(draft, addition)
    if x is None or shifted is None or shifted[1].size != 1:
        return False
    squares = _mean_of(draft, shifted[0])
    if squares is None or not _is_square(draft, squares, centred):
        return False
    length = draft.tensors[x].shape[-1]
    gamma = draft.constant(f"{node.name}.gamma", np.ones(length))
    beta = draft.constant(f"{node.name}.beta", np.zeros(length))
    epsilon = shifted[1].item()
    draft.put(Node(node.name, "layer_norm", (x, gamma, beta), node.outputs, {"epsilon": epsilon}), node)
    return True


def _centred_of(draft: Draft, tensor: str) -> str | None:
    """``x`` if a tensor is x - mean(x)."""
    difference = draft.maker(tensor, "binary")
    if difference is None or not _computes(difference, "sub"):
        return None
    x, mean = difference.inputs
    return x if _mean_of(draft, mean) == x else None


def _mean_of(draft: Draft, tensor: str) -> str | None:
    """``x`` if a tensor is the mean of x over its last axis, which stays with length 1."""
    mean = draft.maker(tensor, "framework")
    if mean is None or mean.attributes["target"] not in MEANS or len(mean.outputs) != 1:
        return None
    x = mean.inputs[0]
    given, shape = draft.tensors[x], draft.tensors[tensor].shape
    return x if given.dtype == "float32" and shape == (*given.shape[:-1], 1) else None


def _is_square(draft: Draft, tensor: str, of: str) -> bool:
    node = draft.maker(tensor, "binary")
    if node is None or node.inputs[0] != of:
        return False
    if _computes(node, "mul"):
        return node.inputs[1] == of
    exponent = draft.constants.get(node.inputs[1])
    return _computes(node, "pow") and exponent is not None and exponent.size == 1 and exponent.item() == 2


def _computes(node: Node, function: str) -> bool:
    return node.attributes.get("function") == function


def _scale_or_shift(draft: Draft, node: Node) -> bool:
    """A multiplication or addition of one number per column goes into gamma and beta."""
    factor, term = constant_factor(draft, node), constant_term(draft, node)
    found = factor or term
    norm = None if found is None else draft.sole_maker(found[0], "layer_norm")
    if found is None or norm is None or any(name not in draft.constants for name in norm.inputs[1:]):
        return False
    values = per_channel(draft, norm, found[1])
    if values is None:
        return False
    gamma, beta = (draft.constants[name].astype(np.float64) for name in norm.inputs[1:])
    gamma, beta = (gamma * values, beta * values) if factor else (gamma, beta + values)
    parts = (draft.constant(f"{norm.name}.gamma", gamma), draft.constant(f"{norm.name}.beta", beta))
    draft.change(norm, replace(norm, inputs=(norm.inputs[0], *parts)))
    draft.substitute(node, found[0])
    return True
