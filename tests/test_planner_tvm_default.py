"""TVM's default schedule as a candidate: every operation against torch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tests.planner_graphs import Builder
from wpk_envs.core import DeviceInfo
from wpk_envs.devices.host import cpu_info
from wpk_envs.planner import operations, providers, torch_provider
from wpk_envs.planner.buffers import aligned
from wpk_envs.planner.graph import Graph, Tensor
from wpk_envs.planner.implementation import Resources, Target
from wpk_envs.planner.kernels.compiled import CompiledFunctions, bind
from wpk_envs.planner.offering import HOPELESS, Offers
from wpk_envs.planner.tvm_default import provider
from wpk_envs.planner.tvm_default.provider import TvmDefault


@pytest.fixture(scope="module")
def device() -> DeviceInfo:
    return cpu_info()


@pytest.fixture(scope="module")
def tvm_default(device: DeviceInfo) -> TvmDefault:
    return TvmDefault(CompiledFunctions(device))


def one(op: str, *shapes: tuple[int, ...], constants: int = 0, **attributes) -> Graph:
    """A graph of one node; its last inputs are constants."""
    b = Builder()
    given = [b.input(*shape) for shape in shapes[: len(shapes) - constants]]
    given += [b.random(*shape) for shape in shapes[len(shapes) - constants :]]
    return b.graph(b.add(op, *given, **attributes))


def conv(channels: int, filters: int, kernel: tuple[int, int] = (3, 3), **how) -> Graph:
    b = Builder()
    x = b.input(2, channels, 9, 8)
    weight = b.random(filters, channels // how.get("groups", 1), *kernel, scale=0.2)
    attributes = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, **how}
    rest = [b.random(filters)] if how.get("bias") else []
    if how.get("residual"):
        rest.append(b.input(2, filters, 9, 8))
    return b.graph(b.add("conv2d", x, weight, *rest, **attributes))


def gemm_with_all() -> Graph:
    b = Builder()
    given = [b.input(2, 4, 7), b.random(7, 5), b.random(5), b.input(2, 4, 5)]
    return b.graph(b.add("gemm", *given, bias=True, residual=True, activation="gelu"))


def pool(op: str, size: int = 9, **how) -> Graph:
    kind = {"dilation": (1, 1)} if op == "max_pool2d" else {"count_include_pad": False}
    windows = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 1), "ceil_mode": False, **kind, **how}
    return one(op, (1, 5, size, size - 1), **windows)


def normalised() -> Graph:
    b = Builder()
    return b.graph(b.batch_norm(b.input(2, 5, 4, 3)))


def of_itself() -> Graph:
    b = Builder()
    x = b.input(3, 4)
    return b.graph(b.binary("mul", x, x))


CASES = {
    "conv2d": conv(5, 6),
    "conv2d with all": conv(8, 8, bias=True, residual=True, activation="relu6"),
    "conv2d with a residual": conv(4, 6, residual=True, activation="gelu"),
    "conv2d of groups": conv(8, 12, groups=4, bias=True, stride=(2, 1), dilation=(1, 2), padding=(2, 0)),
    "depthwise conv2d": conv(6, 6, groups=6, bias=True, activation="relu"),
    "gemm": one("gemm", (2, 3, 7), (7, 5), constants=1),
    "gemm with all": gemm_with_all(),
    "matmul": one("matmul", (2, 3, 4, 5), (2, 3, 5, 6), scale=0.125),
    "matmul of permuted": one(
        "matmul", (1, 4, 2, 5), (1, 6, 2, 5), a_axes=(0, 2, 1, 3), b_axes=(0, 2, 3, 1), out_axes=(0, 2, 1, 3), scale=0.5
    ),
    "matmul of broadcast": one("matmul", (2, 3, 4, 5), (5, 6)),
    **{f"unary {function}": one("unary", (3, 5, 7), function=function) for function in operations.UNARY},
    **{f"binary {function}": one("binary", (2, 3, 4), (2, 3, 4), function=function) for function in operations.BINARY},
    "binary of broadcast": one("binary", (2, 3, 4), (3, 1), function="sub"),
    "binary of broadcast both": one("binary", (2, 1, 4), (3, 1), function="div"),
    "binary with a constant": one("binary", (2, 3, 4), (), constants=1, function="mul"),
    "binary of itself": of_itself(),
    "batch_norm": normalised(),
    "max_pool2d": pool("max_pool2d"),
    "max_pool2d ceil": pool("max_pool2d", size=8, ceil_mode=True),
    "max_pool2d dilated": pool("max_pool2d", size=10, dilation=(2, 3), kernel=(2, 2)),
    "max_pool2d ceil without overhang": pool("max_pool2d", kernel=(2, 2), stride=(3, 3), ceil_mode=True, size=10),
    "avg_pool2d": pool("avg_pool2d"),
    "avg_pool2d with padding": pool("avg_pool2d", count_include_pad=True),
    "avg_pool2d ceil": pool("avg_pool2d", size=8, ceil_mode=True),
    "global_avg_pool": one("global_avg_pool", (2, 5, 7, 7)),
    "softmax": one("softmax", (2, 3, 9), axis=2),
    "softmax of the middle": one("softmax", (2, 5, 4), axis=1),
    "layer_norm": one("layer_norm", (2, 3, 16), (16,), (16,), constants=2, epsilon=1e-5),
    "transpose": one("transpose", (2, 3, 4, 5), axes=(0, 2, 1, 3)),
    "concat": one("concat", (2, 3, 4), (2, 5, 4), (2, 1, 4), axis=1),
    "slice": one("slice", (2, 5, 4), axis=1, start=1, stop=4),
}


@pytest.mark.parametrize("name", CASES)
def test_computes_what_torch_does(name: str, device: DeviceInfo, tvm_default: TvmDefault) -> None:
    graph = CASES[name]
    (node,) = graph.nodes
    (offer,) = tvm_default.offers(graph, node, Target(device, ("plain", "NHWC")))
    assert {*offer.inputs, *offer.outputs} == {"plain"}
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal(graph.tensors[name].shape, np.float32) for name in graph.inputs}
    values = {name: torch.from_numpy(value) for name, value in {**arrays, **graph.constants}.items()}
    (wanted,) = operations.evaluate(node, [values[name] for name in node.inputs])
    output = aligned(np.full(tuple(wanted.shape), -1e9, np.float32))
    constants = {role: aligned(value) for role, value in tvm_default.pack(graph, node, offer).items()}
    given = [aligned(arrays[name]) for name in graph.activations(node)]
    bind(offer.settings, given, [output], constants, Resources(1, tvm_default.functions))()
    scale = np.nanmax(np.abs(wanted.numpy()))
    np.testing.assert_allclose(output, wanted.numpy(), rtol=0, atol=1e-5 * scale)


def test_what_is_not_offered(device: DeviceInfo, tvm_default: TvmDefault) -> None:
    counts_overhang = pool("avg_pool2d", size=8, ceil_mode=True, count_include_pad=True)
    b = Builder()
    of_integers = b.graph(b.unary("neg", b.input(3)))
    of_integers.tensors[of_integers.inputs[0]] = Tensor((3,), "int64")
    for graph in (
        counts_overhang,
        of_integers,
        one("reshape", (2, 3), shape=(3, 2)),
        one("unary", (0,), function="exp"),
    ):
        assert tvm_default.offers(graph, graph.nodes[0], Target(device, ("plain",))) == []


def test_a_hopeless_call_is_measured_once(device: DeviceInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    graph = b.graph(b.conv2d(b.input(1, 64, 56, 56), 64))
    (node,) = graph.nodes
    default = TvmDefault(CompiledFunctions(device))
    resources = Resources(1, default.functions)
    offers = Offers(graph, {"torch": torch_provider, "tvm": default}, Target(device, ("plain",)), resources)
    calls: Counter[str] = Counter()
    binder = providers.binder

    def counting(name: str):
        def bind(*given):
            call = binder(name)(*given)
            return lambda: (calls.update([name]), call())

        return bind

    monkeypatch.setattr(providers, "binder", counting)
    costs = [offers.cost_us(node, offer) for offer in offers.of(node)]
    assert costs[1] > HOPELESS * costs[0]
    assert calls["tvm"] == 1 < calls["torch"]


def test_every_operation_is_tried() -> None:
    assert {graph.nodes[0].op for graph in CASES.values()} == set(provider.OPERATIONS)
