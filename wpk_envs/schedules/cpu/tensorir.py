"""Shared pieces of the CPU templates' TensorIR: zero padding, vectors and loop annotations.

Imported only when a kernel is built, because it imports TVM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import te
from tvm.s_tir import Schedule

from wpk_envs.core import KnobValue
from wpk_envs.schedules.tensorir import Arguments, epilogue, linear, unroll_all

__all__ = [
    "Arguments",
    "epilogue",
    "linear",
    "padded_input",
    "parallel_outer",
    "split_initialisation",
    "unroll_all",
    "unroll_kernel",
    "vectorize_copy",
    "vectorize_lanes",
]


def padded_input(x: Any, extent: tuple[int, int], padding: tuple[int, int], name: str = "pad") -> Any:
    """Copy ``x[n, c, h, w, lane]`` into a zero-bordered buffer of the given height and width."""
    batch, blocks, height, width, lanes = (int(size) for size in x.shape)
    top, left = padding

    def element(n: Any, c: Any, h: Any, w: Any, lane: Any) -> Any:
        inside = te.all(h >= top, h < height + top, w >= left, w < width + left)
        return te.if_then_else(inside, x[n, c, h - top, w - left, lane], tvm.tirx.const(0.0, "float32"))

    return te.compute((batch, blocks, *extent, lanes), element, name=name)


def vectorize_lanes(schedule: Schedule, loop: Any, lanes: int) -> None:
    """Split a loop by the vector width, vectorise the inner part and unroll the outer one."""
    extent = int(schedule.get(loop).extent)
    if extent == lanes:
        schedule.vectorize(loop)
        return
    outer, inner = schedule.split(loop, [None, lanes])
    schedule.vectorize(inner)
    schedule.unroll(outer)


def vectorize_copy(schedule: Schedule, loop: Any, lanes: int) -> None:
    """Vectorise the innermost loop of a copy by the widest power of two that divides it."""
    extent = int(schedule.get(loop).extent)
    width = math.gcd(extent, lanes)
    if width > 1:
        _, inner = schedule.split(loop, [None, width])
        schedule.vectorize(inner)


def unroll_kernel(schedule: Schedule, option: KnobValue, rows: Any, columns: Any) -> None:
    """Unroll the loops over the kernel's rows and columns that the knob ``unroll_kernel`` names."""
    if option in ("width", "all"):
        schedule.unroll(columns)
    if option == "all":
        schedule.unroll(rows)


def split_initialisation(schedule: Schedule, block: Any, loop: Any, tile_loops: int) -> None:
    """Move a reduction's initialisation before a loop, its register tile unrolled and vectorised.

    Vectorising the update comes first: TVM refuses it once the reduction is split.
    """
    init = schedule.decompose_reduction(block, loop)
    *unrolled, lanes = schedule.get_loops(init)[-tile_loops:]
    unroll_all(schedule, unrolled)
    schedule.vectorize(lanes)


def parallel_outer(schedule: Schedule, loops: Sequence[Any], threads: int) -> None:
    """Spread the fused outer loops over the device's threads; nothing for one thread.

    Call it before `split_initialisation`: TVM refuses to parallelise over a reduction whose
    initialisation is a block of its own.
    """
    if threads > 1:
        schedule.parallel(schedule.fuse(*loops))
