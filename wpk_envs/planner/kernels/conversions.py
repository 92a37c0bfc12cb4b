"""Our kernel that gives an image another layout, for plans that have no vendor's library to do it."""

from __future__ import annotations

import math
from typing import Any

from wpk_envs.core import stable_hash
from wpk_envs.planner import layouts
from wpk_envs.planner.graph import Graph, Node
from wpk_envs.planner.implementation import Implementation
from wpk_envs.planner.kernels.compiled import CompiledFunctions

LANES = 16
"""Channels, or pixels, that are moved at once, where so many divide the image's."""


def offers(graph: Graph, node: Node, functions: CompiledFunctions) -> list[Implementation]:
    """The conversion of a float32 image; none for anything else.

    Args:
        graph: The node's graph.
        node: A conversion.
        functions: Where it is compiled when it is first asked for.
    """
    tensor = graph.tensors[node.inputs[0]]
    if tensor.dtype != "float32" or len(tensor.shape) != 4 or not tensor.size:
        return []
    source, sink = node.attributes["from"], node.attributes["to"]
    batch, channels, height, width = tensor.shape
    image = (batch, channels, height * width)
    name = f"convert_{stable_hash([image, source, sink])}"
    functions.add(name, lambda: convert(image, source, sink))
    arguments = [
        {"from": "input", "shape": list(_shape(source, image))},
        {"from": "output", "shape": list(_shape(sink, image))},
    ]
    settings = {"function": name, "arguments": arguments}
    return [Implementation("kernels", f"convert {source} to {sink}", (source,), (sink,), settings)]


def _shape(layout: str, image: tuple[int, int, int]) -> tuple[int, ...]:
    """Shape of an image [N, C, H * W] in a layout: its pixels are counted through."""
    *outer, rows, last = layouts.buffer_shape(layout, (*image, 1))
    return (*outer, rows) if layout == layouts.PLAIN else (*outer, last)


def convert(image: tuple[int, int, int], source: str, sink: str) -> Any:
    """The kernel's module (imports TVM).

    A block of channels is moved pixel after pixel, so that every channel is read or written as a stream, and a vector
    is written at a time. What fills the last block of channels up is zero.

    Args:
        image: [N, C, H * W].
        source: Layout of the input.
        sink: Layout of the output.
    """
    import tvm
    from tvm import te
    from tvm.s_tir import Schedule

    channels, block = image[1], layouts.block_of(sink)
    padded = block is not None and channels % block > 0
    x = te.placeholder(_shape(source, image), "float32", name="x")

    def moved(n: Any, c: Any, p: Any) -> Any:
        value = x(*_place(source, n, c, p))
        return te.if_then_else(c < channels, value, tvm.tirx.const(0.0, "float32")) if padded else value

    y = te.compute(_shape(sink, image), lambda *place: moved(*_pixel(sink, *place)), name="y")
    schedule = Schedule(te.create_prim_func([x, y]))
    vector = _ordered(schedule, sink)
    if not padded:
        schedule.vectorize(vector)
    return schedule.mod


def _place(layout: str, n: Any, c: Any, p: Any) -> tuple[Any, ...]:
    """Where a channel of a pixel is in a layout."""
    block = layouts.block_of(layout)
    if block is not None:
        return n, c // block, p, c % block
    return (n, p, c) if layout == layouts.NHWC else (n, c, p)


def _pixel(layout: str, n: Any, *place: Any) -> tuple[Any, Any, Any]:
    """The image, channel and pixel that are at a place of a layout."""
    block = layouts.block_of(layout)
    if block is not None:
        outer, p, inner = place
        return n, outer * block + inner, p
    return (n, *reversed(place)) if layout == layouts.NHWC else (n, *place)


def _ordered(schedule: Any, sink: str) -> Any:
    """Order the loops; the last one, which is returned, goes along what lies together in the sink."""
    n, *middle, last = schedule.get_loops(schedule.get_sblock("y"))
    if layouts.block_of(sink) is not None:
        return last
    if sink == layouts.NHWC:
        (pixel,) = middle
        outer, channel = _split(schedule, last)
        schedule.reorder(n, outer, pixel, channel)
        return channel
    outer, channel = _split(schedule, *middle)
    further, pixel = _split(schedule, last)
    schedule.reorder(n, outer, further, channel, pixel)
    return pixel


def _split(schedule: Any, loop: Any) -> Any:
    """An outer loop, and an inner one as long as a vector where that divides the loop."""
    return schedule.split(loop, [None, math.gcd(int(schedule.get(loop).extent), LANES)])
