from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.planner_graphs import Builder
from wpk_envs.core import Candidate, DeviceInfo, Measurement
from wpk_envs.devices.host import cpu_info
from wpk_envs.planner import layouts
from wpk_envs.planner.buffers import aligned
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Implementation, Resources, Target
from wpk_envs.planner.kernels.compiled import bind
from wpk_envs.planner.kernels.provider import KernelProvider, describe
from wpk_envs.planner.operations import evaluate
from wpk_envs.planner.operator_of import operator_of
from wpk_envs.planner.planning import image_layouts
from wpk_envs.records import Store
from wpk_envs.schedules import build_space


@pytest.fixture(scope="module")
def device() -> DeviceInfo:
    return cpu_info()


def conv(channels: int, filters: int, residual: bool = False, **how) -> Graph:
    b = Builder()
    x = b.input(1, channels, 12, 10)
    weight = b.random(filters, channels // how.get("groups", 1), *how["kernel"], scale=0.1)
    inputs = [x, weight, b.random(filters)]
    attributes = {"stride": (1, 1), "dilation": (1, 1), "groups": 1, "bias": True, "activation": "relu", **how}
    kernel = attributes.pop("kernel")
    attributes["padding"] = (kernel[0] // 2, kernel[1] // 2)
    if residual:
        inputs.append(b.input(1, filters, 12, 10))
        attributes["residual"] = True
    return b.graph(b.add("conv2d", *inputs, **attributes))


CASES = {
    "3x3": conv(16, 32, kernel=(3, 3)),
    "3x3 residual": conv(32, 32, residual=True, kernel=(3, 3)),
    "1x1": conv(32, 64, residual=True, kernel=(1, 1)),
    "stride": conv(24, 32, kernel=(3, 3), stride=(2, 2)),
    "depthwise": conv(32, 32, kernel=(3, 3), groups=32),
    "image": conv(3, 16, kernel=(3, 3)),
}


def computed(
    graph: Graph, offer: Implementation, provider: KernelProvider, arrays: dict[str, np.ndarray]
) -> np.ndarray:
    """What an offer makes of a graph's only node, in the canonical layout."""
    (node,) = graph.nodes
    inputs = [
        aligned(layouts.to_buffer(arrays[name], layout)) for name, layout in zip(graph.activations(node), offer.inputs)
    ]
    shape = graph.tensors[node.output].shape
    output = aligned(np.full(layouts.buffer_shape(offer.outputs[0], shape), np.nan, np.float32))
    constants = {name: aligned(value) for name, value in provider.pack(graph, node, offer).items()}
    bind(offer.settings, inputs, [output], constants, Resources(1, provider.functions))()
    assert np.isfinite(output).all()
    if (block := layouts.block_of(offer.outputs[0])) is not None and shape[1] % block:
        assert not output[:, -1, ..., shape[1] % block :].any(), "what fills the last block up stays zero"
    return layouts.from_buffer(output, offer.outputs[0], shape)


def check(graph: Graph, offers: list[Implementation], provider: KernelProvider) -> None:
    import torch

    (node,) = graph.nodes
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal(graph.tensors[name].shape, np.float32) for name in graph.inputs}
    values = {**arrays, **graph.constants}
    (wanted,) = evaluate(node, [torch.from_numpy(values[name]) for name in node.inputs])
    for offer in offers:
        error = np.abs(computed(graph, offer, provider, arrays) - wanted.numpy()).max() / np.abs(wanted.numpy()).max()
        assert error < 1e-4, offer


@pytest.mark.parametrize("name", CASES)
def test_defaults_compute_the_same_in_every_layout(name: str, device: DeviceInfo) -> None:
    graph, provider = CASES[name], KernelProvider(device, None)
    offers = provider.offers(graph, graph.nodes[0], Target(device, image_layouts(device)))
    assert offers
    check(graph, offers, provider)


@pytest.mark.parametrize("template", ["direct_conv", "winograd_conv", "gemm", "depthwise_conv"])
def test_tuned_schedules_compute_the_same_in_every_layout(template: str, device: DeviceInfo, tmp_path) -> None:
    graph = CASES[{"gemm": "1x1", "depthwise_conv": "depthwise"}.get(template, "3x3 residual")]
    operator = operator_of(graph, graph.nodes[0])
    assert operator is not None
    space = build_space(operator, device, [template])
    rng = np.random.default_rng(0)
    with Store(tmp_path / "records.sqlite") as store:
        candidates: list[Candidate] = []
        for latency in (5.0, 6.0, 7.0):
            candidates.append(space.candidate(space.sample(rng)))
            store.put(candidates[-1], device, Measurement(samples_us=(latency,)))
        provider = KernelProvider(device, store)
        offers = provider.offers(graph, graph.nodes[0], Target(device, image_layouts(device)))
    tuned = [offer for offer in offers if offer.settings["source"] == "record"]
    assert {offer.settings["tuned_us"] for offer in tuned} <= {5.0, 6.0, 7.0}
    assert any(offer.settings["candidate"] == candidates[0].key for offer in tuned)
    check(graph, tuned, provider)


def test_a_matrix_product_is_offered_plainly(device: DeviceInfo) -> None:
    b = Builder()
    graph = b.graph(b.gemm(b.input(1, 24, 40), 64, bias=True))
    provider = KernelProvider(device, None)
    offers = provider.offers(graph, graph.nodes[0], Target(device, image_layouts(device)))
    assert {(offer.inputs, offer.outputs) for offer in offers} == {(("plain",), ("plain",))}
    check(graph, offers, provider)


def test_what_is_no_operator_has_no_offers(device: DeviceInfo) -> None:
    b = Builder()
    graph = b.graph(b.unary("gelu", b.input(1, 8)))
    assert KernelProvider(device, None).offers(graph, graph.nodes[0], Target(device, image_layouts(device))) == []


def conversion(tensor: Tensor, source: str, sink: str) -> Graph:
    node = Node("convert", "convert", ("x",), ("y",), {"from": source, "to": sink})
    return Graph("", ("x",), ("y",), (node,), {"x": tensor, "y": tensor}, {})


@pytest.mark.parametrize("shape", [(1, 32, 4, 4), (2, 16, 3, 5), (1, 3, 4, 8), (1, 24, 7, 1), (2, 20, 1, 1)])
@pytest.mark.parametrize(("source", "sink"), [*itertools.permutations(("plain", "NHWC", "NCHW8c", "NCHW16c"), 2)])
def test_conversions(shape: tuple[int, ...], source: str, sink: str, device: DeviceInfo) -> None:
    graph, provider = conversion(Tensor(shape), source, sink), KernelProvider(device, None)
    (offer,) = provider.offers(graph, graph.nodes[0], Target(device, image_layouts(device)))
    assert (offer.inputs, offer.outputs) == ((source,), (sink,))
    array = np.random.default_rng(1).standard_normal(shape, np.float32)
    assert np.array_equal(computed(graph, offer, provider, {"x": array}), array)


def test_only_float32_images_are_converted(device: DeviceInfo) -> None:
    provider = KernelProvider(device, None)
    for tensor in (Tensor((1, 4, 2, 2), "int64"), Tensor((4, 2))):
        graph = conversion(tensor, "plain", "NHWC")
        assert provider.offers(graph, graph.nodes[0], Target(device, image_layouts(device))) == []


def test_algorithms_are_told_apart() -> None:
    assert describe({"template": "winograd_conv", "winograd_m": 4}) == "winograd_conv F(4x4)"
    assert describe({"template": "direct_conv", "vector": 16}) == "direct_conv"
