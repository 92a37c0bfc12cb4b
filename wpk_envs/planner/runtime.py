"""Where the calls of a plan run: its memory, and how calls are made one after the other and timed.

A plan's steps are bound to buffers of this memory; what buffers are, only providers for the same kind of device know.
"""

from __future__ import annotations

import importlib
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wpk_envs.devices.timing import SAMPLE_SECONDS, estimate_seconds, interleave
from wpk_envs.planner.buffers import aligned, arena, part
from wpk_envs.planner.implementation import Call, Resources

WARM_UP_US = 20_000.0
"""What a first call may take longer than the next ones: libraries prepare themselves."""

CHAINS = {"onednn": "wpk_envs.planner.onednn.library"}
"""Modules with a function ``chain`` that makes one call of several, by provider."""


class Runtime(ABC):
    """The memory and the clock of a device."""

    @abstractmethod
    def arena(self, size: int) -> Any:
        """So many zeroed bytes in one piece, aligned to `wpk_envs.planner.memory.ALIGNMENT`."""

    @abstractmethod
    def part(self, memory: Any, offset: int, shape: Sequence[int], dtype: str) -> Any:
        """A piece of an arena as a buffer."""

    @abstractmethod
    def held(self, array: Any) -> Any:
        """An array, or what this gave for one, where calls can read it."""

    @abstractmethod
    def fill(self, buffer: Any, array: Any) -> None:
        """Copy an array, or what `held` gave for it, into a buffer of the same shape."""

    @abstractmethod
    def read(self, buffer: Any) -> np.ndarray:
        """A copy of a buffer, once every call before has written."""

    @abstractmethod
    def together(self, providers: Sequence[str], calls: Sequence[Call]) -> list[Call]:
        """The quickest calls that do what these do one after the other; everything is written when the last returns.

        Args:
            providers: Who bound each call.
            calls: In order.
        """

    @abstractmethod
    def alone_us(self, call: Call, rounds: int, hopeless_us: float) -> float:
        """Microseconds of a call that is repeated; infinite for one that fails where that is no error.

        Args:
            call: Not called before.
            rounds: Samples, of which the least counts.
            hopeless_us: A call that at first takes far longer than that is not called again.
        """

    @abstractmethod
    def each_us(self, calls: Sequence[Call]) -> list[float]:
        """Microseconds of every call as they are made once in order."""

    @abstractmethod
    def race_us(self, programs: Sequence[Call], rounds: int) -> list[list[float]]:
        """Microseconds of whole programs, timed in turns; a sample per round, by program."""


class CpuRuntime(Runtime):
    """This host: buffers are NumPy arrays.

    Args:
        threads: Threads that one call uses. One is timed by its CPU time, several by the wall clock.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def arena(self, size: int) -> np.ndarray:
        """See `Runtime`."""
        return arena(size)

    def part(self, memory: np.ndarray, offset: int, shape: Sequence[int], dtype: str) -> np.ndarray:
        """See `Runtime`."""
        return part(memory, offset, shape, dtype)

    def held(self, array: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        return aligned(array)

    def fill(self, buffer: np.ndarray, array: np.ndarray) -> None:
        """See `Runtime`."""
        buffer[...] = array

    def read(self, buffer: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        return buffer.copy()

    def together(self, providers: Sequence[str], calls: Sequence[Call]) -> list[Call]:
        """Calls with those of one provider that follow each other made one, where it can."""
        found: list[Call] = []
        for name, group in itertools.groupby(zip(providers, calls), key=lambda pair: pair[0]):
            each = [call for _, call in group]
            chain = importlib.import_module(CHAINS[name]).chain if name in CHAINS and len(each) > 1 else None
            found += [chain(each)] if chain else each
        return found

    def alone_us(self, call: Call, rounds: int, hopeless_us: float) -> float:
        """See `Runtime`."""
        ((first,),) = interleave([call], [SAMPLE_SECONDS], 1, self._threads)
        if first > hopeless_us + WARM_UP_US:
            return first
        (samples,) = interleave([call], [estimate_seconds(call, self._threads)], rounds, self._threads)
        return min(samples)

    def each_us(self, calls: Sequence[Call]) -> list[float]:
        """See `Runtime`."""
        clock: Callable[[], float] = time.thread_time if self._threads == 1 else time.perf_counter
        took = []
        before = clock()
        for call in calls:
            call()
            after = clock()
            took.append(1e6 * (after - before))
            before = after
        return took

    def race_us(self, programs: Sequence[Call], rounds: int) -> list[list[float]]:
        """See `Runtime`."""
        estimates = [estimate_seconds(program, self._threads) for program in programs]
        return interleave(programs, estimates, rounds, self._threads)


def runtime_of(resources: Resources) -> Runtime:
    """Where calls that are bound with these resources run."""
    return resources.gpu or CpuRuntime(resources.threads)
