"""What convolution and matrix product share: the fused epilogue, sizes, features and random inputs.

The epilogue is applied in one order: add the bias, add the residual, then the activation.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from wpk_envs.core import Operator
from wpk_envs.errors import UserError, unknown
from wpk_envs.operators.checks import switch

Activation = Literal["none", "relu", "relu6"]
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu", "relu6")

MAX_ELEMENTS = 2**31 - 1
"""Kernels index their buffers with signed 32-bit integers."""

FLOAT_BYTES = 4


class Extents(NamedTuple):
    """An operator's sizes in the words of a convolution, so that both kinds have the same features.

    A matrix product reads as a 1x1 convolution over an image of m rows, one pixel wide, with k channels
    and n filters.
    """

    batch: int
    out_height: int
    out_width: int
    channels: int
    filters: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class FusedOperator(Operator):
    """A convolution or matrix product with an optional epilogue fused into it.

    Args:
        bias: Add one number per output channel (column); input ``"bias"``.
        activation: ``"none"``, ``"relu"`` or ``"relu6"``, applied last.
        residual: Add a tensor of the output's shape; input ``"residual"``.
        dtype: Only ``"float32"``.
    """

    weight_name: ClassVar[str]
    """Which input holds the weights, known ahead of the call and so free to be packed in advance."""

    bias: bool = False
    activation: Activation = "none"
    residual: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("bias", "residual"):
            object.__setattr__(self, name, switch(name, getattr(self, name)))
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.dtype != "float32":
            raise UserError(f"dtype must be float32, the only one supported, not {self.dtype!r}")
        for name, shape in {**self.input_shapes, "output": self.output_shape}.items():
            if math.prod(shape) > MAX_ELEMENTS:
                raise UserError(
                    f"{name} of shape {list(shape)} has more than {MAX_ELEMENTS} elements; use smaller sizes"
                )

    @property
    @abstractmethod
    def extents(self) -> Extents:
        """The sizes that features are made of."""

    @property
    def is_depthwise(self) -> bool:
        """Whether it is a convolution of several groups with one input channel each."""
        return self.extents.groups > 1 and self.extents.groups == self.extents.channels

    @property
    @abstractmethod
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the canonical output."""

    @property
    @abstractmethod
    def product_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs that are multiplied, by name, the epilogue's left out."""

    @property
    @abstractmethod
    def reduction(self) -> int:
        """Multiply-adds that make one output element."""

    @abstractmethod
    def product(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The float64 result before the epilogue, in the canonical output layout."""

    @property
    @abstractmethod
    def bias_shape(self) -> tuple[int, ...]:
        """Shape by which ``inputs["bias"]`` broadcasts over the output."""

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every input by name, in the order of `random_inputs`."""
        shapes = dict(self.product_shapes)
        if self.bias:
            shapes["bias"] = (math.prod(self.bias_shape),)
        if self.residual:
            shapes["residual"] = self.output_shape
        return shapes

    @property
    def epilogue_flops(self) -> int:
        """One operation per output element for each of bias, residual and activation."""
        steps = self.bias + self.residual + (self.activation != "none")
        return steps * math.prod(self.output_shape)

    @property
    def flops(self) -> int:
        """Nominal floating-point operations: two per multiply-add, plus the epilogue."""
        return 2 * math.prod(self.output_shape) * self.reduction + self.epilogue_flops

    @property
    def bytes(self) -> int:
        """Every input read once and the output written once."""
        elements = sum(math.prod(shape) for shape in self.input_shapes.values()) + math.prod(self.output_shape)
        return FLOAT_BYTES * elements

    @property
    def epilogue_label(self) -> str:
        """The epilogue for labels, such as ``" +bias +relu"``; empty without one."""
        steps = [name for name in ("bias", "residual") if getattr(self, name)]
        steps += [self.activation] * (self.activation != "none")
        return "".join(f" +{step}" for step in steps)

    def features(self) -> dict[str, float]:
        """Sizes on logarithmic scales and switches as 0 or 1; the same names for every kind."""
        sizes = self.extents
        return {
            "is_conv": float(self.kind == "conv2d"),
            "is_gemm": float(self.kind == "gemm"),
            "is_depthwise": float(self.is_depthwise),
            "batch": _log_scale(sizes.batch, 2**10),
            "out_height": _log_scale(sizes.out_height, 2**12),
            "out_width": _log_scale(sizes.out_width, 2**12),
            "channels": _log_scale(sizes.channels, 2**15),
            "filters": _log_scale(sizes.filters, 2**15),
            "kernel_h": _log_scale(sizes.kernel[0], 2**4),
            "kernel_w": _log_scale(sizes.kernel[1], 2**4),
            "stride_h": _log_scale(sizes.stride[0], 2**2),
            "stride_w": _log_scale(sizes.stride[1], 2**2),
            "padding_h": _log_scale(1 + sizes.padding[0], 2**4),
            "padding_w": _log_scale(1 + sizes.padding[1], 2**4),
            "dilation_h": _log_scale(sizes.dilation[0], 2**4),
            "dilation_w": _log_scale(sizes.dilation[1], 2**4),
            "groups": _log_scale(sizes.groups, 2**15),
            "flops": _log_scale(self.flops, 2**40),
            "bytes": _log_scale(self.bytes, 2**32),
            "arithmetic_intensity": _log_scale(1 + self.flops / self.bytes, 2**12),
            "bias": float(self.bias),
            "residual": float(self.residual),
            "relu": float(self.activation == "relu"),
            "relu6": float(self.activation == "relu6"),
        }

    def random_inputs(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw standard normal float32 inputs; weights are scaled so that outputs have about unit variance."""
        inputs = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in self.input_shapes.items()}
        inputs[self.weight_name] *= np.float32(1 / math.sqrt(self.reduction))
        return inputs

    def reference(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The float64 result of the product and its epilogue, in the canonical output layout."""
        out = self.product(inputs)
        if self.bias:
            out = out + inputs["bias"].astype(np.float64).reshape(self.bias_shape)
        if self.residual:
            out = out + inputs["residual"].astype(np.float64)
        if self.activation == "none":
            return out
        return np.clip(out, 0.0, 6.0 if self.activation == "relu6" else None)


def _log_scale(value: float, top: float) -> float:
    """Map 1 to 0 and ``top`` to 1 on a logarithmic scale."""
    return math.log2(value) / math.log2(top)
