"""cuDNN paths for convolutions: layouts, fusions, torch's own depthwise kernel, and cuBLAS for 1x1 windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from wpk_envs.vendors.cublas import MatrixProduct, matrix_offers
from wpk_envs.vendors.epilogue import Epilogue
from wpk_envs.vendors.path import VendorPath

NATIVE: Any = torch._C._nn
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}

Build = Callable[[], Callable[[], Tensor]]


def conv_offers(operator: Any, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """Name every path for a `Conv2d`, plain torch in NCHW first.

    Args:
        operator: The `Conv2d`.
        tensors: Its inputs by name, in NCHW and OIHW, on the device.
    """
    cases = {layout: ConvCase.of(operator, tensors, layout) for layout in FORMATS}
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
    if operator.kernel == (1, 1) and operator.groups == 1 and operator.padding == (0, 0):
        yield from _pixel_offers(operator, cases["channels_last"])
        if operator.stride == (1, 1):
            yield from _plane_offers(operator, cases["nchw"])


@dataclass(frozen=True)
class ConvCase:
    """A convolution's tensors in one memory format, and the library calls on them."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    epilogue: Epilogue
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @classmethod
    def of(cls, operator: Any, tensors: Mapping[str, Tensor], layout: str) -> ConvCase:
        """Bring the inputs of a `Conv2d` into a memory format."""
        held = {
            name: tensor.contiguous(memory_format=FORMATS[layout]) if tensor.dim() == 4 else tensor
            for name, tensor in tensors.items()
        }
        return cls(
            x=held["x"],
            weight=held["weight"],
            bias=held.get("bias"),
            epilogue=Epilogue(operator.activation, held.get("residual")),
            stride=list(operator.stride),
            padding=list(operator.padding),
            dilation=list(operator.dilation),
            groups=operator.groups,
        )

    def plain(self) -> Callable[[], Tensor]:
        """What a user of torch writes; torch chooses the library."""
        x, weight, bias, finish = self.x, self.weight, self.bias, self.epilogue.finish
        window = self.stride, self.padding, self.dilation, self.groups
        return lambda: finish(conv2d(x, weight, bias, *window))

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

    def im2col(self) -> Callable[[], Tensor]:
        """Columns of the input, then cuBLAS."""
        if self.dilation != [1, 1] or self.groups != 1:
            raise NotImplementedError("im2col takes neither dilation nor groups")
        x, weight, bias, finish = self.x, self.weight, self.bias, self.epilogue.finish
        call = NATIVE.thnn_conv2d
        kernel, stride, padding = list(weight.shape[2:]), self.stride, self.padding
        return lambda: finish(call(x, weight, kernel, bias, stride, padding))


def _pixel_offers(operator: Any, case: ConvCase) -> Iterator[tuple[str, Callable[[], VendorPath]]]:
    """1x1 windows as a matrix product, channels last: pixels are rows, channels columns."""
    rows = operator.batch * operator.out_height * operator.out_width
    step_h, step_w = operator.stride
    pixels, residual = case.x.permute(0, 2, 3, 1), case.epilogue.residual

    def gather() -> Tensor:
        return pixels[:, ::step_h, ::step_w].reshape(rows, operator.channels)

    product = MatrixProduct(
        a=gather(),
        b=case.weight.reshape(operator.filters, operator.channels).t().contiguous(),
        bias=case.bias,
        epilogue=Epilogue(
            operator.activation, None if residual is None else residual.permute(0, 2, 3, 1).reshape(rows, -1)
        ),
        gather=None if operator.stride == (1, 1) else gather,
    )

    def to_canonical(out: Tensor) -> np.ndarray:
        image = _array(out).reshape(operator.batch, operator.out_height, operator.out_width, operator.filters)
        return np.ascontiguousarray(image.transpose(0, 3, 1, 2))

    for name, build in matrix_offers(product):
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
