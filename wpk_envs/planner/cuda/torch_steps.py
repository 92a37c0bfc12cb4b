"""Every operation as torch computes it on a GPU: with cuDNN, cuBLAS and kernels of its own.

Results are written straight into the plan's buffers where torch can (`direct`), and copied otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wpk_envs.planner import layouts, torch_provider
from wpk_envs.planner.assembly import CONVERT
from wpk_envs.planner.cuda.runtime import HostCall
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Call, Implementation, Resources, Target

NAME = "torch_cuda"

WAYS = {
    "conv2d": {
        "cudnn": "cuDNN",
        "cudnn_fused": "cuDNN fused",
        "pixels": "cuBLAS on pixels",
    },
    "gemm": {
        "cublas_nn": "cuBLAS",
        "cublas_nt": "cuBLAS, transposed",
        "cublas_fused": "cuBLASLt fused",
    },
}
"""Calls of the vendor's libraries besides what torch chooses itself, by operation; see `cuda.vendor_calls`."""


def unavailable() -> str:
    """Whoever plans for a GPU has torch."""
    return ""


def offers(graph: Graph, node: Node, target: Target) -> list[Implementation]:
    """The operation as torch computes it, in both layouts where it has them, and the libraries' other ways.

    Whether the installed libraries have a way for the very shapes is found out when it is timed.
    """
    if node.op == CONVERT:
        return [_conversion(graph, node)]
    plain = torch_provider.offers(graph, node, target, NAME)
    ways = [_way(graph, node, offer, way) for offer in plain for way in WAYS.get(node.op, ())]
    return [*plain, *(each for each in ways if each is not None)]


def _conversion(graph: Graph, node: Node) -> Implementation:
    source, sink = node.attributes["from"], node.attributes["to"]
    settings = {"op": CONVERT, "attributes": {}, "constants": [False], "layouts": [source, sink]}
    return Implementation(NAME, f"torch {source} to {sink}", (source,), (sink,), settings)


def _way(graph: Graph, node: Node, offer: Implementation, way: str) -> Implementation | None:
    """An offer computed in another way; none where that is no way to compute it."""
    attributes, label, layout = node.attributes, WAYS[node.op][way], offer.settings["layout"]
    activation = attributes.get("activation", "none")
    if activation == "gelu_tanh" or (way.endswith("_fused") and activation != "relu"):
        return None
    if way == "cublas_fused" and (attributes.get("residual") or not attributes.get("bias")):
        return None
    if way == "pixels" and not (layout == layouts.NHWC and _is_pointwise(graph, node)):
        return None
    label += " channels_last" if node.op == "conv2d" and way != "pixels" and layout == layouts.NHWC else ""
    return Implementation(NAME, label, offer.inputs, offer.outputs, {**offer.settings, "way": way})


def _is_pointwise(graph: Graph, node: Node) -> bool:
    window = graph.tensors[node.inputs[1]].shape[2:]
    settings = (node.attributes.get(name, default) for name, default in (("stride", (1, 1)), ("padding", (0, 0))))
    return window == (1, 1) and node.attributes.get("groups", 1) == 1 and [*map(tuple, settings)] == [(1, 1), (0, 0)]


def pack(graph: Graph, node: Node, implementation: Implementation) -> dict[str, np.ndarray]:
    """The constants as they are, numbered."""
    return {} if node.op == CONVERT else torch_provider.pack(graph, node, implementation)


def bind(
    settings: Mapping[str, Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Mapping[str, Any],
    resources: Resources,
) -> Call:
    """A call that computes the operation in torch's current stream; of the model's framework, a `HostCall`."""
    if settings["op"] == CONVERT:
        return _converting(settings["layouts"], *inputs, *outputs)
    arguments, results = torch_provider.arguments_of(settings, inputs, outputs, constants)
    compute = _computing(settings, arguments, results)

    def call() -> None:
        with exact():
            compute()

    return HostCall(call) if settings["op"] == "framework" else call


def _computing(settings: Mapping[str, Any], arguments: Sequence[Any], results: Sequence[Any]) -> Call:
    from wpk_envs.planner.cuda import direct, vendor_calls

    if "way" in settings:
        return vendor_calls.bind(settings["way"], settings["attributes"], arguments, results[0])
    if settings["op"] in direct.OPERATIONS:
        return direct.bind(settings["op"], settings["attributes"], arguments, results[0])
    compute = torch_provider.computing(settings)

    def copying() -> None:
        for result, value in zip(results, compute(arguments)):
            result.copy_(value)

    return copying


def _converting(between: Sequence[str], given: Any, made: Any) -> Call:
    source, sink = (
        tensor.permute(0, 3, 1, 2) if layout == layouts.NHWC else tensor
        for tensor, layout in zip((given, made), between)
    )
    return lambda: sink.copy_(source)


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Let cuDNN choose by trying and everything be float32, and then whatever was before."""
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False
    try:
        with torch.inference_mode():
            yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before
