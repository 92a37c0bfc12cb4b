"""Schedule templates' kernels in the layouts of a plan.

A template chooses the layout of its activations for itself: blocks as wide as its register tile, for instance. The
same loops run on another layout just as well, as long as one vector of channels stays together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wpk_envs.core import Argument, Kernel
from wpk_envs.operators import Conv2d
from wpk_envs.operators.fused import FusedOperator
from wpk_envs.planner import layouts

IndexMap = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Relaid:
    """How an argument of a kernel gets a layout of the plan's.

    Attributes:
        shape: Of the buffer that the kernel then takes.
        index_map: From indices in its own buffer; none where the elements lie like that anyway.
    """

    shape: tuple[int, ...]
    index_map: IndexMap | None


def relaid(operator: FusedOperator, argument: Argument, layout: str, lanes: int) -> Relaid | None:
    """An activation of a kernel in a layout of the plan's; none if the kernel cannot have it.

    Args:
        operator: What the kernel computes.
        argument: An input, or the output.
        layout: The plan's.
        lanes: Of the kernel's vectors: outputs are written a vector at a time.
    """
    writes = argument.name in ("output", "residual")
    if not isinstance(operator, Conv2d):
        return _relaid_matrix(operator, argument, writes)
    shape = operator.output_shape if writes else operator.input_shapes[argument.name]
    wanted = layouts.buffer_shape(layout, shape)
    own = layouts.block_of(argument.layout)
    if argument.layout == layout or (
        own is not None and layout == layouts.NHWC and argument.shape[1] * own == shape[1] == own
    ):
        return Relaid(argument.shape, None)
    if writes and not _vectors_stay(layout, lanes):
        return None
    if own is not None:
        return _from_blocked(argument.shape, own, layout, shape, wanted)
    if argument.layout == layouts.NHWC:
        return _from_nhwc(layout, shape, wanted)
    return _from_rows(argument.shape, layout, shape, wanted)


def _vectors_stay(layout: str, lanes: int) -> bool:
    """Whether a vector of channels is together in a layout."""
    block = layouts.block_of(layout)
    return layout == layouts.NHWC or (block is not None and block % lanes == 0)


def _from_blocked(
    own_shape: tuple[int, ...], own: int, layout: str, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> Relaid | None:
    """From [N, C', H, W, c] of blocks that may be padded; only if the padding is that of the wanted layout."""
    if own_shape[1] * own != _padded_channels(layout, shape):
        return None
    block = layouts.block_of(layout)
    if block is not None:
        return Relaid(wanted, lambda n, o, h, w, v: (n, (o * own + v) // block, h, w, (o * own + v) % block))
    if layout == layouts.NHWC:
        return Relaid(wanted, lambda n, o, h, w, v: (n, h, w, o * own + v))
    return Relaid(wanted, lambda n, o, h, w, v: (n, o * own + v, h, w))


def _from_nhwc(layout: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> Relaid | None:
    if shape[1] != _padded_channels(layout, shape):
        return None
    block = layouts.block_of(layout)
    if block is not None:
        return Relaid(wanted, lambda n, h, w, c: (n, c // block, h, w, c % block))
    return Relaid(wanted, lambda n, h, w, c: (n, c, h, w))


def _from_rows(
    own_shape: tuple[int, ...], layout: str, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> Relaid | None:
    """From [N, H * W, C], as a matrix product writes an image; columns may be padded."""
    if own_shape[2] != _padded_channels(layout, shape):
        return None
    if layout == layouts.NHWC:
        return Relaid(own_shape, None)
    block, width = layouts.block_of(layout), shape[3]
    assert block is not None, layout
    return Relaid(wanted, lambda n, i, j: (n, j // block, i // width, i % width, j % block))


def _relaid_matrix(operator: FusedOperator, argument: Argument, writes: bool) -> Relaid | None:
    """A matrix lies row by row; padded columns are no matter where there is one row only."""
    plain = math.prod(operator.output_shape if writes else operator.input_shapes[argument.name])
    if math.prod(argument.shape) == plain:
        return Relaid(argument.shape, None)
    return None


def _padded_channels(layout: str, shape: tuple[int, ...]) -> int:
    block = layouts.block_of(layout) or 1
    return -(-shape[1] // block) * block


def with_layouts(kernel: Kernel, changes: dict[str, Relaid]) -> Any:
    """The kernel's module with other layouts of some arguments, by name (imports TVM)."""
    from wpk_envs import tvm_adapter

    maps = {name: change.index_map for name, change in changes.items() if change.index_map is not None}
    return tvm_adapter.relayout(kernel.module, maps) if maps else kernel.module
