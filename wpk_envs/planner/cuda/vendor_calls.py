"""Convolutions and matrix products by one of cuDNN's or cuBLAS's calls, bias and activation fused or in place.

As in `wpk_envs.vendors`, but into the buffers of a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from wpk_envs.planner.implementation import Call


def bind(way: str, attributes: Mapping[str, Any], arguments: Sequence[Any], result: Any) -> Call:
    """A call that computes a ``conv2d`` or ``gemm`` in one of `WAYS`.

    Args:
        way: Its name.
        attributes: Of the node.
        arguments: Torch tensors in the canonical order of axes: image or rows, weights, bias and residual if there.
        result: The tensor that it writes.
    """
    x, weight, *more = arguments
    bias = more.pop(0) if attributes.get("bias") else None
    residual = more.pop(0) if attributes.get("residual") else None
    return WAYS[way](Product(attributes, x, weight, bias, residual, result))


@dataclass(frozen=True)
class Product:
    """Operands of a product and what follows it."""

    attributes: Mapping[str, Any]
    x: Any
    weight: Any
    bias: Any
    residual: Any
    result: Any

    def window(self, *names: str) -> list[list[int]]:
        """A convolution's attributes."""
        defaults = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
        return [list(self.attributes.get(name, defaults[name])) for name in names]

    @property
    def groups(self) -> int:
        """Of a convolution."""
        return int(self.attributes.get("groups", 1))

    def finish(self, product: Any) -> None:
        """Add the residual and apply the activation, in place."""
        if self.residual is not None:
            product.add_(self.residual.reshape(product.shape))
        activation = self.attributes.get("activation", "none")
        if activation == "relu":
            product.relu_()
        elif activation == "relu6":
            product.clamp_(0.0, 6.0)
        elif activation == "gelu":
            torch.ops.aten.gelu_(product)


def _cudnn(product: Product) -> Call:
    """The convolution alone, the rest in place after it."""
    window = product.window("padding", "stride", "dilation")
    planes = None if product.bias is None else product.bias.view(1, -1, 1, 1)

    def call() -> None:
        torch.ops.aten.cudnn_convolution.out(
            product.x, product.weight, *window, product.groups, True, False, False, out=product.result
        )
        if planes is not None:
            product.result.add_(planes)
        product.finish(product.result)

    return call


def _cudnn_fused(product: Product) -> Call:
    """Bias, residual and ReLU inside cuDNN's call, whose result is copied."""
    window = product.window("stride", "padding", "dilation")
    operands = product.x, product.weight
    if product.residual is None:
        fused = torch.ops.aten.cudnn_convolution_relu.default
        return lambda: product.result.copy_(fused(*operands, product.bias, *window, product.groups))
    onto = torch.ops.aten.cudnn_convolution_add_relu.default
    rest = product.residual, 1.0, product.bias
    return lambda: product.result.copy_(onto(*operands, *rest, *window, product.groups))


def _pixels(product: Product) -> Call:
    """A pointwise convolution of an image in NHWC: pixels are rows, channels columns."""
    filters, channels = product.weight.shape[:2]
    rows, made = (tensor.permute(0, 2, 3, 1) for tensor in (product.x, product.result))
    weight = product.weight.reshape(filters, channels).t().contiguous()
    residual = None if product.residual is None else product.residual.permute(0, 2, 3, 1)
    return _cublas_nn(Product(product.attributes, rows, weight, product.bias, residual, made))


def _cublas_nn(product: Product) -> Call:
    """The product onto the bias, the rest in place after it."""
    rows, made = product.x.reshape(-1, product.x.shape[-1]), product.result.view(-1, product.result.shape[-1])

    def call() -> None:
        if product.bias is None:
            torch.mm(rows, product.weight, out=made)
        else:
            torch.addmm(product.bias, rows, product.weight, out=made)
        product.finish(made)

    return call


def _cublas_nt(product: Product) -> Call:
    """The same with the weights' columns together in memory."""
    weight = product.weight.t().contiguous().t()
    return _cublas_nn(Product(product.attributes, product.x, weight, product.bias, product.residual, product.result))


def _cublas_fused(product: Product) -> Call:
    """Bias and ReLU inside cuBLASLt's call."""
    rows, made = product.x.reshape(-1, product.x.shape[-1]), product.result.view(-1, product.result.shape[-1])
    fused = torch.ops.aten._addmm_activation.out
    return lambda: fused(product.bias, rows, product.weight, out=made)


WAYS: dict[str, Callable[[Product], Call]] = {
    "cudnn": _cudnn,
    "cudnn_fused": _cudnn_fused,
    "pixels": _pixels,
    "cublas_nn": _cublas_nn,
    "cublas_nt": _cublas_nt,
    "cublas_fused": _cublas_fused,
}
