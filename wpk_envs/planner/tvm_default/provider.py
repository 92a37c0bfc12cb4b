"""Offers every operation that TVM defines on plain tensors, without a schedule: what a tuned one has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Implementation, Target
from wpk_envs.planner.kernels.compiled import CompiledFunctions, bind
from wpk_envs.planner.offering import case_of

NAME = "tvm"
LABEL = "TVM default"

OPERATIONS = (
    "conv2d", "gemm", "matmul", "unary", "binary", "batch_norm", "max_pool2d", "avg_pool2d", "global_avg_pool",
    "softmax", "layer_norm", "transpose", "slice", "concat",
)  # fmt: skip
"""What `tvm_default.definitions` defines."""


class TvmDefault:
    """Operators as TVM defines them.

    Args:
        functions: Where they are compiled when they are first asked for.
    """

    def __init__(self, functions: CompiledFunctions) -> None:
        self.functions = functions

    def unavailable(self) -> str:
        """TVM is always there."""
        return ""

    def offers(self, graph: Graph, node: Node, target: Target) -> list[Implementation]:
        """The operation on plain float32 tensors."""
        if target.device.kind != "cpu" or node.op not in OPERATIONS or not _supported(graph, node):
            return []
        name, attributes = f"tvm_{case_of(graph, node)}", _attributes(graph, node)
        arguments = [_argument(graph, node, place) for place in range(len(node.inputs))]
        shapes = [argument["shape"] for argument in arguments]
        self.functions.add(name, lambda: _module(node.op, attributes, shapes))
        arguments.append({"from": "output", "shape": list(graph.tensors[node.output].shape)})
        inputs = (layouts.PLAIN,) * len(graph.activations(node))
        return [
            Implementation(NAME, LABEL, inputs, (layouts.PLAIN,), {"function": name, "arguments": arguments}),
        ]

    def pack(self, graph: Graph, node: Node, implementation: Implementation) -> dict[str, np.ndarray]:
        """The constants as they are, by their places among the inputs."""
        named = enumerate(node.inputs)
        return {str(place): graph.constants[name] for place, name in named if name in graph.constants}

    bind = staticmethod(bind)


def _supported(graph: Graph, node: Node) -> bool:
    tensors = [graph.tensors[name] for name in (*node.inputs, *node.outputs)]
    return all(tensor.dtype == "float32" and tensor.size for tensor in tensors) and not _counts_overhang(graph, node)


def _argument(graph: Graph, node: Node, place: int) -> dict[str, Any]:
    """An input of the compiled function; a convolution's bias gets the output's rank."""
    name = node.inputs[place]
    shape = list(graph.tensors[name].shape)
    if node.op == "conv2d" and place == 2 and node.attributes.get("bias"):
        shape = [1, *shape, 1, 1]
    return {"constant": str(place), "shape": shape} if name in graph.constants else {"from": "input", "shape": shape}


def _attributes(graph: Graph, node: Node) -> dict[str, Any]:
    attributes = dict(node.attributes)
    if node.op in ("max_pool2d", "avg_pool2d"):
        attributes["padding"] = [*attributes["padding"], *_padding_behind(graph, node)]
    return attributes


def _padding_behind(graph: Graph, node: Node) -> list[int]:
    """A pooling's padding at the bottom and at the right: as much as its last window needs, which may be more."""
    attributes = node.attributes
    sizes, out_sizes = (graph.tensors[name].shape[2:] for name in (node.inputs[0], node.output))
    dilation = attributes.get("dilation", (1, 1))
    found = []
    for axis, (size, out_size) in enumerate(zip(sizes, out_sizes)):
        before, window = attributes["padding"][axis], dilation[axis] * (attributes["kernel"][axis] - 1) + 1
        found.append(max(before, (out_size - 1) * attributes["stride"][axis] + window - size - before))
    return found


def _counts_overhang(graph: Graph, node: Node) -> bool:
    """Whether windows of a mean reach beyond the padding that is counted: there TVM divides by another number."""
    if node.op != "avg_pool2d" or not node.attributes["count_include_pad"]:
        return False
    return _padding_behind(graph, node) != list(node.attributes["padding"])


def _module(operation: str, attributes: Mapping[str, Any], shapes: Sequence[Sequence[int]]) -> Any:
    from wpk_envs.planner.tvm_default import definitions

    return definitions.module(operation, attributes, shapes)
