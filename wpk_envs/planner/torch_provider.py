"""Every operation as the framework computes it: the candidate that a node always has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Call, Implementation, Resources, Target
from wpk_envs.planner.operations import evaluate

CHANNELS_LAST = ("conv2d", "max_pool2d", "avg_pool2d", "global_avg_pool", "unary", "binary", "batch_norm")
"""Operations that torch also computes on images in NHWC, which it calls channels_last."""


def unavailable() -> str:
    """Torch is always there."""
    return ""


def offers(graph: Graph, node: Node, target: Target, provider: str = "torch") -> list[Implementation]:
    """The operation on plain tensors, and on images in NHWC where torch has that, offered by a provider."""
    if node.op == "convert":
        return []
    found = [_offer(graph, node, layouts.PLAIN, provider)]
    tensors = [graph.tensors[name] for name in (*graph.activations(node), *node.outputs)]
    images = all(len(tensor.shape) == 4 and tensor.size for tensor in tensors)
    if node.op in CHANNELS_LAST and images and layouts.NHWC in target.layouts:
        found.append(_offer(graph, node, layouts.NHWC, provider))
    return found


def _offer(graph: Graph, node: Node, layout: str, provider: str) -> Implementation:
    activations = graph.activations(node)
    settings = {
        "op": node.op,
        "attributes": dict(node.attributes),
        "constants": [name in graph.constants for name in node.inputs],
        "layout": layout,
        "dtypes": [graph.tensors[name].dtype for name in node.outputs],
    }
    label = "torch channels_last" if layout == layouts.NHWC else "torch"
    if node.op == "framework":
        label = f"{node.attributes['framework']} {node.attributes.get('target', '')}".strip()
    return Implementation(
        provider, label, inputs=(layout,) * len(activations), outputs=(layout,) * len(node.outputs), settings=settings
    )


def pack(graph: Graph, node: Node, implementation: Implementation) -> dict[str, np.ndarray]:
    """The constants as they are, numbered."""
    values = [graph.constants[name] for name in node.inputs if name in graph.constants]
    return {str(position): value for position, value in enumerate(values)}


def bind(
    settings: Mapping[str, Any],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    constants: Mapping[str, np.ndarray],
    resources: Resources,
) -> Call:
    """A call that computes the operation in torch and copies the result into the outputs."""
    import torch

    tensor = torch.from_numpy
    arguments, results = arguments_of(
        settings, list(map(tensor, inputs)), list(map(tensor, outputs)), {k: tensor(v) for k, v in constants.items()}
    )
    compute = computing(settings)

    def call() -> None:
        with torch.inference_mode(), _threads(resources.threads):
            for result, value in zip(results, compute(arguments)):
                result.copy_(value)

    return call


def arguments_of(
    settings: Mapping[str, Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: Mapping[str, Any]
) -> tuple[list[Any], list[Any]]:
    """An operation's arguments and results as torch sees them, [N, C, H, W] with other strides where they are NHWC.

    Args:
        settings: Of the implementation.
        inputs: The buffers as torch tensors.
        outputs: Those, too.
        constants: What `pack` gave, as torch tensors.
    """
    last = settings["layout"] == layouts.NHWC
    given = iter([_view(tensor, last) for tensor in inputs])
    fixed = iter([_constant(constants[name], last) for name in sorted(constants, key=int)])
    arguments = [next(fixed) if is_constant else next(given) for is_constant in settings["constants"]]
    return arguments, [_view(tensor, last) for tensor in outputs]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use that many threads, and then as many as before."""
    import torch

    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def computing(settings: Mapping[str, Any]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What computes an operation's results of its arguments."""
    if settings["op"] == "framework":
        from wpk_envs.planner import framework

        prepared = framework.make(settings["attributes"])
        return lambda arguments: prepared(*arguments)
    node = Node("", settings["op"], (), (), settings["attributes"])
    return lambda arguments: evaluate(node, arguments)


def _view(tensor: Any, channels_last: bool) -> Any:
    """A buffer as torch sees it: an NHWC one as [N, C, H, W] with other strides."""
    return tensor.permute(0, 3, 1, 2) if channels_last else tensor


def _constant(tensor: Any, channels_last: bool) -> Any:
    import torch

    if channels_last and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor
