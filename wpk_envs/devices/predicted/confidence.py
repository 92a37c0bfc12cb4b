"""How far a prediction may be trusted: a level by the regime that the kernel is in."""

from __future__ import annotations

from collections.abc import Sequence

from wpk_envs.devices.predicted.model import Estimate

HIGH = "high"
"""Tiles in shared memory, enough warps and blocks, the rest in registers: what the model is made for."""

LOCAL_MEMORY = "low: local memory"
"""Spills or arrays in local memory: whether the first-level cache keeps them is not modelled."""

L1_RELIANT = "low: relies on the first-level cache"
"""Global loads that are repeated often without shared memory: hit rates are a guess."""

FEW_BLOCKS = "low: few blocks"
"""Multiprocessors without a block: the rest gets more of the caches and of DRAM than is modelled."""

LOW_OCCUPANCY = "low: few warps"
"""So few resident warps that latencies decide, which are known less well than throughputs."""

LEAST_OCCUPANCY = 0.125
MOST_REREAD = 2.0
LEAST_FILLED = 1.0
"""Blocks per multiprocessor."""


def confidence_of(estimates: Sequence[Estimate], multiprocessors: int) -> str:
    """The level of the launch that takes longest; any local memory counts.

    Args:
        estimates: What the model says of every launch.
        multiprocessors: Of the GPU.
    """
    if any(each.local for each in estimates):
        return LOCAL_MEMORY
    slowest = max(estimates, key=lambda each: each.microseconds)
    if not slowest.shared and slowest.reread > MOST_REREAD:
        return L1_RELIANT
    if slowest.blocks < LEAST_FILLED * multiprocessors:
        return FEW_BLOCKS
    if slowest.occupancy.share < LEAST_OCCUPANCY:
        return LOW_OCCUPANCY
    return HIGH
