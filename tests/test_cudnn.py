"""Every path through torch's cuDNN and cuBLAS computes the whole operator; on a CPU the plain ones do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.test_vendors import ALL, CONVS, GEMMS
from wpk_envs.devices.baseline import TOLERANCE, relative_error
from wpk_envs.errors import UserError
from wpk_envs.operators import Gemm
from wpk_envs.vendors import cudnn
from wpk_envs.vendors.path import VendorPath

GPU = pytest.param(
    "cuda:0",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that torch can use"),
    ],
)


def _paths(operator, device="cpu", **options) -> tuple[dict[str, VendorPath], np.ndarray]:
    inputs = operator.random_inputs(np.random.default_rng(0))
    found = {path.name: path for path in cudnn.paths(operator, inputs, device, **options)}
    return found, operator.reference(inputs)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("operator", ALL.values(), ids=ALL.keys())
def test_every_path_is_correct_each_time_it_runs(operator, device):
    """Twice, as an epilogue applied in place must not change the inputs."""
    found, reference = _paths(operator, device)
    assert next(iter(found)) in ("torch nchw", "torch mm nn", "torch bmm nn")
    with torch.inference_mode():
        for path in found.values():
            for _ in range(2):
                assert relative_error(path.output(), reference) < TOLERANCE / 10, path.name


MM = {f"torch mm {layout}" for layout in ("nn", "nt", "tn", "tt")}
LAYOUTS = ("nchw", "channels_last")


@pytest.mark.parametrize(
    ("operator", "names"),
    [
        (CONVS["plain"], {f"torch {layout}" for layout in LAYOUTS} | {"cublas im2col"}),
        (CONVS["depthwise"], {f"torch {layout}" for layout in LAYOUTS}),
        (CONVS["1x1"], {"cublas im2col", "cublas bmm on planes"} | {f"{name} on pixels" for name in MM}),
        (
            CONVS["1x1 strided"],
            {"torch mm nn on pixels", "torch mm nt on pixels", "torch addmm onto residual on pixels"},
        ),
        (GEMMS["plain"], MM),
        (GEMMS["fused"], MM | {"torch addmm onto residual"}),
        (GEMMS["row"], MM | {"cublas mv", "cublas mv transposed"}),
        (GEMMS["column"], MM | {"cublas mv"}),
        (GEMMS["batch"], {f"torch bmm {layout}" for layout in ("nn", "nt", "tn", "tt")}),
    ],
)
def test_paths_that_run_anywhere_are_bound(operator, names):
    """Guards against a path that quietly fails to bind."""
    assert names <= set(_paths(operator)[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that torch can use")
@pytest.mark.parametrize(
    ("operator", "names"),
    [
        (CONVS["plain"], {f"cudnn {layout}" for layout in LAYOUTS}),
        (CONVS["fused"], {f"cudnn fused {layout}" for layout in LAYOUTS}),
        (CONVS["depthwise"], {"torch depthwise nchw"}),
        (GEMMS["fused"], {f"{library} mm nt" for library in ("cublas", "cublaslt")}),
    ],
)
def test_paths_of_a_gpu_are_bound(operator, names):
    assert names <= set(_paths(operator, "cuda:0")[0])


def test_relu_alone_after_a_bias_is_fused():
    assert {"cublaslt fused nn", "cublaslt fused nt"} <= set(_paths(Gemm(5, 7, 9, bias=True, activation="relu"))[0])


def test_one_path_can_be_asked_for():
    assert list(_paths(CONVS["plain"], only="torch channels_last")[0]) == ["torch channels_last"]


def test_paths_hold_copies_of_their_inputs():
    operator = GEMMS["plain"]
    inputs = operator.random_inputs(np.random.default_rng(0))
    path = cudnn.paths(operator, inputs, "cpu")[0]
    before = path.output()
    for array in inputs.values():
        array[:] = 0
    assert np.array_equal(path.output(), before)


@pytest.mark.parametrize("tf32", [False, True])
def test_the_precision_is_the_paths_own_whatever_torch_is_set_to(tf32, monkeypatch):
    seen = []
    real = torch.mm

    def spy(*arguments):
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return real(*arguments)

    monkeypatch.setattr(torch, "mm", spy)
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, not tf32
    try:
        found, _ = _paths(GEMMS["plain"], tf32=tf32, only="torch mm nn")
        found["torch mm nn"].run()
        assert seen == [(tf32, tf32)] * 2
        assert matmul.allow_tf32 is not tf32, "torch's own switch is as it was"
    finally:
        matmul.allow_tf32 = before


def test_a_lack_of_memory_is_no_missing_path(monkeypatch):
    def full(*arguments):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(torch, "mm", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        _paths(GEMMS["plain"])


def test_an_unknown_kind_is_a_sentence(monkeypatch):
    operator = GEMMS["plain"]
    inputs = operator.random_inputs(np.random.default_rng(0))
    monkeypatch.setattr(Gemm, "kind", "fft")
    with pytest.raises(UserError, match="no path for fft operators"):
        cudnn.paths(operator, inputs, "cpu")
