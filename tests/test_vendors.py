"""Every path through torch's oneDNN and MKL computes the whole operator."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch

from wpk_envs.devices.baseline import TOLERANCE, race, relative_error
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d, Gemm
from wpk_envs.vendors import onednn
from wpk_envs.vendors.path import VendorPath

X86 = platform.machine() in ("x86_64", "AMD64")

CONVS = {
    "plain": Conv2d(channels=16, height=14, width=14, filters=16),
    "fused": Conv2d(channels=8, height=9, width=11, filters=24, padding=1, bias=True, residual=True, activation="relu"),
    "relu6": Conv2d(channels=8, height=9, width=9, filters=8, bias=True, residual=True, activation="relu6"),
    "activated": Conv2d(channels=8, height=9, width=9, filters=8, activation="relu6"),
    "depthwise": Conv2d(channels=24, height=14, width=14, filters=24, groups=24, activation="relu6", bias=True),
    "groups": Conv2d(channels=12, height=10, width=10, filters=18, groups=3, stride=2),
    "odd": Conv2d(channels=3, height=23, width=31, filters=10, kernel=7, stride=2, padding=3),
    "pairs": Conv2d(channels=5, height=13, width=17, filters=7, kernel=(1, 7), padding=(0, 3), stride=(2, 1)),
    "dilated": Conv2d(channels=6, height=15, width=15, filters=6, dilation=2, padding=2),
    "batch": Conv2d(batch=3, channels=8, height=7, width=7, filters=8, residual=True),
    "1x1": Conv2d(channels=32, height=7, width=9, filters=20, kernel=1, padding=0, bias=True, activation="relu"),
    "1x1 strided": Conv2d(
        batch=2, channels=16, height=9, width=8, filters=12, kernel=1, padding=0, stride=2, residual=True
    ),
}
GEMMS = {
    "plain": Gemm(33, 40, 17),
    "fused": Gemm(16, 24, 32, bias=True, residual=True, activation="relu"),
    "relu6": Gemm(16, 24, 32, bias=True, residual=True, activation="relu6"),
    "residual": Gemm(5, 7, 9, residual=True),
    "activated": Gemm(5, 7, 9, activation="relu6"),
    "row": Gemm(1, 50, 20, bias=True),
    "column": Gemm(50, 1, 20, activation="relu"),
    "batch": Gemm(6, 8, 10, batch=3),
    "batch fused": Gemm(6, 8, 10, batch=3, bias=True, residual=True, activation="relu"),
}
ALL = {**{f"conv {name}": op for name, op in CONVS.items()}, **{f"gemm {name}": op for name, op in GEMMS.items()}}


def _paths(operator) -> tuple[dict[str, VendorPath], np.ndarray]:
    inputs = operator.random_inputs(np.random.default_rng(0))
    found = {path.name: path for path in onednn.paths(operator, inputs)}
    return found, operator.reference(inputs)


@pytest.mark.parametrize("operator", ALL.values(), ids=ALL.keys())
def test_every_path_is_correct_each_time_it_runs(operator):
    """Twice, as an epilogue applied in place must not change the inputs."""
    found, reference = _paths(operator)
    assert next(iter(found)) in ("torch nchw", "torch mm", "torch bmm")
    with torch.inference_mode():
        for path in found.values():
            for _ in range(2):
                assert relative_error(path.output(), reference) < TOLERANCE / 10, path.name


@pytest.mark.skipif(not X86, reason="paths of x86 builds of torch")
class TestPathsOnX86:
    """Guards against a path that quietly fails to bind."""

    LAYOUTS = ("nchw", "channels_last")

    def conv_names(self) -> set[str]:
        names = {f"{path} {layout}" for path in ("torch", "onednn", "onednn prepacked") for layout in self.LAYOUTS}
        return names | {f"torch jit {layout}" for layout in self.LAYOUTS} | {"onednn context"}

    def test_convolution(self):
        assert set(_paths(CONVS["plain"])[0]) == self.conv_names() | {"onednn opaque", "onednn blocked", "mkl im2col"}

    def test_fused_convolution(self):
        found = set(_paths(CONVS["fused"])[0])
        fused = {f"onednn prepacked {layout} fused" for layout in self.LAYOUTS}
        assert self.conv_names() | fused | {"onednn opaque", "onednn blocked"} <= found

    def test_pixel_convolution_also_goes_through_matrix_products(self):
        found = _paths(CONVS["1x1"])[0]
        assert {
            "torch mm on pixels",
            "torch linear on pixels",
            "onednn prepacked linear on pixels",
            "onednn prepacked linear fused on pixels",
            "mkl packed linear on pixels",
            "onednn opaque linear on pixels",
            "torch jit linear on pixels",
        } <= set(found)
        assert {"torch mm on pixels", "mkl packed linear on pixels"} <= set(_paths(CONVS["1x1 strided"])[0])

    def test_matrix_product(self):
        names = ["torch mm", "torch linear", "onednn prepacked linear", "mkl packed linear"]
        names += ["onednn opaque linear", "torch jit linear"]
        assert list(_paths(GEMMS["plain"])[0]) == names

    def test_fused_matrix_product(self):
        found = _paths(GEMMS["fused"])[0]
        assert {"onednn prepacked linear fused", "torch addmm onto residual"} <= set(found)

    def test_vectors(self):
        assert {"mkl mv", "mkl mv transposed"} <= set(_paths(GEMMS["row"])[0])
        assert "mkl mv" in _paths(GEMMS["column"])[0]

    def test_batched_matrix_product(self):
        found = list(_paths(GEMMS["batch"])[0])
        assert found[0] == "torch bmm"
        assert "mkl packed linear, one by one" in found


def test_one_path_can_be_asked_for():
    operator = CONVS["plain"]
    inputs = operator.random_inputs(np.random.default_rng(0))
    (path,) = onednn.paths(operator, inputs, only="torch channels_last")
    assert path.name == "torch channels_last"


def test_paths_hold_copies_of_their_inputs():
    operator = GEMMS["plain"]
    inputs = operator.random_inputs(np.random.default_rng(0))
    path = onednn.paths(operator, inputs)[0]
    before = path.output()
    for array in inputs.values():
        array[:] = 0
    assert np.array_equal(path.output(), before)


def test_the_race_drops_wrong_paths_and_ranks_the_rest(monkeypatch):
    operator = GEMMS["plain"]
    real = onednn.paths

    def with_a_wrong_one(*arguments):
        found = real(*arguments)
        return [*found, VendorPath("wrong", found[0].run, lambda out: found[0].to_canonical(out) * 1.01)]

    monkeypatch.setattr(onednn, "paths", with_a_wrong_one)
    baseline = race(operator)
    assert list(baseline.dropped) == ["wrong"]
    assert "wrong by 1.0e-02" in baseline.dropped["wrong"]
    assert "wrong" not in baseline.latencies_us
    assert baseline.name in baseline.latencies_us
    assert baseline.plain_name == "torch mm"


def test_an_unknown_kind_is_a_sentence(monkeypatch):
    operator = GEMMS["plain"]
    inputs = operator.random_inputs(np.random.default_rng(0))
    monkeypatch.setattr(Gemm, "kind", "fft")
    with pytest.raises(UserError, match="no path for fft operators"):
        onednn.paths(operator, inputs)
