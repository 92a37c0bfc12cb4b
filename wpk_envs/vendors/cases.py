"""An operator's tensors as torch's libraries take them: one case of a convolution, one matrix product.

What both a CPU's and a GPU's libraries offer is here; their own calls are in the modules that subclass these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from wpk_envs.vendors.epilogue import Epilogue

NATIVE: Any = torch._C._nn
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}

Build = Callable[[], Callable[[], Tensor]]
"""Lays out or packs what can be, and returns the call to be timed."""

Case = TypeVar("Case", bound="ConvCase")
Product = TypeVar("Product", bound="MatrixProduct")


@dataclass(frozen=True)
class MatrixProduct:
    """One product ``a [m, k] @ b [k, n]`` with its epilogue, and the calls for it that every library has.

    Attributes:
        a: Rows.
        b: Weights.
        bias: One number per column, if any.
        epilogue: What follows, its residual as [m, n].
        gather: Brings the rows together at every call, where they do not lie together.
    """

    a: Tensor
    b: Tensor
    bias: Tensor | None
    epilogue: Epilogue
    gather: Callable[[], Tensor] | None = None

    def rows(self) -> Callable[[], Tensor]:
        """The rows at call time."""
        a = self.a
        return self.gather or (lambda: a)

    def onto_residual(self) -> Callable[[], Tensor]:
        """The product accumulated onto a copy of the residual."""
        rows, b, bias, activate = self.rows(), self.b, self.bias, self.epilogue.activate
        residual = self.epilogue.residual
        if residual is None:
            raise NotImplementedError("there is no residual to accumulate onto")
        if bias is None:
            return lambda: activate(torch.addmm(residual, rows(), b))
        return lambda: activate(torch.addmm(residual, rows(), b).add_(bias))

    def matrix_vector(self, transposed: bool) -> Callable[[], Tensor]:
        """The matrix-vector product, where there is one row or one column."""
        m, n = self.a.shape[0], self.b.shape[1]
        if m != 1 and n != 1:
            raise NotImplementedError("neither a row nor a column vector")
        rows, bias, finish = self.rows(), self.bias, self.epilogue.finish
        if m == 1:
            matrix = self.b.t().contiguous() if transposed else self.b.t()
            product: Callable[[], Tensor] = lambda: torch.mv(matrix, rows()[0])  # noqa: E731
        else:
            column = self.b[:, 0].contiguous()
            product = lambda: torch.mv(rows(), column)  # noqa: E731
        if bias is None:
            return lambda: finish(product().view(m, n))
        return lambda: finish(product().view(m, n).add_(bias))


@dataclass(frozen=True)
class ConvCase:
    """A convolution's tensors in one memory format, and the calls on them that every library has."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    epilogue: Epilogue
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @classmethod
    def of(cls: type[Case], operator: Any, tensors: Mapping[str, Tensor], layout: str) -> Case:
        """Bring the inputs of a `Conv2d` into a memory format, one of `FORMATS`."""
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

    def im2col(self) -> Callable[[], Tensor]:
        """Columns of the input, then the library's matrix product."""
        if self.dilation != [1, 1] or self.groups != 1:
            raise NotImplementedError("im2col takes neither dilation nor groups")
        x, weight, bias, finish = self.x, self.weight, self.bias, self.epilogue.finish
        call, kernel, stride, padding = NATIVE.thnn_conv2d, list(weight.shape[2:]), self.stride, self.padding
        return lambda: finish(call(x, weight, kernel, bias, stride, padding))


def is_pointwise(operator: Any) -> bool:
    """Whether a `Conv2d` is a matrix product over its pixels: 1x1 windows, no groups, no padding."""
    return operator.kernel == (1, 1) and operator.groups == 1 and operator.padding == (0, 0)


def pixel_product(operator: Any, case: ConvCase, kind: type[Product]) -> Product:
    """A pointwise `Conv2d` as a matrix product: pixels are rows, channels columns.

    Args:
        operator: The `Conv2d`.
        case: Its tensors, channels last.
        kind: The library's matrix product.
    """
    rows = operator.batch * operator.out_height * operator.out_width
    step_h, step_w = operator.stride
    pixels, residual = case.x.permute(0, 2, 3, 1), case.epilogue.residual

    def gather() -> Tensor:
        return pixels[:, ::step_h, ::step_w].reshape(rows, operator.channels)

    flat = None if residual is None else residual.permute(0, 2, 3, 1).reshape(rows, -1)
    return kind(
        a=gather(),
        b=case.weight.reshape(operator.filters, operator.channels).t().contiguous(),
        bias=case.bias,
        epilogue=Epilogue(operator.activation, flat),
        gather=None if operator.stride == (1, 1) else gather,
    )


def pixels_to_canonical(operator: Any, pixels: np.ndarray) -> np.ndarray:
    """What a `pixel_product` computed, [pixels, filters], in NCHW."""
    image = pixels.reshape(operator.batch, operator.out_height, operator.out_width, operator.filters)
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))
