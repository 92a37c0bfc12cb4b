"""The NVIDIA GPUs that this process can use."""

from __future__ import annotations

import dataclasses
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from wpk_envs.core import Candidate, Device, DeviceInfo, Measurement, Operator
from wpk_envs.devices.cuda.builder import BuildCandidate, Built
from wpk_envs.devices.cuda.gpu import Protocol, check_toolchain
from wpk_envs.devices.cuda.jobs import GpuBaseline, Job, MeasureJob, ceilings_of
from wpk_envs.devices.cuda.runner import DEADLINE_SECONDS, TORCH_GPU, GpuRunner, check_settings
from wpk_envs.devices.failures import as_measurement
from wpk_envs.devices.host import available_cores, memory_allowance
from wpk_envs.devices.messages import Start
from wpk_envs.devices.pool import WorkerPool
from wpk_envs.devices.rounds import Stage, check_importable, play
from wpk_envs.devices.shared import Shared
from wpk_envs.devices.worker import load
from wpk_envs.errors import UserError

logger = logging.getLogger(__name__)

BUILDER = "wpk_envs.devices.cuda.builder:BuildServer"
BUILDER_MEMORY_GIB = 4.0

Settings = tuple[tuple[int, ...], Protocol, bool, int, float, str]
"""GPUs, protocol, TF32, workers, deadline, class of the GPU: devices that agree on them share their processes."""


class CudaDevice(Device):
    """Compiles candidates in processes on this host's cores, and measures them in one process per GPU.

    Both go on at the same time. The constructor returns at once; processes start in the background and the
    first question waits for them. Devices of one process with the same settings share their processes, and the
    last `close` ends them.

    Args:
        gpus: Numbers of the GPUs, from 0, all of the same model.
        protocol: ``"cold"`` or ``"hot"``: how samples are taken, see `wpk_envs.devices.cuda.timing`.
        tf32: Whether the vendor's paths are raced in TF32 as well; for the record, never the baseline.
        workers: Candidates compiled at the same time; as many as there are cores if none.
        deadline: Seconds that one candidate may take to build, and again to check and time.
        gpu: The class of `wpk_envs.devices.cuda.gpu.Gpu` to use, as ``module:Class``.
        shared: Whether to share processes; otherwise this device starts its own, as they are needed.

    Raises:
        UserError: For settings that are not allowed.
    """

    def __init__(
        self,
        gpus: Sequence[int] = (0,),
        protocol: Protocol = "cold",
        tf32: bool = False,
        workers: int | None = None,
        deadline: float = DEADLINE_SECONDS,
        gpu: str = TORCH_GPU,
        shared: bool = True,
    ) -> None:
        most = available_cores()
        if workers is not None and not (isinstance(workers, int) and 1 <= workers <= most):
            raise UserError(f"device.workers must be a whole number from 1 to {most} (cores), not {workers}")
        check_settings(gpus, protocol, deadline)
        self.workers = workers or most
        self.deadline = deadline
        self._settings: Settings = (tuple(gpus), protocol, tf32, self.workers, deadline, gpu)
        self._shared = _Processes.of(self._settings) if shared else _Processes(self._settings)
        self._release = weakref.finalize(self, self._shared.release)

    @property
    def info(self) -> DeviceInfo:  # type: ignore[override]
        """The GPU as its process and its description see it; the first access waits for the process.

        Raises:
            UserError: If the GPU cannot be used, or kernels cannot be compiled for it.
        """
        if self._shared.info is None:
            from wpk_envs.devices.cuda import descriptions

            gpu = self._shared.runner.info
            self._shared.info = descriptions.present(gpu, self._settings[1])
            check_toolchain(gpu, self._shared.info.versions["nvrtc"])
        return self._shared.info

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user should know before measuring, in sentences; raises as `info`."""
        from wpk_envs.devices.cuda import descriptions

        gpu = self._shared.runner.info
        name = descriptions.match(gpu.model, self.info.target["arch"], self.info.limits["multiprocessors"])
        limits = f"conf/device/{name}.yaml says" if name else "its driver tells, for no file in conf/device fits it"
        missing = f"{gpu.no_vendor}; speedups will be missing, and the search goes by latency"
        return (f"the GPU's limits are what {limits}", *([missing] if gpu.no_vendor else []))

    def measure(
        self,
        candidates: Sequence[Candidate],
        on_result: Callable[[int, Measurement], None] | None = None,
        repeats: int | None = None,
    ) -> list[Measurement]:
        """Build candidates in parallel, check and time each as soon as it is built; see `Device.measure`.

        Raises:
            UserError: If the GPU cannot be used, a template or operator is defined where processes cannot import it,
                or the vendor's libraries have no path for an operator.
        """
        for candidate in candidates:
            check_importable(candidate.template)
            check_importable(candidate.operator)
        if not candidates:
            return []
        info, shared = self.info, self._shared
        if not shared.runner.info.no_vendor:
            for operator in dict.fromkeys(candidate.operator for candidate in candidates):
                self.baseline(operator)
        batch = _Batch(candidates, info, shared.runner, repeats)

        def hand_over(position: int, reply: Any) -> None:
            if on_result is not None:
                on_result(position, batch.measurement(position, reply))

        stages = [Stage(shared.builders, self.deadline, batch.forward), Stage(shared.runner.pool, self.deadline)]
        replies = play(stages, [BuildCandidate(candidate, info) for candidate in candidates], hand_over)
        return [batch.measurement(position, reply) for position, reply in enumerate(replies)]

    def baseline(self, operator: Operator) -> GpuBaseline:
        """The vendor's best path for an operator, raced once per process; raises as `GpuRunner.baseline`."""
        runner = self._shared.runner
        new = not runner.knows(operator)
        baseline = runner.baseline(operator)
        for warning in baseline.dropped.values() if new else ():
            logger.warning("%s: %s", operator.label, warning)
        return baseline

    def peak_gflops(self) -> float:
        """Nominal float32 peak in GFLOP/s: lanes, multiprocessors and highest clock of its description."""
        return ceilings_of(self.info.limits).gflops

    def fresh(self) -> CudaDevice:
        """A device of the same settings with processes of its own, which start when they are needed."""
        gpus, protocol, tf32, workers, deadline, gpu = self._settings
        fresh = CudaDevice(gpus, protocol, tf32, workers, deadline, gpu, shared=False)
        fresh._shared.runner.learn(self._shared.runner)
        return fresh

    def close(self) -> None:
        """Give the processes up; the last device that shares them ends them."""
        self._release()


class _Batch:
    """Candidates on their way from the builders to the runner."""

    def __init__(
        self, candidates: Sequence[Candidate], info: DeviceInfo, runner: GpuRunner, repeats: int | None
    ) -> None:
        self._candidates = candidates
        self._ceilings = ceilings_of(info.limits)
        self._runner = runner
        self._repeats = repeats
        self._jobs: dict[int, Job] = {}

    def forward(self, position: int, reply: Any) -> MeasureJob | None:
        """What the runner is asked, if the candidate was built."""
        if not isinstance(reply, Built):
            return None
        candidate = self._candidates[position]
        self._jobs[position] = job = Job(
            operator=candidate.operator,
            program=reply.program,
            tolerance=candidate.template.tolerance,
            executed_flops=candidate.template.executed_flops(candidate.operator, candidate.config),
            build_seconds=reply.seconds,
        )
        return self._runner.request(job, self._ceilings, self._repeats)

    def measurement(self, position: int, reply: Any) -> Measurement:
        """A final reply as a measurement; what is known of the kernel stays known if its process died."""
        measurement = as_measurement(reply, self._runner.deadline)
        job = self._jobs.get(position)
        if job is None or isinstance(reply, Measurement):
            return measurement
        return dataclasses.replace(measurement, build_seconds=job.build_seconds, details=job.program.details())


class _Processes(Shared):
    """Builders and runners of the same settings, and what they found."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        gpus, protocol, tf32, workers, deadline, gpu = settings
        self.runner = GpuRunner(gpus, protocol, tf32, deadline, gpu)
        memory = memory_allowance(BUILDER_MEMORY_GIB, workers)
        start = Start(BUILDER, {"image": load(gpu).image, "memory_bytes": memory})
        self.builders = WorkerPool([start] * workers)
        self.info: DeviceInfo | None = None

    def warm_up(self) -> None:
        """Start all processes."""
        self.runner.pool.warm_up()
        self.builders.warm_up()

    def close(self) -> None:
        """End all processes."""
        self.builders.close()
        self.runner.close()
