"""Static rules that several GPU templates share (no TVM here)."""

from __future__ import annotations

import math

from wpk_envs.core import Constraint, DeviceInfo

FLOAT_BYTES = 4
WARP = 32

MAX_WASTE = 1.34
"""Largest padded over useful work that a config may have along one dimension."""

MAX_UNROLLED_FMAS = 1024
"""Longest unrolled body in multiply-adds of one thread: larger sources take seconds to compile."""

OVERHEAD_REGISTERS = 34
"""Addresses, loop counters and predicates of one thread, at most."""

MAX_VECTOR = 4
"""Floats of the widest load."""

MAX_GRID_Z = 65535
"""Most blocks along a grid's last two axes (CUDA C++ Programming Guide, compute capabilities)."""

FEW_OUTPUTS = 4
"""Outputs of one thread below which more blocks are no gain."""

SKEW = 4
"""Floats between rows of a shared tile that is written across its rows: they land in other banks."""


def ceil_div(value: int, divisor: int) -> int:
    """The smallest whole number that is at least ``value / divisor``."""
    return -(-value // divisor)


def ceil_to(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``value``."""
    return ceil_div(value, multiple) * multiple


def little_waste(size: int, multiple: int) -> bool:
    """Whether padding ``size`` to a multiple stays within `MAX_WASTE`."""
    return ceil_to(size, multiple) <= MAX_WASTE * size


def divides(block: str, *parts: str) -> Constraint:
    """The register tile and its repetitions divide the block's tile."""
    return Constraint(
        (block, *parts),
        lambda tile, *sizes: tile % math.prod(sizes) == 0,
        f"{' x '.join(parts)} divides {block}",
    )


def whole_warps(threads: int, most: int) -> bool:
    """Whether a block of so many threads can run and leaves no lane idle."""
    return threads % WARP == 0 and WARP <= threads <= most


def widest_vector(extent: int) -> int:
    """The most floats of one load whose vectors never reach over the end of an extent."""
    return math.gcd(extent, MAX_VECTOR)


def registers_allowed(device: DeviceInfo, threads: int) -> int:
    """Registers that a thread may have if a block of so many is to run at all (allocated in eights)."""
    return min(device.limits["registers_per_thread"], device.limits["registers_per_sm"] // threads // 8 * 8)


def blocks_wanted(device: DeviceInfo, outputs: int) -> int:
    """Blocks that a launch must have: one per multiprocessor, where one-warp blocks of few outputs allow it."""
    return min(device.limits["multiprocessors"], max(1, outputs // (WARP * FEW_OUTPUTS)))


def scaled_features(
    accumulators: float, shared_bytes: float, intensity: float, device: DeviceInfo
) -> tuple[float, float, float]:
    """Scale (register tile, shared memory, arithmetic intensity) into [0, 1]."""
    shared = shared_bytes / device.limits["shared_bytes_per_block"]
    return min(1.0, accumulators / 128), min(1.0, shared), min(1.0, intensity / 8)
