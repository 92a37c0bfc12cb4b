"""Two-dimensional convolution, grouped and depthwise too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wpk_envs.errors import UserError
from wpk_envs.operators.checks import Pair, whole_number
from wpk_envs.operators.fused import Extents, FusedOperator


@dataclass(frozen=True)
class Conv2d(FusedOperator):
    """A 2-D convolution (cross-correlation, as in deep learning) with an optional fused epilogue.

    Inputs are ``x`` [batch, channels, height, width] and ``weight`` [filters, channels / groups, kernel h,
    kernel w], with ``bias`` [filters] and ``residual`` (the output's shape) if asked for. The output is
    [batch, filters, out_height, out_width].

    Args:
        batch: Images.
        channels: Input channels.
        height: Input rows.
        width: Input columns.
        filters: Output channels.
        kernel: Window, a number or [h, w]; so are stride, padding and dilation.
        stride: Step of the window.
        padding: Zeros added on each side.
        dilation: Distance between the window's taps.
        groups: Independent slices of the channels; ``groups == channels`` is depthwise.

    Raises:
        UserError: For shapes that cannot exist.
    """

    kind: ClassVar[str] = "conv2d"
    weight_name: ClassVar[str] = "weight"

    batch: int = 1
    channels: int = 64
    height: int = 56
    width: int = 56
    filters: int = 64
    # Pair is a descriptor: each class attribute must be an instance of its own (hence no RUF009).
    kernel: Pair = Pair(3)  # noqa: RUF009
    stride: Pair = Pair(1)  # noqa: RUF009
    padding: Pair = Pair(1, least=0)  # noqa: RUF009
    dilation: Pair = Pair(1)  # noqa: RUF009
    groups: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "channels", "height", "width", "filters", "groups"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        self._check_groups()
        self._check_window()
        super().__post_init__()

    def _check_groups(self) -> None:
        for name in ("channels", "filters"):
            count = getattr(self, name)
            if count % self.groups:
                raise UserError(f"groups must divide {name}: {count} {name} do not split into {self.groups} groups")

    def _check_window(self) -> None:
        for axis, size, axis_number in (("high", self.height, 0), ("wide", self.width, 1)):
            window = self.dilation[axis_number] * (self.kernel[axis_number] - 1) + 1
            padded = size + 2 * self.padding[axis_number]
            if window > padded:
                raise UserError(
                    f"the kernel is {window} {axis} (with dilation) but the padded input only {padded}; "
                    "use a smaller kernel or dilation, more padding or a larger input"
                )

    def _out(self, axis: int) -> int:
        window = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return ((self.height, self.width)[axis] + 2 * self.padding[axis] - window) // self.stride[axis] + 1

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        return self._out(0)

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        return self._out(1)

    @property
    def family(self) -> str:
        """``"depthwise"``, or by the kernel, such as ``"conv3x3"``."""
        return "depthwise" if self.is_depthwise else f"conv{self.kernel[0]}x{self.kernel[1]}"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[batch, filters, out_height, out_width]."""
        return self.batch, self.filters, self.out_height, self.out_width

    @property
    def product_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of ``x`` and ``weight``."""
        return {
            "x": (self.batch, self.channels, self.height, self.width),
            "weight": (self.filters, self.channels // self.groups, *self.kernel),
        }

    @property
    def reduction(self) -> int:
        """Multiply-adds per output element: a group's channels times the kernel's taps."""
        return self.channels // self.groups * self.kernel[0] * self.kernel[1]

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """[filters, 1, 1]."""
        return self.filters, 1, 1

    @property
    def extents(self) -> Extents:
        """The sizes that features are made of."""
        return Extents(
            batch=self.batch,
            out_height=self.out_height,
            out_width=self.out_width,
            channels=self.channels,
            filters=self.filters,
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    @property
    def label(self) -> str:
        """Such as ``conv2d 64x56x56 -> 128, 3x3 /2 +bias +relu``."""
        text = f"conv2d {self.channels}x{self.height}x{self.width} -> {self.filters}, {_times(self.kernel)}"
        if self.stride != (1, 1):
            text += f" /{_short(self.stride)}"
        if self.dilation != (1, 1):
            text += f" dilation {_short(self.dilation)}"
        if self.groups > 1:
            text += " depthwise" if self.is_depthwise else f" groups {self.groups}"
        if self.batch > 1:
            text += f" batch {self.batch}"
        return text + self.epilogue_label

    def product(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The float64 convolution without its epilogue (imports torch)."""
        import torch

        x, weight = (torch.from_numpy(np.asarray(inputs[name], dtype=np.float64)) for name in ("x", "weight"))
        out = torch.nn.functional.conv2d(
            x, weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )
        return out.numpy()


def _times(sizes: tuple[int, int]) -> str:
    return f"{sizes[0]}x{sizes[1]}"


def _short(sizes: tuple[int, int]) -> str:
    return str(sizes[0]) if sizes[0] == sizes[1] else _times(sizes)
