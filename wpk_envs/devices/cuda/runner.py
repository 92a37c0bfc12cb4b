"""`GpuRunner`: measures compiled kernels on GPUs, each in a process of its own that may die without harm.

It needs the standard library, numpy, torch, and cuda-bindings or CuPy; nothing else of the suite's
dependencies, so it also runs where kernels only arrive as files::

    with GpuRunner(gpus=[0]) as runner:
        runner.info                                     # GpuInfo: model, arch, properties, versions
        ceilings = ceilings_of({**runner.info.properties, "fp32_lanes_per_sm": 64})
        runner.baseline(operator)                       # GpuBaseline: the vendor's best path, raced once
        jobs = [Job(operator, program, tolerance=2e-5, executed_flops=1e9)]
        runner.measure(jobs, ceilings, on_result=keep)  # one Measurement per job, in order

Whatever a kernel does, its job is answered with one `Measurement`: a kernel that never ends gets the error
``timeout`` at the deadline, one that breaks the GPU's context ``crash``; a fresh process serves the next one.
`UserError` says what cannot work at all: no GPU, no driver, no torch for it, a taken or full GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wpk_envs.core import Measurement, Operator
from wpk_envs.devices.ceilings import Ceilings
from wpk_envs.devices.cuda.gpu import PROTOCOLS, GpuInfo, Protocol
from wpk_envs.devices.cuda.jobs import GpuBaseline, Job, MeasureJob
from wpk_envs.devices.failures import NO_MEMORY, as_measurement
from wpk_envs.devices.host import available_cores
from wpk_envs.devices.messages import Failure, RaceBaselines, Refusal, Start
from wpk_envs.devices.pool import WorkerPool
from wpk_envs.errors import UserError, unknown

TORCH_GPU = "wpk_envs.devices.cuda.torch_gpu:TorchGpu"
SERVER = "wpk_envs.devices.cuda.server:GpuServer"

DEADLINE_SECONDS = 20.0
RACE_SECONDS = 300.0

OnResult = Callable[[int, Measurement], None]


class GpuRunner:
    """Measures jobs on one or more GPUs of the same model; processes start when they are needed.

    Args:
        gpus: Numbers of the GPUs, from 0; each gets a process.
        protocol: How samples are taken, ``"cold"`` or ``"hot"``, see `wpk_envs.devices.cuda.timing`. Medians by
            the other one are in every measurement's details.
        tf32: Whether the vendor's paths are raced in TF32 as well; the best is in the details, never the baseline.
        deadline: Seconds that checking and timing one kernel may take.
        gpu: The class of `wpk_envs.devices.cuda.gpu.Gpu` to use, as ``module:Class``.

    Raises:
        UserError: For settings that are not allowed.
    """

    def __init__(
        self,
        gpus: Sequence[int] = (0,),
        protocol: Protocol = "cold",
        tf32: bool = False,
        deadline: float = DEADLINE_SECONDS,
        gpu: str = TORCH_GPU,
    ) -> None:
        check_settings(gpus, protocol, deadline)
        self.deadline = deadline
        self.pool = WorkerPool(
            [
                Start(
                    SERVER,
                    {"gpu": gpu, "index": index, "protocol": protocol, "tf32": tf32},
                    threads=available_cores(),
                    lasting=True,
                )
                for index in gpus
            ]
        )
        self._info: GpuInfo | None = None
        self._baselines: dict[Operator, GpuBaseline] = {}

    @property
    def info(self) -> GpuInfo:
        """What the GPUs are, all alike; the first access waits for their processes.

        Raises:
            UserError: If one cannot be used, or is of another model.
        """
        if self._info is None:
            self.pool.wait_for_all()
            self._info = self.pool.info
        return self._info

    def baseline(self, operator: Operator, seconds: float = RACE_SECONDS) -> GpuBaseline:
        """The vendor's best path for an operator, raced once.

        Args:
            operator: What to race for.
            seconds: Deadline of the race.

        Raises:
            UserError: If torch has no kernels for this GPU (`GpuInfo.no_vendor`), the operator is too large for it,
                or no library computes it.
            RuntimeError: If no path is right.
        """
        if operator not in self._baselines:
            (reply,) = self.pool.run([RaceBaselines(operator)], seconds)
            self._baselines[operator] = _raced(reply, operator)
        return self._baselines[operator]

    def knows(self, operator: Operator) -> bool:
        """Whether an operator's baseline is known."""
        return operator in self._baselines

    def learn(self, other: GpuRunner) -> None:
        """Take over the baselines that another runner on the same GPUs has raced."""
        self._baselines.update(other._baselines)

    def request(self, job: Job, ceilings: Ceilings, repeats: int | None = None) -> MeasureJob:
        """What a process is asked for a job; races its operator's baseline first if that is not known.

        Raises:
            UserError: As `baseline`, but where there is no vendor library, kernels are measured without one.
        """
        if self.info.no_vendor:
            return MeasureJob(job, "", ceilings, repeats)
        baseline = self.baseline(job.operator)
        return MeasureJob(job, baseline.name, ceilings, repeats, baseline.details())

    def measure(
        self, jobs: Sequence[Job], ceilings: Ceilings, on_result: OnResult | None = None, repeats: int | None = None
    ) -> list[Measurement]:
        """Check and time every job, in order.

        Args:
            jobs: What to measure.
            ceilings: What the GPU cannot exceed, see `wpk_envs.devices.cuda.jobs.ceilings_of`.
            on_result: Called with (position, measurement) as soon as each is known.
            repeats: Pairs of samples; adaptive if none.

        Raises:
            UserError: If the GPU cannot be used, or as `baseline`.
        """
        requests = [self.request(job, ceilings, repeats) for job in jobs]

        def hand_over(position: int, reply: Any) -> None:
            if on_result is not None:
                on_result(position, as_measurement(reply, self.deadline, jobs[position].build_seconds))

        replies = self.pool.run(requests, self.deadline, hand_over)
        return [as_measurement(reply, self.deadline, job.build_seconds) for reply, job in zip(replies, jobs)]

    def close(self) -> None:
        """End the processes; safe to call twice."""
        self.pool.close()

    def __enter__(self) -> GpuRunner:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _raced(reply: Any, operator: Operator) -> GpuBaseline:
    if isinstance(reply, Refusal):
        raise UserError(reply.message)
    if isinstance(reply, Failure):
        sentence = f"the baseline of {operator.label} cannot be measured: {reply.message}"
        if reply.error == "timeout" or NO_MEMORY in reply.message:
            raise UserError(f"{sentence}; choose a smaller operator or a GPU with more free memory")
        raise RuntimeError(sentence)
    assert isinstance(reply, GpuBaseline)
    return reply


def check_settings(gpus: Sequence[int], protocol: str, deadline: float) -> None:
    """Raise `UserError` for settings that are not allowed; see `GpuRunner`."""
    numbers = isinstance(gpus, Sequence) and all(isinstance(each, int) and each >= 0 for each in gpus)
    if not numbers or not gpus or len(set(gpus)) < len(gpus):
        raise UserError(f"device.gpus must be a list of different GPU numbers from 0, such as [0,1], not {gpus}")
    if protocol not in PROTOCOLS:
        raise unknown("device.protocol", protocol, PROTOCOLS)
    if not deadline > 0:
        raise UserError(f"device.deadline must be greater than 0, not {deadline}")
