"""Static rules and buffer layouts that several CPU templates share (no TVM here)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wpk_envs.core import Constraint, DeviceInfo
from wpk_envs.operators import Conv2d

MAX_UNROLLED_FMAS = 224
"""Longest unrolled body in vector multiply-adds; beyond it the front end starves (measured 0.4-0.6x)."""

MIN_ACCUMULATORS = 8
"""Fewer accumulators cannot hide the latency of the multiply-adds (4 cycles on two ports)."""

MAX_WASTE = 1.34
"""Largest padded over useful work that a config may have along one dimension."""


def ceil_to(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``value``."""
    return -(-value // multiple) * multiple


def little_waste(size: int, multiple: int) -> bool:
    """Whether padding ``size`` to a multiple stays within `MAX_WASTE`."""
    return ceil_to(size, multiple) <= MAX_WASTE * size


def is_depthwise(op: Conv2d) -> bool:
    """Whether every channel is convolved on its own."""
    return op.groups == op.channels == op.filters and op.groups > 1


def needs_padding(op: Conv2d, tile_oh: int, tile_ow: int) -> bool:
    """Whether the kernel reads beyond the input: by its padding, or by a tile that does not divide."""
    return any(op.padding) or op.out_height % tile_oh != 0 or op.out_width % tile_ow != 0


def vector_width(filters: int, device: DeviceInfo) -> Constraint:
    """The host's vectors, or narrower ones where output channels do not fill them."""
    host = device.limits["vector_lanes"]

    def allows(vector: int) -> bool:
        return vector == host or (vector < host and filters % (2 * vector) != 0)

    return Constraint(("vector",), allows, f"the host's {host} lanes, or fewer if {filters} channels do not fill them")


def filter_waste(filters: int) -> Constraint:
    """Output channels padded to the register tile waste little; a single vector is always allowed."""

    def allows(vector: int, tile_oc: int) -> bool:
        padded = ceil_to(filters, vector)
        return tile_oc == 1 or ceil_to(padded, vector * tile_oc) <= MAX_WASTE * padded

    return Constraint(("vector", "tile_oc"), allows, f"at most a third of padding on {filters} output channels")


def register_tile(knobs: tuple[str, ...], pixels: int, filters: int, device: DeviceInfo) -> Constraint:
    """Accumulators (the product of the knobs) fill the registers without spilling.

    The first knob counts weight vectors, each of which takes a register too.
    """
    registers = device.limits["vector_registers"]
    vectors = -(-filters // device.limits["vector_lanes"])
    least = min(MIN_ACCUMULATORS, registers // 4, max(1, pixels * vectors // 4))

    def allows(tile_oc: int, *tile: int) -> bool:
        accumulators = tile_oc * math.prod(tile)
        return least <= accumulators and accumulators + tile_oc < registers

    reason = f"{least} or more accumulators, and with their weight vectors fewer than {registers} registers"
    return Constraint(knobs, allows, reason)


def pixel_waste(knob: str, extent: int) -> Constraint:
    """A tile along one image dimension wastes little; a single pixel always fits."""
    return Constraint(
        (knob,),
        lambda tile: tile == 1 or (tile < 2 * extent and little_waste(extent, tile)),
        f"{knob} pads the output extent {extent} by at most a third",
    )


def kernel_steps(op: Conv2d) -> dict[str, int]:
    """Unrolled kernel positions by option of ``unroll_kernel``."""
    return {"none": 1, "width": op.kernel[1], "all": op.kernel[0] * op.kernel[1]}


def unrolled_kernel(op: Conv2d) -> Constraint:
    """Kernel loops of one step have nothing to unroll."""
    kernel_h, kernel_w = op.kernel
    return Constraint(
        ("unroll_kernel",),
        lambda unroll: (unroll != "width" or kernel_w > 1) and (unroll != "all" or kernel_h > 1),
        "only kernel loops longer than 1 are unrolled",
    )


def padding_matters(op: Conv2d) -> Constraint:
    """Where the padded input is made is a choice only where there is one."""
    return Constraint(
        ("tile_oh", "tile_ow", "pad_at"),
        lambda oh, ow, pad_at: pad_at == "root" or needs_padding(op, oh, ow),
        "pad_at matters only where the input is padded",
    )


def scaled_features(
    accumulators: float, touched_bytes: float, intensity: float, device: DeviceInfo
) -> tuple[float, float, float]:
    """Scale (register tile, footprint, arithmetic intensity) into [0, 1]."""
    footprint = math.log2(1 + touched_bytes / device.limits["l1_bytes"]) / 16
    registers = device.limits["vector_registers"]
    return min(1.0, accumulators / registers), min(1.0, footprint), min(1.0, intensity / 16)


def block_channels(array: np.ndarray, groups: int, block: int) -> np.ndarray:
    """``[N, C, H, W]`` to ``[N, g*C', H, W, c]``, channels of each group padded with zeros to whole blocks."""
    batch, channels, height, width = array.shape
    per_group = channels // groups
    blocks = -(-per_group // block)
    padded = np.zeros((batch, groups, blocks * block, height, width), dtype=np.float32)
    padded[:, :, :per_group] = array.reshape(batch, groups, per_group, height, width)
    split = padded.reshape(batch, groups * blocks, block, height, width)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2))


def unblock_channels(array: np.ndarray, groups: int, channels: int) -> np.ndarray:
    """The inverse of `block_channels`: ``[N, g*C', H, W, c]`` to ``[N, C, H, W]``."""
    batch, blocks, height, width, block = array.shape
    joined = array.transpose(0, 1, 4, 2, 3).reshape(batch, groups, blocks // groups * block, height, width)
    return joined[:, :, : channels // groups].reshape(batch, channels, height, width)


def block_bias(bias: np.ndarray, groups: int, blocks: int, block: int) -> np.ndarray:
    """``[C]`` to ``[g*C', c]`` with zeros where channels are padding."""
    padded = np.zeros((groups, blocks // groups * block), dtype=np.float32)
    padded[:, : bias.size // groups] = bias.reshape(groups, -1)
    return padded.reshape(blocks, block)


def epilogue_arguments(args: Any, op: Conv2d, groups: int, out_shape: Sequence[int], layout: str) -> tuple[Any, Any]:
    """Declare the blocked bias ``[C', c]`` and residual ``[N, C', H, W, c]`` that the operator has.

    Channels are blocked group by group; ``groups`` is 1 where blocks go across groups (depthwise).
    """
    blocks, block = out_shape[1], out_shape[-1]
    bias = residual = None
    if op.bias:
        bias = args.add("bias", (blocks, block), f"C{block}c", lambda a: block_bias(a, groups, blocks, block))
    if op.residual:
        residual = args.add("residual", out_shape, layout, lambda a: block_channels(a, groups, block))
    return bias, residual
