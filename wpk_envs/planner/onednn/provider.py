"""oneDNN as a provider of implementations: see `wpk_envs.planner.implementation`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wpk_envs.errors import UserError
from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Call, Implementation, Resources, Target
from wpk_envs.planner.onednn import images, library, moves, products
from wpk_envs.planner.onednn.drafts import Draft

NAME = "onednn"

DRAFTS: dict[str, Callable[[Graph, Node, Sequence[str]], Iterator[Draft]]] = {
    "conv2d": products.conv2d,
    "gemm": products.gemm,
    "matmul": products.matmul,
    "unary": images.unary,
    "binary": images.binary,
    "batch_norm": images.batch_norm,
    "layer_norm": images.layer_norm,
    "softmax": images.softmax,
    "max_pool2d": images.max_pool2d,
    "avg_pool2d": images.avg_pool2d,
    "global_avg_pool": images.global_avg_pool,
    "concat": moves.concat,
    "transpose": moves.transpose,
    "convert": moves.convert,
}
"""What oneDNN can compute, and the primitives that do."""

LARGEST_RANK = 6
BLOCKS = (None, 8, 16)
"""Channels of a block in layouts that the shim knows; none for those without blocks."""
INSTRUCTIONS = ("avx512", "avx2", "avx", "sse41")
"""Vector instructions in the names of implementations, the widest first; some names have none."""


@functools.cache
def unavailable() -> str:
    """Why oneDNN cannot be called here, in a sentence; empty if it can."""
    try:
        library.load()
    except UserError as error:
        return str(error)
    return ""


def offers(graph: Graph, node: Node, target: Target) -> list[Implementation]:
    """Every implementation that oneDNN has for a node, its own first choice for each primitive and layout in front.

    Args:
        graph: The node's graph.
        node: Of any operation; none is offered for what oneDNN does not compute.
        target: Threads, and the layouts to offer for.
    """
    if target.device.kind != "cpu" or node.op not in DRAFTS or not _supported(graph, node):
        return []
    ranked = []
    for draft in DRAFTS[node.op](graph, node, [each for each in target.layouts if layouts.block_of(each) in BLOCKS]):
        draft.settings["threads"] = target.threads
        for rank, name in enumerate(_fast(library.implementations(draft.settings))):
            ranked.append((rank, _implementation(draft, name)))
    return [offer for _, offer in sorted(ranked, key=lambda pair: pair[0])]


def _supported(graph: Graph, node: Node) -> bool:
    """Whether a node has only float32 tensors that are not empty, of ranks that the shim takes."""
    tensors = [graph.tensors[name] for name in (*node.inputs, *node.outputs)]
    return all(tensor.dtype == "float32" and tensor.size and len(tensor.shape) <= LARGEST_RANK for tensor in tensors)


def _fast(names: Sequence[str]) -> list[str]:
    """The implementations that may be fast: compiled for the shape if there are any, for the widest vectors only.

    Those that oneDNN calls simple are loops without its compiler, those that it calls ref are there for everything.
    """
    loops = [name for name in names if name.startswith("simple")]
    compiled = [name for name in names if not name.startswith(("ref", "simple"))] or loops
    widest = next((name for name in INSTRUCTIONS if any(name in other for other in compiled)), "")
    narrower = INSTRUCTIONS[INSTRUCTIONS.index(widest) + 1 :] if widest else ()
    return [name for name in compiled if widest in name or not any(other in name for other in narrower)]


def _implementation(draft: Draft, name: str) -> Implementation:
    kind = draft.settings["kind"]
    return Implementation(
        provider=NAME,
        label=f"oneDNN {kind} {name}",
        inputs=tuple(layout for _, layout in sorted(draft.inputs.items())),
        outputs=draft.outputs,
        settings={**draft.settings, "implementation": name},
    )


def pack(graph: Graph, node: Node, implementation: Implementation) -> dict[str, np.ndarray]:
    """The node's constants by the argument of the primitive that each is; the weights as oneDNN packs them.

    Args:
        graph: The node's graph.
        node: The node.
        implementation: One of its `offers`.

    Raises:
        UserError: If oneDNN does not have the implementation here.
    """
    settings, packed = implementation.settings, {}
    for argument, what in settings.get("constants", {}).items():
        array = np.ascontiguousarray(graph.constants[node.inputs[what["input"]]], np.float32)
        if argument == "weights":
            packed[argument] = library.pack(settings, array)
        else:
            packed[argument] = layouts.to_buffer(array.reshape(what["shape"]), what["layout"])
    return packed


def bind(
    settings: Mapping[str, Any],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    constants: Mapping[str, np.ndarray],
    resources: Resources,
) -> Call:
    """Make the primitive, on its buffers.

    Args:
        settings: An implementation's.
        inputs: Buffers of the activations, C-contiguous float32.
        outputs: Buffers of the results.
        constants: What `pack` returned.
        resources: Threads.

    Raises:
        UserError: If the step was planned for another number of threads, oneDNN does not have the implementation
            here, or a buffer does not have the size that it takes.
    """
    if settings["threads"] != resources.threads:
        raise UserError(
            f"a step of oneDNN was planned for threads={settings['threads']} and is loaded for"
            f" threads={resources.threads}: its weights may be packed in another way, so plan again"
        )
    where: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "constants": constants}
    return library.bind(settings, {name: where[kind][key] for name, (kind, key) in settings["arguments"].items()})
