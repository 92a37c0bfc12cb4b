"""cuDNN paths for convolutions: layouts, fusions, torch's own depthwise kernel, and cuBLAS for 1x1 windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wpk_envs.vendors.cases import FORMATS, Build, ConvCase, is_pointwise, pixel_product, pixels_to_canonical
from wpk_envs.vendors.cublas import CublasProduct, matrix_offers
from wpk_envs.vendors.epilogue import Epilogue
from wpk_envs.vendors.path import VendorPath


def conv_offers(operator: Any, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """Name every path for a `Conv2d`, plain torch in NCHW first.

    Args:
        operator: The `Conv2d`.
        tensors: Its inputs by name, in NCHW and OIHW, on the device.
    """
    cases = {layout: CudnnConv.of(operator, tensors, layout) for layout in FORMATS}
    builds: dict[str, Build] = {}
    for layout, case in cases.items():
        builds[f"torch {layout}"] = case.plain
        builds[f"cudnn {layout}"] = case.cudnn
        if operator.activation == "relu":
            builds[f"cudnn fused {layout}"] = case.cudnn_fused
    if operator.is_depthwise:
        builds["torch depthwise nchw"] = cases["nchw"].depthwise
    builds["cublas im2col"] = cases["nchw"].im2col
    for name, build in builds.items():
        yield name, lambda name=name, build=build: VendorPath(name, build(), _array)  # type: ignore[misc]
    if is_pointwise(operator):
        yield from _pixel_offers(operator, cases["channels_last"])
        if operator.stride == (1, 1):
            yield from _plane_offers(operator, cases["nchw"])


class CudnnConv(ConvCase):
    """A convolution's tensors in one memory format, and the calls of cuDNN and of torch's own kernels on them."""

    def cudnn(self) -> Callable[[], Tensor]:
        """CuDNN even where torch would choose another library; the bias after it."""
        x, weight, bias, finish = self.x, self.weight, self.bias, self.epilogue.finish
        window = self.padding, self.stride, self.dilation, self.groups
        planes = None if bias is None else bias.view(1, -1, 1, 1)

        def run() -> Tensor:
            tf32 = torch.backends.cudnn.allow_tf32
            out = torch.cudnn_convolution(x, weight, *window, benchmark=True, deterministic=False, allow_tf32=tf32)
            return finish(out if planes is None else out.add_(planes))

        return run

    def cudnn_fused(self) -> Callable[[], Tensor]:
        """Bias, residual and ReLU inside cuDNN's call."""
        x, weight, bias, residual = self.x, self.weight, self.bias, self.epilogue.residual
        window = self.stride, self.padding, self.dilation, self.groups
        if residual is None:
            return lambda: torch.cudnn_convolution_relu(x, weight, bias, *window)
        return lambda: torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *window)

    def depthwise(self) -> Callable[[], Tensor]:
        """Torch's own kernel for one input channel a group."""
        x, weight, bias, finish = self.x, self.weight, self.bias, self.epilogue.finish
        call = torch.ops.aten._conv_depthwise2d.default
        kernel, stride, padding, dilation = list(weight.shape[2:]), self.stride, self.padding, self.dilation
        return lambda: finish(call(x, weight, kernel, bias, stride, padding, dilation))


def _pixel_offers(operator: Any, case: ConvCase) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """1x1 windows as a matrix product, channels last: pixels are rows, channels columns."""

    def to_canonical(out: Tensor) -> np.ndarray:
        return pixels_to_canonical(operator, _array(out))

    for name, build in matrix_offers(pixel_product(operator, case, CublasProduct)):
        name = f"{name} on pixels"
        yield name, lambda name=name, build=build: VendorPath(name, build(), to_canonical)  # type: ignore[misc]


def _plane_offers(operator: Any, case: ConvCase) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """1x1 windows as one matrix product an image, in NCHW: filters are rows, pixels columns."""
    size = operator.out_height * operator.out_width
    weight = case.weight.reshape(operator.filters, operator.channels)
    planes = case.x.reshape(operator.batch, operator.channels, size)
    residual = case.epilogue.residual
    flat = None if residual is None else residual.reshape(operator.batch, operator.filters, size)
    finish = Epilogue(operator.activation, flat).finish
    bias = None if case.bias is None else case.bias.view(1, -1, 1)
    stacked = weight.expand(operator.batch, -1, -1)

    def build() -> Callable[[], Tensor]:
        if bias is None:
            return lambda: finish(torch.bmm(stacked, planes))
        return lambda: finish(torch.baddbmm(bias, stacked, planes))

    def to_canonical(out: Tensor) -> np.ndarray:
        return _array(out).reshape(operator.output_shape)

    name = "cublas bmm on planes"
    yield name, lambda: VendorPath(name, build(), to_canonical)


def _array(out: Tensor) -> np.ndarray:
    return np.ascontiguousarray(out.cpu().numpy())
