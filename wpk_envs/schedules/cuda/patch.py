"""A thread block's patch of the output and the patch of the input that it reads, for direct and depthwise kernels."""

from __future__ import annotations

from dataclasses import dataclass

from wpk_envs.core import Constraint
from wpk_envs.operators import Conv2d
from wpk_envs.schedules.cuda import rules

SMALLEST_WIDTH = 8
"""Columns that a patch may always have, whatever it wastes."""


@dataclass(frozen=True)
class Patch:
    """Output rows and columns of a block.

    Attributes:
        op: The convolution.
        rows: Output rows.
        columns: Output columns.
    """

    op: Conv2d
    rows: int
    columns: int

    @property
    def input_rows(self) -> int:
        """Input rows that it reads."""
        return (self.rows - 1) * self.op.stride[0] + (self.op.kernel[0] - 1) * self.op.dilation[0] + 1

    @property
    def input_columns(self) -> int:
        """Input columns that it reads."""
        return (self.columns - 1) * self.op.stride[1] + (self.op.kernel[1] - 1) * self.op.dilation[1] + 1

    @property
    def input_bytes(self) -> int:
        """Of one channel's input patch."""
        return rules.FLOAT_BYTES * self.input_rows * self.input_columns

    @property
    def count(self) -> int:
        """Patches that cover one image."""
        return rules.ceil_div(self.op.out_height, self.rows) * rules.ceil_div(self.op.out_width, self.columns)

    @property
    def covered(self) -> int:
        """Output pixels that they compute, those beyond the edges too."""
        return self.count * self.rows * self.columns


def little_waste(op: Conv2d) -> Constraint:
    """Patches cover the output with little waste; a single row of the smallest width is always allowed."""

    def allows(rows: int, columns: int) -> bool:
        smallest = rows == 1 and columns <= SMALLEST_WIDTH
        return smallest or Patch(op, rows, columns).covered <= rules.MAX_WASTE * op.out_height * op.out_width

    return Constraint(("tile_oh", "tile_ow"), allows, "patches cover the output with at most a third wasted")
