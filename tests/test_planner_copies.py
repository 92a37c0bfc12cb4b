"""Conversions between layouts without oneDNN."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wpk_envs.devices.host import cpu_info
from wpk_envs.planner import copies, layouts
from wpk_envs.planner.assembly import CONVERT
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Resources, Target

LAYOUTS = ("plain", "NHWC", "NCHW8c")


@pytest.mark.parametrize("channels", [3, 8, 16, 21])
@pytest.mark.parametrize(("source", "sink"), list(itertools.permutations(LAYOUTS, 2)))
def test_an_image_is_the_same_in_another_layout(source: str, sink: str, channels: int) -> None:
    tensor = Tensor((2, channels, 3, 5), "float32")
    node = Node("convert", CONVERT, ("x",), ("y",), {"from": source, "to": sink})
    graph = Graph("", ("x",), ("y",), (node,), {"x": tensor, "y": tensor}, {})
    (offer,) = copies.offers(graph, node, Target(cpu_info(), LAYOUTS))
    assert (offer.inputs, offer.outputs) == ((source,), (sink,))
    image = np.random.default_rng(0).standard_normal(tensor.shape, np.float32)
    read, wanted = layouts.to_buffer(image, source), layouts.to_buffer(image, sink)
    written = np.full_like(wanted, np.nan)
    copies.bind(offer.settings, [read], [written], copies.pack(graph, node, offer), Resources(1))()
    assert np.array_equal(written, wanted)
