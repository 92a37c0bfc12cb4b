"""oneDNN and MKL paths for convolutions: layouts, packed weights, fusions, and GEMM for 1x1 windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from wpk_envs.vendors.cases import FORMATS, NATIVE, Build, ConvCase, is_pointwise, pixel_product, pixels_to_canonical
from wpk_envs.vendors.epilogue import Epilogue
from wpk_envs.vendors.onednn_gemm import OnednnProduct, matrix_offers
from wpk_envs.vendors.path import VendorPath
from wpk_envs.vendors.torchscript import frozen


def conv_offers(operator: Any, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """Name every path for a `Conv2d`, plain torch in NCHW first.

    Args:
        operator: The `Conv2d`.
        tensors: Its inputs by name, in NCHW and OIHW.
    """
    cases = {layout: OnednnConv.of(operator, tensors, layout) for layout in FORMATS}
    runs: list[tuple[str, Build]] = []
    for layout, case in cases.items():
        runs += [
            (f"torch {layout}", case.plain),
            (f"onednn {layout}", case.unpacked),
            (f"onednn prepacked {layout}", case.prepacked),
            (f"torch jit {layout}", case.jit),
        ]
        if not case.epilogue.trivial:
            runs.append((f"onednn prepacked {layout} fused", case.prepacked_fused))
    runs += [
        ("onednn opaque", lambda: cases["nchw"].opaque(blocked=False)),
        ("onednn blocked", lambda: cases["nchw"].opaque(blocked=True)),
        ("onednn context", cases["nchw"].context),
        ("mkl im2col", cases["nchw"].im2col),
    ]
    for name, build in runs:
        yield name, lambda name=name, build=build: VendorPath(name, build(), _dense)  # type: ignore[misc]
    if is_pointwise(operator):
        yield from _pixel_offers(operator, cases["channels_last"])


class OnednnConv(ConvCase):
    """A convolution's tensors in one memory format, and the calls of oneDNN and TorchScript on them."""

    @property
    def window(self) -> tuple[list[int], list[int], list[int], int]:
        """Padding, stride, dilation, groups: how oneDNN's operators take them."""
        return self.padding, self.stride, self.dilation, self.groups

    @property
    def packed_weight(self) -> Tensor:
        """The weight in oneDNN's own order for this input."""
        padding, stride, dilation, groups = self.window
        opaque = self.weight.contiguous().to_mkldnn()
        return NATIVE.mkldnn_reorder_conv2d_weight(opaque, padding, stride, dilation, groups, list(self.x.shape))

    def unpacked(self) -> Callable[[], Tensor]:
        """OneDNN even where torch would choose another kernel."""
        x, weight, bias, window, finish = self.x, self.weight, self.bias, self.window, self.epilogue.finish
        return lambda: finish(torch.mkldnn_convolution(x, weight, bias, *window))

    def prepacked(self) -> Callable[[], Tensor]:
        """Packed weights; the epilogue in place after it."""
        call = torch.ops.mkldnn._convolution_pointwise.default
        arguments: tuple[Any, ...] = (self.x, self.packed_weight, self.bias, *self.window, "none", [], "")
        finish = self.epilogue.finish
        return lambda: finish(call(*arguments))

    def prepacked_fused(self) -> Callable[[], Tensor]:
        """Packed weights, with as much of the epilogue inside the call as oneDNN fuses."""
        residual, unary = self.epilogue.residual, self.epilogue.fused_unary
        if residual is None:
            plain_call = torch.ops.mkldnn._convolution_pointwise.default
            arguments: tuple[Any, ...] = (self.x, self.packed_weight, self.bias, *self.window, *unary)
            return lambda: plain_call(*arguments)
        call = torch.ops.mkldnn._convolution_pointwise.binary
        inputs = (self.x, residual, self.packed_weight, self.bias, *self.window, "add", 1.0)
        if self.epilogue.activation == "relu":
            return lambda: call(*inputs, *unary)
        activate = self.epilogue.activate
        return lambda: activate(call(*inputs, None, [], None))

    def opaque(self, blocked: bool) -> Callable[[], Tensor]:
        """OneDNN's own tensors in and out; ``blocked``: as an earlier convolution would leave them."""
        x = self.x.to_mkldnn()
        if blocked:
            channels = x.shape[1]
            identity = torch.eye(channels).reshape(channels, channels, 1, 1)
            x = torch.mkldnn_convolution(x, identity, None, [0, 0], [1, 1], [1, 1], 1)
        residual = self.epilogue.residual
        finish = Epilogue(self.epilogue.activation, None if residual is None else residual.to_mkldnn()).finish
        weight, bias, window = self.packed_weight, self.bias, self.window
        return lambda: finish(torch.mkldnn_convolution(x, weight, bias, *window))

    def context(self) -> Callable[[], Tensor]:
        """The prepacked context that torch's own graph compiler uses."""
        x, epilogue = self.x, self.epilogue
        fused = "relu" if epilogue.activation == "relu" and epilogue.residual is None else "none"
        pack = torch.ops.mkldnn_prepacked.conv2d_prepack
        packed = pack(
            self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups, list(x.shape), fused
        )
        run = torch.ops.mkldnn_prepacked.conv2d_run.default
        finish = epilogue.finish if fused == "none" else _unchanged
        return lambda: finish(run(x, packed))

    def jit(self) -> Callable[[], Tensor]:
        """TorchScript, frozen and optimised for inference."""
        with torch.inference_mode(False), torch.no_grad():
            inputs = tuple(t.clone() for t in (self.x, self.epilogue.residual) if t is not None)
            compiled = frozen(_ConvModule(self), *inputs)
        return lambda: compiled(*inputs)


class _ConvModule(torch.nn.Module):
    """A convolution and its epilogue as a module to trace."""

    def __init__(self, case: ConvCase) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(case.weight.clone(), requires_grad=False)
        self.bias = None if case.bias is None else torch.nn.Parameter(case.bias.clone(), requires_grad=False)
        self.case = (case.stride, case.padding, case.dilation, case.groups)
        self.activation = case.epilogue.activation

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Convolution, residual, activation."""
        out = conv2d(x, self.weight, self.bias, *self.case)
        if residual is not None:
            out = out + residual
        if self.activation == "none":
            return out
        return torch.relu(out) if self.activation == "relu" else torch.nn.functional.relu6(out)


def _pixel_offers(operator: Any, case: ConvCase) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """1x1 windows as a matrix product, channels last: pixels are rows, channels columns."""

    def to_canonical(out: Tensor) -> np.ndarray:
        return pixels_to_canonical(operator, _dense(out))

    for name, build in matrix_offers(pixel_product(operator, case, OnednnProduct)):
        name = f"{name} on pixels"
        yield name, lambda name=name, build=build: VendorPath(name, build(), to_canonical)  # type: ignore[misc]


def _dense(out: Tensor) -> np.ndarray:
    return np.ascontiguousarray((out.to_dense() if out.is_mkldnn else out).numpy())


def _unchanged(out: Tensor) -> Tensor:
    return out
