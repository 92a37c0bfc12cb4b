"""What the model must know of an architecture, each number with its source.

Sizes and clocks of a GPU are in its description (``conf/device/``); here is what all GPUs of one compute
capability share. Sources, by the letters in the table:

G: NVIDIA, CUDA C++ programming guide: "Throughput of native arithmetic instructions" (results per clock and
   multiprocessor) and the chapters on the compute capabilities (schedulers, caches, shared memory banks).
O: NVIDIA, CUDA occupancy calculator: allocation units of registers, warps and shared memory.
V: Z. Jia, M. Maggioni, B. Staiger, D. P. Scarpazza, "Dissecting the NVIDIA Volta GPU Architecture via
   Microbenchmarking", arXiv 1804.06826: latencies, and bandwidths of the L2 cache and of DRAM, of P100, P4, V100.
T: Z. Jia, M. Maggioni, J. Smith, D. P. Scarpazza, "Dissecting the NVidia Turing T4 GPU via Microbenchmarking",
   arXiv 1903.07486: the same of T4.
H: W. Luo, R. Fan, Z. Li, D. Du, Q. Wang, X. Chu, "Benchmarking and Dissecting the Nvidia Hopper GPU
   Architecture", arXiv 2402.13499: latencies of A100 and H100.
W: NVIDIA, A100 and H100 architecture whitepapers: bytes per clock that the L2 cache reads.
A: an assumption.

A bandwidth in bytes per clock and multiprocessor is what the source gives for a whole GPU, divided by its clock
and multiprocessors there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Architecture:
    """Constants of one compute capability; throughputs are per multiprocessor and clock, latencies in cycles.

    Attributes:
        schedulers: Warp schedulers.
        issues: Instructions that all schedulers issue together at best.
        integer_lanes: 32-bit integer additions, logic and comparisons.
        multiply_slots: 32-bit integer multiplications as multiples of an addition's lanes taken.
        special_lanes: Reciprocals and the like.
        convert_lanes: Conversions between types.
        separate_integers: Whether integers have lanes of their own beside the float32 ones.
        load_lanes: Threads whose addresses the load and store units take in.
        shared_latency: Of a load from shared memory.
        l1_latency: Of a load that the first-level cache answers.
        l2_latency: Of a load that the second-level cache answers.
        float_latency: Of a dependent float32 multiply-add.
        integer_latency: Of a dependent integer operation.
        multiply_latency: Of a dependent integer multiplication.
        l2_bytes_per_clock: What one multiprocessor gets from the L2 cache when all of them read.
        dram_efficiency: Highest share of the data sheet's bandwidth that was measured.
        l1_bytes: First-level cache for global loads beside the shared memory of typical kernels.
        register_unit: Registers of a warp are allocated in multiples of this.
        warp_unit: Warps of a block are allocated in multiples of this.
        shared_unit: Shared memory of a block is allocated in multiples of so many bytes.
        shared_reserved: Bytes of shared memory that every block takes for the system.
    """

    schedulers: int
    issues: float
    integer_lanes: int
    multiply_slots: float
    special_lanes: int
    convert_lanes: int
    separate_integers: bool
    load_lanes: int
    shared_latency: int
    l1_latency: int
    l2_latency: int
    float_latency: int
    integer_latency: int
    multiply_latency: int
    l2_bytes_per_clock: float
    dram_efficiency: float
    l1_bytes: int
    register_unit: int
    warp_unit: int
    shared_unit: int
    shared_reserved: int


_PASCAL_60 = Architecture(
    schedulers=2,  # G
    issues=2.6,  # A: two dispatch units per scheduler (G), but a second instruction must be independent of the first
    integer_lanes=64,  # G
    multiply_slots=3.0,  # G: "multiple instructions"; three 16-bit multiply-adds (XMAD)
    special_lanes=16,  # G
    convert_lanes=16,  # G
    separate_integers=False,  # G
    load_lanes=16,  # G: 16 load and store units
    shared_latency=24,  # V
    l1_latency=82,  # V
    l2_latency=234,  # V
    float_latency=6,  # V
    integer_latency=6,  # V
    multiply_latency=18,  # A: three dependent XMADs
    l2_bytes_per_clock=21.8,  # V: 1624 GB/s of P100
    dram_efficiency=0.70,  # V: 510 of 732 GB/s
    l1_bytes=24 << 10,  # G
    register_unit=256,  # O
    warp_unit=2,  # O
    shared_unit=256,  # O
    shared_reserved=0,  # O
)

_PASCAL_61 = replace(
    _PASCAL_60,
    schedulers=4,  # G
    issues=4.8,  # A: as above, four schedulers
    integer_lanes=128,  # G
    special_lanes=32,  # G
    convert_lanes=32,  # G
    load_lanes=32,  # G
    shared_latency=23,  # V: P4
    l2_latency=216,  # V: P4
    l2_bytes_per_clock=32.0,  # V: 979 GB/s of P4
    dram_efficiency=0.84,  # V: 162 of 192 GB/s of P4
    warp_unit=4,  # O
)

_VOLTA = Architecture(
    schedulers=4,  # G
    issues=4.0,  # G: one instruction per scheduler
    integer_lanes=64,  # G
    multiply_slots=1.0,  # G
    special_lanes=16,  # G
    convert_lanes=16,  # G
    separate_integers=True,  # G
    load_lanes=32,  # G
    shared_latency=19,  # V
    l1_latency=28,  # V
    l2_latency=193,  # V
    float_latency=4,  # V
    integer_latency=4,  # V
    multiply_latency=5,  # V
    l2_bytes_per_clock=19.5,  # V: 2155 GB/s of V100 at 1380 MHz
    dram_efficiency=0.83,  # V: 750 of 900 GB/s
    l1_bytes=64 << 10,  # G: 128 KB less shared memory
    register_unit=256,  # O
    warp_unit=4,  # O
    shared_unit=256,  # O
    shared_reserved=0,  # O
)

_TURING = replace(
    _VOLTA,
    load_lanes=16,  # G
    l1_latency=32,  # T
    l2_latency=188,  # T
    l2_bytes_per_clock=20.0,  # T: 1270 GB/s of T4
    dram_efficiency=0.69,  # T: 220 of 320 GB/s of T4
    l1_bytes=32 << 10,  # G
)

_AMPERE = replace(
    _VOLTA,
    shared_latency=29,  # H
    l1_latency=38,  # H
    l2_latency=262,  # H
    l2_bytes_per_clock=47.4,  # W: 5120 bytes per clock for 108 multiprocessors
    dram_efficiency=0.90,  # A: newer memory than V100's
    l1_bytes=96 << 10,  # G: 192 KB less shared memory
    shared_unit=128,  # O
    shared_reserved=1024,  # O
)

_HOPPER = replace(
    _AMPERE,
    convert_lanes=64,  # G
    l1_latency=41,  # H
    l2_latency=263,  # H
    l2_bytes_per_clock=38.8,  # W: 5120 bytes per clock for 132 multiprocessors
    l1_bytes=128 << 10,  # G: 256 KB less shared memory
)

ARCHITECTURES = {
    "sm_60": _PASCAL_60,
    "sm_61": _PASCAL_61,
    "sm_70": _VOLTA,
    "sm_75": _TURING,
    "sm_80": _AMPERE,
    "sm_90": _HOPPER,
}
"""Every architecture that the model knows."""


@dataclass(frozen=True)
class Fitted:
    """The three numbers that no document gives.

    They were set by hand on kernels of another generator that had been measured on a GTX 1080 Ti (130 convolutions)
    and a TITAN RTX (80 products); those tables are not part of this project, so here they are assumptions, and the
    same for every GPU. ``experiments.validate_model`` tells how good they are on a table.

    Attributes:
        integer_share: Integer instructions of the PTX that are left in machine code: ptxas strengthens
            and shares address arithmetic.
        pipe_overlap: How much of the work of the other pipes shows beside the busiest one's.
        latency_overlap: How much of the shorter of latency and throughput shows within one barrier segment.
    """

    integer_share: float = 0.6
    pipe_overlap: float = 0.15
    latency_overlap: float = 0.35


LAUNCH_US = 2.5
"""From the start of a launch to that of its first block, and from its last block to the end (an assumption)."""

NEXT_LAUNCH_US = 1.0
"""The same for each launch that follows in the queue, whose start is prepared while the one before runs (an
assumption)."""

BARRIER_CYCLES = 20
"""Until all warps of a block go on after a barrier (an assumption)."""

WIDEST_L2_READ = 64.0
"""Bytes per clock between one multiprocessor and the L2 cache, however few read (an assumption)."""
