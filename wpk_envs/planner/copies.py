"""Conversions between layouts as copies of NumPy's: slower than oneDNN's, and there wherever that is not.

A provider of implementations, see `wpk_envs.planner.implementation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wpk_envs.planner import layouts
from wpk_envs.planner.assembly import CONVERT
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Call, Implementation, Resources, Target

NAME = "numpy"


def unavailable() -> str:
    """NumPy is always there."""
    return ""


def offers(graph: Graph, node: Node, target: Target) -> list[Implementation]:
    """A copy, for conversions only, and not between blocks of different sizes."""
    if node.op != CONVERT:
        return []
    source, sink = node.attributes["from"], node.attributes["to"]
    if layouts.block_of(source) and layouts.block_of(sink):
        return []
    settings = {"from": source, "to": sink, "channels": graph.tensors[node.inputs[0]].shape[1]}
    return [Implementation(NAME, "NumPy copy", (source,), (sink,), settings)]


def pack(graph: Graph, node: Node, implementation: Implementation) -> dict[str, np.ndarray]:
    """Conversions have no constants."""
    return {}


def bind(
    settings: Mapping[str, Any],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    constants: Mapping[str, np.ndarray],
    resources: Resources,
) -> Call:
    """A call that copies every element to its place and fills up the last block with zeros."""
    (read,), (written,) = inputs, outputs
    source, sink, channels = settings["from"], settings["to"], settings["channels"]
    block = layouts.block_of(source) or layouts.block_of(sink) or channels
    pairs = list(zip(_pieces(written, sink, channels, block), _pieces(read, source, channels, block)))
    rest = channels % block
    padding = written[:, -1, ..., rest:] if rest and layouts.block_of(sink) else None

    def call() -> None:
        for there, here in pairs:
            there[...] = here
        if padding is not None:
            padding[...] = 0

    return call


def _pieces(buffer: np.ndarray, layout: str, channels: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of the channels that fill blocks, [N, C', H, W, c], and of the others, [N, H, W, r]."""
    blocks, rest = divmod(channels, block)
    if layouts.block_of(layout):
        return buffer[:, :blocks], buffer[:, -1, ..., :rest]
    image = buffer if layout == layouts.NHWC else buffer.transpose(0, 2, 3, 1)
    filling, others = image[..., : channels - rest], image[..., channels - rest :]
    return filling.reshape(*image.shape[:3], blocks, block).transpose(0, 3, 1, 2, 4), others
