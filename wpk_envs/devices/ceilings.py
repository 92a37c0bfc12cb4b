"""What a core cannot exceed: arithmetic and cache bandwidth, measured; anything faster is an error."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpk_envs.core import Candidate, DeviceInfo

MARGIN = 1.15
"""A measured ceiling may be missed by this much: clocks change between two measurements."""

READ_BYTES = 16 << 10
"""Size of the buffer read for the bandwidth: it stays in every first-level cache."""

READERS = 8
"""Independent accumulators of the reading kernel."""

MEASURING_SECONDS = 0.05
"""Each ceiling is the fastest of the short runs that fit into this time."""


@dataclass(frozen=True)
class Ceilings:
    """Highest rates of one kernel's threads together.

    Attributes:
        gflops: Float32 arithmetic in GFLOP/s; a multiply-add counts as two.
        gigabytes_per_second: Reading a buffer in the first-level cache, in GB/s.
    """

    gflops: float
    gigabytes_per_second: float

    def objection(self, candidate: Candidate, latency_us: float) -> str:
        """Why a latency cannot be true, in a sentence; empty if it can."""
        executed = candidate.template.executed_flops(candidate.operator, candidate.config)
        return self.objection_to(executed, candidate.operator.bytes, latency_us)

    def objection_to(self, executed_flops: float, moved_bytes: int, latency_us: float) -> str:
        """The same for what is known to be executed and moved."""
        gflops = executed_flops / latency_us / 1e3
        if gflops > MARGIN * self.gflops:
            return f"suspiciously fast: it would execute {gflops:.0f} GFLOP/s where the peak is {self.gflops:.0f}"
        bandwidth = moved_bytes / latency_us / 1e3
        if bandwidth > MARGIN * self.gigabytes_per_second:
            allowed = self.gigabytes_per_second
            return f"suspiciously fast: it would move {bandwidth:.0f} GB/s where the cache gives {allowed:.0f}"
        return ""


def measure_ceilings(info: DeviceInfo) -> Ceilings:
    """Measure the ceilings of this host in about 100 ms, and compile for as long (imports TVM).

    One thread is timed by its own CPU time, more by the wall clock; the fastest of many short runs counts.
    """
    clock = time.thread_time if info.threads == 1 else time.perf_counter
    lanes, registers, threads = info.limits["vector_lanes"], info.limits["vector_registers"], info.threads
    accumulators, steps = 3 * registers // 4, 20_000
    kernel = _multiply_adds(lanes, accumulators, steps, threads)
    arithmetic = _seconds(kernel, [(lanes,), (threads, accumulators, lanes)], info, clock)
    rows, sweeps = READ_BYTES // (4 * lanes * READERS), 1_000
    kernel = _reads(lanes, rows, sweeps, threads)
    reading = _seconds(kernel, [(threads, rows, READERS, lanes), (threads, READERS, lanes)], info, clock)
    return Ceilings(
        gflops=2 * lanes * accumulators * steps * threads / arithmetic / 1e9,
        gigabytes_per_second=READ_BYTES * sweeps * threads / reading / 1e9,
    )


def _seconds(module: Any, shapes: list[tuple[int, ...]], info: DeviceInfo, clock: Callable[[], float]) -> float:
    """Fastest of many runs of a module on buffers of these shapes."""
    from wpk_envs import tvm_adapter

    function = tvm_adapter.compile_cpu(module, info.target)
    tensors = [tvm_adapter.to_tensor(np.full(shape, 0.5, np.float32)) for shape in shapes]

    def once() -> float:
        started = clock()
        function(*tensors)
        return clock() - started

    end, fastest = time.perf_counter() + MEASURING_SECONDS, once()
    while time.perf_counter() < end:
        fastest = min(fastest, once())
    return fastest


def _multiply_adds(lanes: int, accumulators: int, steps: int, threads: int) -> Any:
    """A module of nothing but independent multiply-adds in registers."""
    import tvm
    from tvm.script import tirx as tir

    @tir.prim_func(s_tir=True)
    def main(
        x: tir.Buffer((lanes,), "float32"),  # type: ignore[valid-type]
        y: tir.Buffer((threads, accumulators, lanes), "float32"),  # type: ignore[valid-type]
    ):
        tir.func_attr({"tirx.noalias": True})
        for thread in tir.parallel(threads):
            with tir.sblock("multiply_adds"):
                t = tir.axis.spatial(threads, thread)
                total = tir.sblock_alloc_buffer((accumulators, lanes), "float32", scope="local")
                for a in tir.unroll(accumulators):
                    for lane in tir.vectorized(lanes):
                        total[a, lane] = tir.float32(0)
                for _step in range(steps):
                    for a in tir.unroll(accumulators):
                        for lane in tir.vectorized(lanes):
                            total[a, lane] = total[a, lane] * x[lane] + x[lane]
                for a in tir.unroll(accumulators):
                    for lane in tir.vectorized(lanes):
                        y[t, a, lane] = total[a, lane]

    return tvm.IRModule({"main": main})


def _reads(lanes: int, rows: int, sweeps: int, threads: int) -> Any:
    """A module that reads a small buffer again and again."""
    import tvm
    from tvm.script import tirx as tir

    @tir.prim_func(s_tir=True)
    def main(
        x: tir.Buffer((threads, rows, READERS, lanes), "float32"),  # type: ignore[valid-type]
        y: tir.Buffer((threads, READERS, lanes), "float32"),  # type: ignore[valid-type]
    ):
        tir.func_attr({"tirx.noalias": True})
        for thread in tir.parallel(threads):
            with tir.sblock("reads"):
                t = tir.axis.spatial(threads, thread)
                largest = tir.sblock_alloc_buffer((READERS, lanes), "float32", scope="local")
                for a in tir.unroll(READERS):
                    for lane in tir.vectorized(lanes):
                        largest[a, lane] = tir.float32(0)
                for _sweep in range(sweeps):
                    for row in range(rows):
                        for a in tir.unroll(READERS):
                            for lane in tir.vectorized(lanes):
                                largest[a, lane] = tir.max(largest[a, lane], x[t, row, a, lane])
                for a in tir.unroll(READERS):
                    for lane in tir.vectorized(lanes):
                        y[t, a, lane] = largest[a, lane]

    return tvm.IRModule({"main": main})
