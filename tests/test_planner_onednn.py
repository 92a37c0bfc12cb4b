"""oneDNN computes what the operations mean, in every layout that it offers, and says in a sentence why it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from wpk_envs.core import DeviceInfo
from wpk_envs.errors import UserError
from wpk_envs.planner import layouts, operations
from wpk_envs.planner.graph import Graph, Node, Tensor
from wpk_envs.planner.implementation import Implementation, Resources, Target
from wpk_envs.planner.onednn import build, library, provider

try:
    build.wheels()
    NO_WHEELS = ""
except UserError as error:
    NO_WHEELS = str(error)
pytestmark = pytest.mark.skipif(sys.platform != "linux" or "are for Linux" in NO_WHEELS, reason=NO_WHEELS)

ALL = ("plain", "NHWC", "NCHW8c", "NCHW16c")


def _target(threads: int = 1, kind: str = "cpu") -> Target:
    return Target(DeviceInfo(kind, "test", {}, {}, threads), ALL)


class Case:
    """One node on random inputs, and what it ought to compute.

    Args:
        op: The operation.
        shapes: Of the inputs.
        constants: Which inputs are constants.
        attributes: The node's.
    """

    def __init__(self, op, *shapes, constants=(), **attributes):
        rng = np.random.default_rng(len(shapes))
        positive = op == "batch_norm" or attributes.get("function") in ("sqrt", "div")
        values = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        self.values = [np.abs(value) + 0.5 if positive else value for value in values]
        names = tuple(f"in{place}" for place in range(len(shapes)))
        node = Node("node", op, names, ("out",), attributes)
        (out,) = operations.evaluate(node, [torch.from_numpy(value) for value in self.values])
        self.expected = out.numpy()
        tensors = {name: Tensor(value.shape) for name, value in zip(names, self.values)}
        held = {names[place]: self.values[place] for place in constants}
        self.graph = Graph(
            "test", tuple(name for name in names if name not in held), ("out",), (node,),
            tensors | {"out": Tensor(self.expected.shape)}, held,
        )  # fmt: skip
        self.node = node

    def offers(self, target: Target | None = None) -> list[Implementation]:
        return provider.offers(self.graph, self.node, target or _target())

    def bound(self, offer: Implementation, threads: int = 1, **changed):
        """The call, and the buffer that it writes."""
        given = [self.values[self.node.inputs.index(name)] for name in self.graph.activations(self.node)]
        inputs = [_aligned(layouts.to_buffer(value, layout)) for value, layout in zip(given, offer.inputs)]
        assert len(inputs) == len(offer.inputs)
        out = _aligned(np.full(layouts.buffer_shape(offer.outputs[0], self.expected.shape), np.nan, np.float32))
        constants = provider.pack(self.graph, self.node, offer) | changed
        settings = json.loads(json.dumps(offer.settings))
        return provider.bind(settings, inputs, [out], constants, Resources(threads)), out

    def error(self, offer: Implementation, threads: int = 1) -> float:
        """Relative error of what an offer computes; its padding has to be zero."""
        call, out = self.bound(offer, threads)
        call()
        return self.error_of(out, offer)

    def error_of(self, out: np.ndarray, offer: Implementation) -> float:
        found = layouts.from_buffer(out, offer.outputs[0], self.expected.shape)
        assert np.array_equal(layouts.to_buffer(found, offer.outputs[0]), out), "padding is not zero"
        return float(np.abs(found - self.expected).max() / np.abs(self.expected).max())


def _aligned(array: np.ndarray) -> np.ndarray:
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned = memory[start : start + array.nbytes].view(np.float32).reshape(array.shape)
    aligned[...] = array
    return aligned


def conv(image, weight, activation="none", bias=True, residual=False, **attributes) -> Case:
    out = torch.nn.functional.conv2d(torch.empty(image), torch.empty(weight), **attributes).shape
    shapes = [image, weight, *[weight[:1]] * bias, *[tuple(out)] * residual]
    return Case(
        "conv2d", *shapes, constants=(1, 2) if bias else (1,), bias=bias, residual=residual, activation=activation,
        **attributes,
    )  # fmt: skip


PAD = {"padding": (1, 1)}
CONVS = {
    "fused": conv((1, 64, 9, 8), (32, 64, 3, 3), "relu", residual=True, **PAD),
    "bare": conv((1, 16, 8, 8), (16, 16, 3, 3), bias=False),
    "first": conv((1, 3, 30, 30), (32, 3, 7, 7), "relu", stride=(2, 2), padding=(3, 3)),
    "odd channels": conv((2, 24, 9, 9), (20, 24, 3, 3), "gelu", residual=True, **PAD),
    "three channels": conv((2, 3, 9, 9), (3, 3, 3, 3), "relu6", residual=True, **PAD),
    "thousand channels": conv((1, 40, 3, 3), (1000, 40, 1, 1)),
    "pointwise": conv((2, 24, 7, 7), (40, 24, 1, 1), "relu6", residual=True),
    "pointwise strided": conv((1, 32, 8, 8), (48, 32, 1, 1), stride=(2, 2)),
    "depthwise": conv((1, 20, 9, 9), (20, 1, 3, 3), "relu6", groups=20, **PAD),
    "depthwise strided": conv((2, 32, 9, 9), (32, 1, 5, 5), groups=32, stride=(2, 2), padding=(2, 2)),
    "groups": conv((1, 64, 7, 7), (32, 32, 3, 3), "relu", groups=2, residual=True, **PAD),
    "uneven groups": conv((1, 12, 7, 7), (9, 4, 3, 3), groups=3, **PAD),
    "dilated": conv((1, 16, 12, 12), (32, 16, 3, 3), dilation=(2, 1), padding=(2, 1)),
    "oblong": conv((1, 16, 9, 13), (16, 16, 1, 7), stride=(1, 2), padding=(0, 3)),
}

POOL = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
IMAGE, ODD = (2, 20, 15, 16), (1, 3, 6, 5)
ATTENTION = {"a_axes": (0, 2, 1, 3), "b_axes": (0, 2, 3, 1), "scale": 0.125}
OTHERS = {
    "gemm": Case("gemm", (2, 5, 64), (64, 40), (40,), (2, 5, 40), constants=(1, 2), bias=True, residual=True,
                 activation="gelu"),
    "gemm of odd sizes": Case("gemm", (3, 5, 13), (13, 7), constants=(1,)),
    "gemm of one row": Case("gemm", (1, 64), (64, 1000), (1000,), constants=(1, 2), bias=True, activation="relu"),
    "gemm onto residual": Case("gemm", (5, 64), (64, 7), (5, 7), constants=(1,), residual=True, activation="relu6"),
    "gemm onto constant": Case("gemm", (5, 64), (64, 7), (5, 7), constants=(1, 2), residual=True),
    "matmul": Case("matmul", (16, 40), (40, 24)),
    "matmul broadcast": Case("matmul", (3, 16, 40), (40, 24)),
    "matmul of scores": Case("matmul", (1, 16, 4, 32), (1, 16, 4, 32), **ATTENTION),
    "matmul of values": Case("matmul", (1, 4, 16, 16), (1, 16, 4, 32), b_axes=(0, 2, 1, 3), out_axes=(0, 2, 1, 3)),
    "matmul turned": Case("matmul", (3, 16, 40), (3, 40, 24), out_axes=(1, 0, 2)),
    "batch norm": Case("batch_norm", IMAGE, *[(20,)] * 4, constants=(1, 2, 3, 4), epsilon=1e-3),
    "layer norm": Case("layer_norm", (2, 16, 64), (64,), (64,), constants=(1, 2), epsilon=1e-5),
    "layer norm of odd size": Case("layer_norm", (2, 3, 13), (13,), (13,), constants=(1, 2), epsilon=1e-12),
    "softmax": Case("softmax", (1, 4, 16, 17), axis=3),
    "softmax of channels": Case("softmax", IMAGE, axis=1),
    "max pool": Case("max_pool2d", IMAGE, **POOL, dilation=(1, 1), ceil_mode=False),
    "max pool rounded up": Case("max_pool2d", IMAGE, **POOL, dilation=(1, 1), ceil_mode=True),
    "average pool": Case("avg_pool2d", IMAGE, **POOL, ceil_mode=False, count_include_pad=True),
    "average pool within": Case("avg_pool2d", IMAGE, **POOL, ceil_mode=True, count_include_pad=False),
    "average pool rounded up": Case("avg_pool2d", IMAGE, kernel=(3, 2), stride=(2, 3), padding=(0, 0), ceil_mode=True,
                                    count_include_pad=True),
    "global pool": Case("global_avg_pool", IMAGE),
    "global pool of 1000": Case("global_avg_pool", (1, 1000, 7, 7)),
    "concat": Case("concat", (2, 32, 7, 7), (2, 16, 7, 7), axis=1),
    "concat of odd channels": Case("concat", (2, 3, 7, 7), (2, 20, 7, 7), axis=1),
    "concat of rows": Case("concat", (2, 20, 7, 7), (2, 20, 3, 7), axis=2),
    "concat of one twice": Case("concat", (2, 20), (2, 3), (2, 1), axis=1),
    "transpose": Case("transpose", (2, 20, 7, 5), axes=(0, 2, 3, 1)),
    "transpose of a matrix": Case("transpose", (20, 7), axes=(1, 0)),
    "scaled channels": Case("binary", IMAGE, (20, 1, 1), constants=(1,), function="mul"),
    "gated channels": Case("binary", IMAGE, (2, 20, 1, 1), function="mul"),
    "bias of rows": Case("binary", (2, 5, 64), (64,), constants=(1,), function="add"),
    "masked": Case("binary", (2, 4, 16, 16), (2, 1, 1, 16), function="add"),
    "scalar first": Case("binary", (), (2, 5, 64), constants=(0,), function="mul"),
    "same twice": Case("binary", (2, 20), (2, 20), function="sub"),
}  # fmt: skip
UNARY = {name: Case("unary", ODD, function=name) for name in operations.UNARY if name != "erf"}
FLAT = {f"{name} in rows": Case("unary", (3, 5, 7), function=name) for name in ("gelu", "hardswish")}
BINARY = {name: Case("binary", ODD, ODD, function=name) for name in operations.BINARY if name != "pow"}
CONVERTED = {
    f"{source} to {destination} {channels}": Case("convert", (2, channels, 4, 5), **{"from": source, "to": destination})
    for source, destination in permutations(ALL, 2)
    for channels in (3, 24, 32, 1000)
}
CASES = CONVS | OTHERS | UNARY | FLAT | BINARY | CONVERTED


def test_it_can_be_called_here():
    assert provider.unavailable() == ""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_offer_computes_the_operation_and_keeps_the_padding_zero(case):
    offers = case.offers()
    assert offers
    for offer in offers:
        assert case.error(offer) < 1e-5, offer


def _pairs(case: Case) -> set[tuple[str, str]]:
    return {(offer.inputs[0], offer.outputs[0]) for offer in case.offers()}


def test_offers_are_in_the_layouts_that_plans_need():
    """Blocks of 16 need AVX-512, blocks of 8 are there on any CPU that oneDNN compiles for."""
    block = "NCHW16c" if any("avx512" in offer.label for offer in CONVS["fused"].offers()) else "NCHW8c"
    assert _pairs(CONVS["fused"]) >= {("NHWC", "NHWC"), ("NCHW8c", "NCHW8c"), (block, block)}
    assert _pairs(CONVS["first"]) >= {("NHWC", "NHWC"), ("plain", block)}
    assert _pairs(CONVS["depthwise"]) >= {("NHWC", "NHWC"), (block, block)}
    assert _pairs(OTHERS["max pool"]) >= {(layout, layout) for layout in ("plain", "NHWC", block)}
    kinds = {offer.settings["kind"] for offer in CONVS["pointwise"].offers()}
    assert kinds == {"convolution", "matmul", "inner_product"}


@pytest.mark.parametrize(("name", "kind"), [("fused", "convolution"), ("layer norm", "layer_normalization"),
                                            ("max pool", "pooling")])  # fmt: skip
def test_offers_are_distinct_named_and_without_plain_loops(name, kind):
    offers = CASES[name].offers()
    described = [(offer.label, offer.inputs, offer.outputs) for offer in offers]
    assert len(set(described)) == len(described)
    assert all(offer.label.startswith(f"oneDNN {kind} ") for offer in offers)
    assert not any(slow in offer.label for offer in offers for slow in ("ref", "simple", "sse41"))


@pytest.mark.parametrize(
    "case",
    [
        Case("unary", ODD, function="erf"),
        Case("binary", ODD, ODD, function="pow"),
        Case("binary", (5,), (2, 5), function="sub"),
        Case("avg_pool2d", IMAGE, **POOL, ceil_mode=True, count_include_pad=True),
        Case("matmul", (3, 16, 40), (3, 40, 24), out_axes=(1, 2, 0)),
        Case("reshape", (2, 3), shape=(6,)),
        Case("conv2d", (1, 8, 5, 5), (8, 8, 3, 3)),
        Case("unary", (1,) * 7, function="relu"),
    ],
    ids=lambda case: case.node.op,
)
def test_nothing_is_offered_for_what_it_does_not_compute(case):
    assert case.offers() == []


def test_nothing_is_offered_in_blocks_that_the_shim_does_not_know():
    target = replace(_target(), layouts=("plain", "NHWC", "NCHW4c"))
    for case in (CASES["fused"], CASES["max pool"], Case("convert", (1, 8, 4, 4), **{"from": "plain", "to": "NCHW4c"})):
        assert "NCHW4c" not in {layout for offer in case.offers(target) for layout in (*offer.inputs, *offer.outputs)}


def test_nothing_is_offered_for_a_gpu():
    assert CONVS["fused"].offers(_target(kind="cuda")) == []


@pytest.mark.parametrize("name", ["fused", "depthwise", "pointwise"])
def test_two_threads_compute_the_same_and_leave_the_callers_number(name):
    case, before = CONVS[name], torch.get_num_threads()
    for offer in case.offers(_target(threads=2)):
        assert case.error(offer, threads=2) < 1e-5, offer
    assert torch.get_num_threads() == before


def test_plans_in_several_threads_do_not_disturb_each_other():
    """Implementations that need memory between their steps share it within a thread, never between threads."""
    case = CONVS["odd channels"]
    bound = [(offer, *case.bound(offer)) for offer in case.offers() for _ in range(2)]

    def again(step):
        offer, call, out = step
        for _ in range(50):
            out.fill(np.nan)
            call()
            assert case.error_of(out, offer) < 1e-5
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(again, bound))


def test_a_chain_runs_every_step():
    cases = [CONVS["fused"], OTHERS["gemm"], UNARY["tanh"]]
    steps = [(case, offer, *case.bound(offer)) for case in cases for offer in case.offers()]
    library.chain([call for _, _, call, _ in steps])()
    assert all(case.error_of(out, offer) < 1e-5 for case, offer, _, out in steps)
    library.chain([])()


def test_weights_of_another_size_are_refused():
    case = CONVS["fused"]
    with pytest.raises(UserError, match=r"a buffer has 40 bytes where .* takes 73728.*plan again"):
        case.bound(case.offers()[0], weights=np.zeros(10, np.float32))


def test_another_number_of_threads_is_refused():
    case = CONVS["fused"]
    with pytest.raises(UserError, match="planned for threads=1 and is loaded for threads=2"):
        case.bound(case.offers()[0], threads=2)


def test_an_implementation_of_another_cpu_is_refused():
    case = CONVS["fused"]
    offer = case.offers()[0]
    elsewhere = replace(offer, settings={**offer.settings, "implementation": "jit:sve_512"})
    with pytest.raises(UserError, match="no implementation jit:sve_512 here"):
        provider.pack(case.graph, case.node, elsewhere)


def test_buffers_with_holes_are_refused():
    case = UNARY["relu"]
    settings = case.offers()[0].settings
    with pytest.raises(ValueError, match="source"):
        library.bind(settings, {"source": np.zeros((2, *ODD), np.float32)[:, :, ::2], "destination": np.zeros(1)})


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_the_shim_is_compiled_once_and_again_when_it_is_damaged(fresh_cache):
    path = build.shim()
    content, made = path.read_bytes(), path.stat().st_mtime_ns
    assert build.shim() == path
    assert path.stat().st_mtime_ns == made
    for damaged in (content[: len(content) // 2], content[:5000] + b"?" + content[5001:], b""):
        path.write_bytes(damaged)
        assert not build.whole(path)
    build.shim()
    assert build.whole(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_no_compiler_is_told_in_a_sentence(fresh_cache, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(fresh_cache))
    with pytest.raises(UserError, match=r"^there is no C\+\+ compiler, .*: install g\+\+ or clang\+\+, or name one"):
        build.shim()


def test_a_compiler_that_is_none_is_told_in_a_sentence(fresh_cache, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O3")
    with pytest.raises(UserError, match=r"^CXX names 'no-such-compiler', which is no program"):
        build.shim()


def test_a_compilation_that_fails_is_told_with_its_error_and_leaves_nothing(fresh_cache, monkeypatch):
    failing = fresh_cache / "compiler"
    failing.write_text("#!/bin/sh\necho 'In file included' >&2\necho 'shim.cc:1: fatal error: too old' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    with pytest.raises(UserError, match=r"could not compile oneDNN's shim \(shim.cc:1: fatal error: too old\): name"):
        build.shim()
    assert list((fresh_cache / "wpk-envs" / "onednn").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told_in_a_sentence(fresh_cache):
    (fresh_cache / "wpk-envs").write_text("a file")
    with pytest.raises(UserError, match=r"^oneDNN's shim cannot be kept as .*wpk-envs"):
        build.shim()


def test_missing_wheels_are_told_with_what_to_install(monkeypatch):
    monkeypatch.setattr(build, "HEADERS", "onednn-devel-that-is-not-there")
    with pytest.raises(UserError, match=r"onednn-devel-that-is-not-there is not installed: pip install 'wpk-envs\[pl"):
        build.wheels()


def test_another_platform_is_told(monkeypatch):
    monkeypatch.setattr(build.platform, "machine", lambda: "riscv64")
    with pytest.raises(UserError, match="for Linux on x86_64, and this is linux on riscv64"):
        build.wheels()


MODULES = {
    "torch": "import torch",
    "tvm": "import tvm",
    "ours": "from wpk_envs.planner.onednn import library; library.load()",
}


@pytest.mark.parametrize("order", [("ours", "tvm", "torch"), ("torch", "tvm", "ours")], ids="-".join)
def test_it_lives_in_one_process_with_torch_and_tvm_in_either_order(order):
    """Torch's convolution, which uses its own oneDNN, works as well; a plan for one thread starts no other."""
    check = """
import psutil, torch
import tests.test_planner_onednn as here
case = here.conv((1, 64, 28, 28), (64, 64, 3, 3), "relu", padding=(1, 1))
running = psutil.Process().num_threads()
assert all(case.error(offer) < 1e-5 for offer in case.offers())
assert psutil.Process().num_threads() == running
x, w = torch.randn(1, 32, 9, 9), torch.randn(32, 32, 3, 3)
exact = torch.nn.functional.conv2d(x.double(), w.double())
assert (torch.nn.functional.conv2d(x, w) - exact).abs().max() < 1e-3
print("fine")
"""
    program = "\n".join([*(MODULES[name] for name in order), "torch.set_num_threads(1)", check])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
