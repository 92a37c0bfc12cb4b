"""A GPU as the place where a plan runs: torch tensors as buffers, one captured graph, times from the GPU's clock."""

from __future__ import annotations

import functools
import itertools
import math
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from wpk_envs.devices.cuda.gpu import Gpu, Protocol
from wpk_envs.devices.cuda.timing import AHEAD, Stopwatch, Timed
from wpk_envs.devices.timing import estimate_seconds, interleave
from wpk_envs.planner.implementation import Call
from wpk_envs.planner.runtime import WARM_UP_US, Runtime

MOST_FLUSHES = 500
"""Before one run of a plan's calls; so many keep a GPU busy for several milliseconds."""

WALL_CLOCK = 2
"""Programs are timed as calls of several threads are, by the wall clock: it also counts what the host does for them."""

_capturing = threading.Lock()


class HostCall:
    """A call that waits for the GPU, or may: no graph can hold it.

    Args:
        call: The call.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    def __call__(self) -> None:
        """Make the call."""
        self._call()


class CudaRuntime(Runtime):
    """A GPU; everything goes into its current stream, in order.

    Args:
        gpu: The GPU.
        protocol: How calls are timed alone, see `wpk_envs.devices.cuda.timing`: as those that the store knows were.
    """

    def __init__(self, gpu: Gpu, protocol: Protocol = "cold") -> None:
        self.gpu = gpu
        self._protocol = protocol
        self._host_us = 0.0

    def arena(self, size: int) -> Any:
        """See `Runtime`."""
        import torch

        if self.gpu.torch_device != "cpu":
            torch.cuda.set_device(self.gpu.torch_device)  # which every thread has to be told
        return torch.zeros(size, dtype=torch.uint8, device=self.gpu.torch_device)

    def part(self, memory: Any, offset: int, shape: Sequence[int], dtype: str) -> Any:
        """See `Runtime`."""
        import torch

        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return memory[offset : offset + size].view(getattr(torch, dtype)).view(tuple(shape))

    def held(self, array: Any) -> Any:
        """See `Runtime`."""
        import torch

        if isinstance(array, torch.Tensor):
            return array
        return torch.from_numpy(np.array(array, order="C")).to(self.gpu.torch_device)

    def fill(self, buffer: Any, array: Any) -> None:
        """See `Runtime`."""
        import torch

        buffer.copy_(
            array if isinstance(array, torch.Tensor) else torch.from_numpy(np.require(array, None, ["C", "W"]))
        )

    def read(self, buffer: Any) -> np.ndarray:
        """See `Runtime`."""
        return np.array(buffer.cpu().numpy())

    def together(self, providers: Sequence[str], calls: Sequence[Call]) -> list[Call]:
        """One captured graph, or one for each stretch between calls that no graph can hold; then the end is awaited.

        Everything runs once before: libraries prepare themselves in their first calls, which must not be captured.
        """
        found: list[Call] = []
        with _capturing:
            for call in calls:
                call()
            self.gpu.synchronize()
            for is_host, group in itertools.groupby(calls, key=lambda call: isinstance(call, HostCall)):
                each = list(group)
                found += each if is_host else [self.gpu.repeated(functools.partial(_in_turn, each), 1)]
        return [*found, self.gpu.synchronize]

    def alone_us(self, call: Call, rounds: int, hopeless_us: float) -> float:
        """See `Runtime`; a library that lacks a path is no error."""
        from wpk_envs.vendors.cudnn import MISSING, raise_if_fatal

        try:
            call()
            self.gpu.synchronize()
        except MISSING as error:
            raise_if_fatal(error, self.gpu.torch_device)
            return math.inf
        timed = Timed(self._watch, call)
        if 1e6 * timed.seconds > hopeless_us + WARM_UP_US:
            return 1e6 * timed.seconds
        protocol: Protocol = "cold" if isinstance(call, HostCall) else self._protocol
        return min(self._watch.interleave([timed], protocol, rounds)[0])

    def each_us(self, calls: Sequence[Call]) -> list[float]:
        """See `Runtime`; the GPU is kept busy first, so that the calls are queued before it comes to them."""
        for _ in range(min(MOST_FLUSHES, math.ceil(AHEAD * self._host_us / self._watch.flush_us))):
            self.gpu.flush()
        started = time.perf_counter()
        marks = [self.gpu.mark()]
        for call in calls:
            call()
            marks.append(self.gpu.mark())
        self._host_us = 1e6 * (time.perf_counter() - started)
        self.gpu.synchronize()
        return [self.gpu.elapsed_us(before, after) for before, after in itertools.pairwise(marks)]

    def race_us(self, programs: Sequence[Call], rounds: int) -> list[list[float]]:
        """See `Runtime`."""
        estimates = [estimate_seconds(program, WALL_CLOCK) for program in programs]
        return interleave(programs, estimates, rounds, WALL_CLOCK)

    @functools.cached_property
    def _watch(self) -> Stopwatch:
        return Stopwatch(self.gpu)


def _in_turn(calls: Sequence[Call]) -> None:
    for call in calls:
        call()
