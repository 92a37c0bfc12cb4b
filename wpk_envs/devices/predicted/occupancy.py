"""How many blocks of a kernel a multiprocessor holds at a time, as NVIDIA's occupancy calculator counts."""

from __future__ import annotations

from dataclasses import dataclass

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.predicted.constants import Architecture

WARP = 32


@dataclass(frozen=True)
class Occupancy:
    """Resident blocks of one launch.

    Attributes:
        blocks: At a time on one multiprocessor; 0 if a block does not fit at all.
        warps: Of them all.
        share: Of the warps that a multiprocessor can hold.
        limit: What limits it: ``"threads"``, ``"blocks"``, ``"registers"`` or ``"shared memory"``.
    """

    blocks: int
    warps: int
    share: float
    limit: str


def occupancy(
    threads: int, registers: int, shared_bytes: int, device: DeviceInfo, architecture: Architecture
) -> Occupancy:
    """Count the blocks that fit side by side.

    Args:
        threads: Of a block.
        registers: Of a thread.
        shared_bytes: Of a block.
        device: Whose limits hold.
        architecture: Whose allocation units hold.
    """
    limits, warps = device.limits, -(-threads // WARP)
    allocated = _up(warps, architecture.warp_unit)
    per_warp = _up(max(1, registers) * WARP, architecture.register_unit)
    warps_by_registers = limits["registers_per_sm"] // per_warp // architecture.warp_unit * architecture.warp_unit
    shared = _up(shared_bytes + architecture.shared_reserved, architecture.shared_unit)
    fitting = {
        "threads": limits["threads_per_sm"] // WARP // warps,
        "blocks": limits["blocks_per_sm"],
        "registers": warps_by_registers // allocated,
        "shared memory": limits["shared_bytes_per_sm"] // shared if shared else limits["blocks_per_sm"],
    }
    limit = min(fitting, key=fitting.__getitem__)
    blocks = fitting[limit]
    return Occupancy(blocks, blocks * warps, blocks * warps * WARP / limits["threads_per_sm"], limit)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
