"""Fusion of activations."""

from __future__ import annotations

from dataclasses import replace

from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.passes.draft import Draft, sweep

FUSIBLE = {"conv2d": ("relu", "relu6"), "gemm": ("relu", "relu6", "gelu")}
"""Activations that an operation can end with."""


def fuse_activation(graph: Graph) -> Graph:
    """Apply an activation inside the convolution or gemm before it, after its residual."""
    return sweep(graph, _fuse)


def _fuse(draft: Draft, node: Node) -> bool:
    product = draft.sole_maker(node.inputs[0], *FUSIBLE) if node.op == "unary" else None
    if product is None or product.attributes.get("activation", "none") != "none":
        return False
    activation = node.attributes["function"]
    if activation not in FUSIBLE[product.op]:
        return False
    draft.change(product, replace(product, attributes={**product.attributes, "activation": activation}))
    draft.substitute(node, product.output)
    return True
