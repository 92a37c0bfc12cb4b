"""An analytical model of a kernel's time on an NVIDIA GPU, from what one of its blocks does.

Between two barriers a block is limited by the busiest of its pipes or by its longest chain of dependent
instructions. Blocks share a multiprocessor as far as registers and shared memory allow; those that are resident
together hide each other's latency until a pipe is full. Blocks come in waves, the last of which may be small. No
launch is faster than its data can be moved to and from DRAM, or than its start.

The approach follows S. Hong and H. Kim, "An Analytical Model for a GPU Architecture with Memory-level and
Thread-level Parallelism Awareness", ISCA 2009, with the segments, pipes and latencies of later GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wpk_envs.core import DeviceInfo
from wpk_envs.devices.cuda.program import Launch, Resources
from wpk_envs.devices.predicted.constants import BARRIER_CYCLES, WIDEST_L2_READ, Architecture, Fitted
from wpk_envs.devices.predicted.occupancy import WARP, Occupancy, occupancy
from wpk_envs.devices.ptx.counts import BlockCounts, Cycles
from wpk_envs.devices.ptx.isa import Class

MODEL_VERSION = 1
"""Rises whenever the same kernel would get another prediction; part of a predicted device's fingerprint."""

SECTOR_BYTES = 32
REGISTER_BYTES = 4
SPILL_SECTORS = REGISTER_BYTES * WARP // SECTOR_BYTES
"""Sectors of a warp's access to one spilled register."""

GLOBAL_LOADS = (Class.LOAD_GLOBAL, Class.LOAD_READ_ONLY)
LOCAL = (Class.LOAD_LOCAL, Class.STORE_LOCAL)
SHARED = (Class.LOAD_SHARED, Class.STORE_SHARED)
GLOBAL = (*GLOBAL_LOADS, Class.STORE_GLOBAL)


@dataclass(frozen=True)
class Estimate:
    """What the model says of one launch.

    Attributes:
        microseconds: From the start of its first block to the end of its last.
        bound: What limits it: a pipe, ``"latency"`` or ``"dram"``.
        occupancy: Resident blocks.
        blocks: Of the grid.
        float_operations: Float32 operations that it executes.
        moved_bytes: What it moves to and from DRAM at the least: its buffers once.
        local: Whether it uses local memory.
        shared: Whether it uses shared memory.
        reread: Sectors asked for over different sectors, of global loads: what the first-level cache may answer.
    """

    microseconds: float
    bound: str
    occupancy: Occupancy
    blocks: int
    float_operations: float
    moved_bytes: int
    local: bool
    shared: bool
    reread: float


def cycles_of(architecture: Architecture) -> Cycles:
    """What an instruction costs a warp, for the counting of critical paths."""
    return Cycles(
        latency={
            Class.FLOAT: architecture.float_latency,
            Class.FMA: architecture.float_latency,
            Class.INTEGER: architecture.integer_latency,
            Class.LONG: 2 * architecture.integer_latency,
            Class.MULTIPLY: architecture.multiply_latency,
            Class.LONG_MULTIPLY: 3 * architecture.multiply_latency,
            Class.COMPARE: architecture.integer_latency,
            Class.SPECIAL: 4 * architecture.float_latency,
            Class.CONVERT: 2 * architecture.integer_latency,
            Class.LOAD_GLOBAL: architecture.l2_latency,
            Class.LOAD_READ_ONLY: architecture.l2_latency,
            Class.LOAD_SHARED: architecture.shared_latency,
            Class.LOAD_LOCAL: architecture.l1_latency,
        },
        issue={},
    )


def estimate(
    launch: Launch,
    resources: Resources,
    counts: BlockCounts,
    instructions: int,
    buffer_bytes: Mapping[str, int],
    device: DeviceInfo,
    architecture: Architecture,
    fitted: Fitted,
) -> Estimate:
    """Predict one launch.

    Args:
        launch: Its grid, block and buffers.
        resources: What ptxas says that the function needs.
        counts: What a block of it does.
        instructions: Of the function's PTX, each once.
        buffer_bytes: Size of every buffer by name.
        device: The GPU.
        architecture: Constants of its compute capability.
        fitted: The numbers that no document gives.

    Raises:
        ValueError: If a block does not fit on a multiprocessor.
    """
    threads, blocks = math.prod(launch.block), math.prod(launch.grid)
    resident = occupancy(threads, resources.registers, resources.shared_bytes, device, architecture)
    if resident.blocks == 0:
        raise ValueError(f"a block of {launch.function} does not fit on a multiprocessor ({resident.limit})")
    multiprocessors = device.limits["multiprocessors"]
    spills = resources.spill_bytes / REGISTER_BYTES / max(1, instructions)
    pipes = _Pipes(counts, spills, device, architecture, fitted, min(blocks, multiprocessors))
    alone = pipes.alone()
    busy, bound = pipes.busy()

    def wave(count: int) -> float:
        """Cycles of so many blocks side by side on one multiprocessor."""
        idle = min(1.0, count * counts.warps / architecture.schedulers)  # schedulers without a warp do nothing
        return max(alone, count * busy / idle) if count else 0.0

    turns, rest = divmod(-(-blocks // multiprocessors), resident.blocks)
    cycles = turns * wave(resident.blocks) + wave(rest)
    microseconds = cycles / device.limits["clock_mhz"]
    moved = sum(buffer_bytes[name] for name in launch.buffers)
    from_dram = _dram_bytes(moved, pipes.l2_bytes * blocks, device) / (
        1e3 * device.limits["memory_gbps"] * architecture.dram_efficiency
    )
    full = max(resident.blocks * busy, 1e-9)
    total = counts.total(counts.instructions)
    return Estimate(
        microseconds=max(microseconds, from_dram),
        bound="dram" if from_dram > microseconds else "latency" if alone > full else bound,
        occupancy=resident,
        blocks=blocks,
        float_operations=float(WARP * blocks * (2 * total[Class.FMA] + total[Class.FLOAT])),
        moved_bytes=moved,
        local=bool(resources.spill_bytes or counts.total(counts.requests)[list(LOCAL)].sum()),
        shared=bool(total[list(SHARED)].sum()),
        reread=pipes.reread,
    )


def _dram_bytes(moved: int, asked: float, device: DeviceInfo) -> float:
    """Bytes from and to DRAM: buffers once, and again what the second-level cache cannot keep of them."""
    lost = max(0.0, 1.0 - device.limits["l2_bytes"] / max(1, moved))
    return moved + lost * max(0.0, asked - moved)


class _Pipes:
    """Cycles that one block keeps every pipe of a multiprocessor busy, by segment."""

    def __init__(
        self,
        counts: BlockCounts,
        spills: float,
        device: DeviceInfo,
        architecture: Architecture,
        fitted: Fitted,
        active: int,
    ) -> None:
        self.counts, self.fitted = counts, fitted
        # ptxas spills after the PTX that is counted: its accesses are taken to run as often as the mean instruction.
        self._spills = spills * counts.instructions.sum(1)
        asked = counts.total(counts.transactions)[list(GLOBAL_LOADS)].sum()
        different = max(1, int(counts.loaded.sum()))
        self.reread = float(asked / different) if asked else 1.0
        cached = different * SECTOR_BYTES <= architecture.l1_bytes
        self._kept = 1.0 / self.reread if cached else 1.0  # share of the loads that the first-level cache lets through
        self._busy = self._cycles(device, architecture, active)
        self.l2_bytes = SECTOR_BYTES * float((counts.repeats * self._sectors()).sum())

    def _sectors(self) -> np.ndarray:
        """Sectors that every segment moves beyond the first-level cache."""
        moved = self.counts.transactions
        loads = moved[:, list(GLOBAL_LOADS)].sum(1) * self._kept
        return loads + moved[:, Class.STORE_GLOBAL] + moved[:, list(LOCAL)].sum(1) + SPILL_SECTORS * self._spills

    def _cycles(self, device: DeviceInfo, architecture: Architecture, active: int) -> dict[str, np.ndarray]:
        instructions = self.counts.instructions.astype(float)
        share = self.fitted.integer_share
        lanes = device.limits["fp32_lanes_per_sm"]

        def sum_of(*kinds: Class) -> np.ndarray:
            return instructions[:, list(kinds)].sum(1)

        floats = sum_of(Class.FMA, Class.FLOAT)
        simple = sum_of(Class.INTEGER, Class.COMPARE) + 2 * sum_of(Class.LONG)
        products = architecture.multiply_slots * (sum_of(Class.MULTIPLY) + 3 * sum_of(Class.LONG_MULTIPLY))
        integers = share * (simple + products) * WARP / architecture.integer_lanes
        arithmetic = floats * WARP / lanes
        memory = sum_of(*GLOBAL, *SHARED, *LOCAL) + self._spills
        issued = floats + share * (simple + products) + memory + sum_of(Class.SPECIAL, Class.CONVERT)
        issued += sum_of(Class.BRANCH, Class.BARRIER)
        reads = min(WIDEST_L2_READ, architecture.l2_bytes_per_clock * device.limits["multiprocessors"] / active)
        return {
            "arithmetic": arithmetic if architecture.separate_integers else arithmetic + integers,
            "integers": integers if architecture.separate_integers else np.zeros_like(integers),
            "special functions": sum_of(Class.SPECIAL) * WARP / architecture.special_lanes,
            "conversions": sum_of(Class.CONVERT) * WARP / architecture.convert_lanes,
            "issue": issued / architecture.issues,
            "shared memory": self.counts.transactions[:, list(SHARED)].sum(1).astype(float),
            "load and store": (sum_of(*GLOBAL, *LOCAL) + self._spills) * WARP / architecture.load_lanes,
            "l2": self._sectors() * SECTOR_BYTES / reads,
        }

    def alone(self) -> float:
        """Cycles of a block that has a multiprocessor to itself."""
        throughput = np.max(list(self._busy.values()), axis=0)
        latency = self.counts.critical_path.astype(float)  # the issue path is that of PTX, which ptxas reorders
        barriers = BARRIER_CYCLES * (self.counts.instructions[:, Class.BARRIER] > 0)
        longer, shorter = np.maximum(throughput, latency), np.minimum(throughput, latency)
        return float((self.counts.repeats * (longer + self.fitted.latency_overlap * shorter + barriers)).sum())

    def busy(self) -> tuple[float, str]:
        """Cycles that a block adds where others hide its latency, and the busiest pipe."""
        totals = {name: float((self.counts.repeats * cycles).sum()) for name, cycles in self._busy.items()}
        busiest = max(totals, key=totals.__getitem__)
        others = sum(totals.values()) - totals[busiest]
        return totals[busiest] + self.fitted.pipe_overlap * others, busiest
