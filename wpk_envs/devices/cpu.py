"""The CPU that this process runs on."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from wpk_envs.core import Candidate, Device, DeviceInfo, Measurement, Operator
from wpk_envs.devices.baseline import Baseline
from wpk_envs.devices.ceilings import Ceilings
from wpk_envs.devices.failures import NO_MEMORY, as_measurement
from wpk_envs.devices.host import available_cores, check_threads, memory_allowance
from wpk_envs.devices.messages import Failure, FindCeilings, MeasureCandidate, RaceBaselines, Refusal, Start
from wpk_envs.devices.pool import WorkerPool
from wpk_envs.devices.rounds import check_importable
from wpk_envs.devices.shared import Shared
from wpk_envs.errors import UserError

logger = logging.getLogger(__name__)

SERVER = "wpk_envs.devices.cpu_server:CpuServer"
"""What answers in the workers."""

DEADLINE_SECONDS = 20.0
RACE_SECONDS = 300.0
MEMORY_GIB = 4.0

Settings = tuple[int, int, int]
"""Threads, workers, memory: devices that agree on them share one pool."""


class CpuDevice(Device):
    """Measures candidates in persistent worker processes on this host's cores.

    The constructor returns at once; workers start in the background and the first question waits for
    them. Devices of one process with the same settings share their workers, and the last `close` ends them.

    Args:
        threads: Threads that one kernel uses. One thread is timed by its CPU time, more by the least wall time.
        workers: Candidates measured at the same time; floor(cores / threads) if none, which is also the most.
        deadline: Seconds that one candidate may take from build to last sample.
        memory_gib: Memory that a candidate may take on top of what a worker needs anyway.
        shared: Whether to share workers; otherwise this device starts its own, as they are needed.

    Raises:
        UserError: For settings that this host cannot have.
    """

    def __init__(
        self,
        threads: int = 1,
        workers: int | None = None,
        deadline: float = DEADLINE_SECONDS,
        memory_gib: float = MEMORY_GIB,
        shared: bool = True,
    ) -> None:
        cores = available_cores()
        check_threads(threads)
        most = cores // threads
        if workers is not None and not (isinstance(workers, int) and 1 <= workers <= most):
            raise UserError(f"device.workers must be a whole number from 1 to {most} (cores / threads), not {workers}")
        for name, value in (("deadline", deadline), ("memory_gib", memory_gib)):
            if not value > 0:
                raise UserError(f"device.{name} must be greater than 0, not {value}")
        self.threads = threads
        self.workers = workers or most
        self.deadline = deadline
        self.memory_gib = memory_gib
        settings = (threads, self.workers, memory_allowance(memory_gib, self.workers))
        self._shared = _Workers.of(settings) if shared else _Workers(settings)
        self._release = weakref.finalize(self, self._shared.release)

    @property
    def info(self) -> DeviceInfo:  # type: ignore[override]
        """The device, as its workers see it; the first access waits for them."""
        return self._shared.pool.info

    def measure(
        self,
        candidates: Sequence[Candidate],
        on_result: Callable[[int, Measurement], None] | None = None,
        repeats: int | None = None,
    ) -> list[Measurement]:
        """Build, check and time candidates in the workers; see `Device.measure`.

        Raises:
            UserError: If a template or operator is defined where workers cannot import it, or the vendor's
                library has no path for an operator.
        """
        for candidate in candidates:
            check_importable(candidate.template)
            check_importable(candidate.operator)
        if not candidates:
            return []
        ceilings = self.ceilings()
        requests = [
            MeasureCandidate(candidate, self.baseline(candidate.operator).name, ceilings, repeats)
            for candidate in candidates
        ]

        def hand_over(position: int, reply: Any) -> None:
            if on_result is not None:
                on_result(position, as_measurement(reply, self.deadline))

        replies = self._shared.pool.run(requests, self.deadline, hand_over)
        return [as_measurement(reply, self.deadline) for reply in replies]

    def baseline(self, operator: Operator) -> Baseline:
        """The vendor's best path for an operator, raced once per process.

        Raises:
            UserError: If the vendor's library has no path for it, or it is too large for this device.
        """
        known = self._shared.baselines
        if operator not in known:
            baseline = self._ask(RaceBaselines(operator), f"the baseline of {operator.label}")
            for warning in baseline.dropped.values():
                logger.warning("%s: %s", operator.label, warning)
            known[operator] = baseline
        return known[operator]

    def ceilings(self) -> Ceilings:
        """Peak arithmetic and cache bandwidth of one kernel's threads, measured once per process."""
        if self._shared.ceilings is None:
            self._shared.ceilings = self._ask(FindCeilings(), "the peak")
        return self._shared.ceilings

    def peak_gflops(self) -> float:
        """Measured float32 peak of one kernel's threads, in GFLOP/s."""
        return self.ceilings().gflops

    def fresh(self) -> CpuDevice:
        """A device of the same settings with processes of its own, which start when they are needed."""
        fresh = CpuDevice(self.threads, self.workers, self.deadline, self.memory_gib, shared=False)
        fresh._shared.baselines.update(self._shared.baselines)
        fresh._shared.ceilings = self._shared.ceilings
        return fresh

    def close(self) -> None:
        """Give the workers up; the last device that shares them ends them."""
        self._release()

    def _ask(self, request: RaceBaselines | FindCeilings, what: str) -> Any:
        (reply,) = self._shared.pool.run([request], RACE_SECONDS)
        if isinstance(reply, Refusal):
            raise UserError(reply.message)
        if isinstance(reply, Failure):
            sentence = f"{what} cannot be measured: {reply.message}"
            if reply.error == "timeout" or NO_MEMORY in reply.message:
                raise UserError(f"{sentence}; choose a smaller operator, or raise device.memory_gib")
            raise RuntimeError(sentence)
        return reply


class _Workers(Shared):
    """Workers of the same settings, and what they found."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        threads, workers, memory = settings
        start = Start(SERVER, {"threads": threads, "memory_bytes": memory}, threads)
        self.pool = WorkerPool([start] * workers)
        self.baselines: dict[Operator, Baseline] = {}
        self.ceilings: Ceilings | None = None

    def warm_up(self) -> None:
        """Start the workers."""
        self.pool.warm_up()

    def close(self) -> None:
        """End the workers."""
        self.pool.close()
