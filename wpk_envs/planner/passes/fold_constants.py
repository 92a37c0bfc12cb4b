"""Constant folding.

Importers have folded what the framework computes, as far as it computes the same every time.
"""

from __future__ import annotations

import math

import numpy as np

from wpk_envs.planner import operations
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.passes.draft import Draft, sweep

MAX_GROWTH = 64 * 2**20
"""Bytes by which a folded constant may be larger than what it is computed from."""


def fold_constants(graph: Graph) -> Graph:
    """Compute what depends on constants alone."""
    return sweep(graph, _fold)


def _fold(draft: Draft, node: Node) -> bool:
    is_constant = node.op != "framework" and all(name in draft.constants for name in node.inputs)
    if not is_constant or _grows(draft, node):
        return False
    import torch

    with torch.inference_mode():
        results = operations.evaluate(node, [torch.from_numpy(draft.constants[name]) for name in node.inputs])
    draft.constants |= {name: np.array(result.numpy()) for name, result in zip(node.outputs, results)}
    draft.remove(node)
    return True


def _grows(draft: Draft, node: Node) -> bool:
    before = sum(_bytes(draft.tensors[name]) for name in set(node.inputs))
    return sum(_bytes(draft.tensors[name]) for name in node.outputs) > before + MAX_GROWTH


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
