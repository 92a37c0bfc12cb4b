"""What a runner does with one compiled kernel: check it on its GPU, and time it beside the vendor's best."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wpk_envs.core import Measurement, Operator
from wpk_envs.devices.checking import REMEMBERED, CandidateError, Examples, checked_error
from wpk_envs.devices.cuda.gpu import Buffer, Call, Gpu, LoadedProgram, Protocol
from wpk_envs.devices.cuda.jobs import Job, MeasureJob
from wpk_envs.devices.cuda.program import Program
from wpk_envs.devices.cuda.timing import Stopwatch, Timed
from wpk_envs.devices.failures import failure
from wpk_envs.devices.messages import Failure
from wpk_envs.errors import UserError

GUARD = 1024
"""Elements before and after every buffer, where a kernel that writes out of bounds is noticed."""

CHECKS = 2
"""Runs that must be right, on the same inputs: the second finds them as the first has left them."""


class GpuBench:
    """Checks and times kernels one after the other on one GPU.

    Use it inside ``torch.inference_mode()``, which spares the baselines torch's autograd.

    Args:
        gpu: The GPU.
        protocol: How samples are taken.
    """

    def __init__(self, gpu: Gpu, protocol: Protocol) -> None:
        self.gpu = gpu
        self.watch = Stopwatch(gpu)
        self._protocol = protocol
        self._examples = Examples()
        self._baseline = functools.lru_cache(maxsize=REMEMBERED)(self._bind_baseline)

    def measure(self, request: MeasureJob) -> Measurement:
        """Check and time a kernel; whatever it raises becomes a typed error.

        Raises:
            UserError: If the kernel is for another architecture.
        """
        started, job = time.perf_counter(), request.job
        try:
            with self._loaded(job.program) as loaded:
                outcome = self._measured(request, loaded)
        except CandidateError as error:
            outcome = {
                "error": error.failure.error,
                "message": error.failure.message,
                "max_error": error.max_error,
                "details": {},
            }
        details = {**job.program.details(), **request.details, **outcome.pop("details")}
        seconds = time.perf_counter() - started
        return Measurement(**outcome, build_seconds=job.build_seconds, measure_seconds=seconds, details=details)

    @contextlib.contextmanager
    def _loaded(self, program: Program) -> Iterator[LoadedProgram]:
        with _crash():
            loaded = self.gpu.load(program)
        try:
            yield loaded
        finally:
            with contextlib.suppress(RuntimeError):  # after an error of the GPU, this process ends anyway
                loaded.unload()

    def _measured(self, request: MeasureJob, loaded: LoadedProgram) -> dict[str, Any]:
        job = request.job
        with _crash():
            inputs, reference = self._examples.of(job.operator)
            buffers = Buffers(self.gpu, job.program, inputs)
            call = loaded.bind(buffers.named)
        max_error = self._check(job, buffers, call, reference)
        baseline = self._baseline(job.operator, request.baseline_name) if request.baseline_name else None
        with _crash():
            timing = self.watch.pair(Timed(self.watch, call), baseline, self._protocol, request.repeats)
            buffers.check_guards()
        latency = statistics.median(timing.samples_us)
        objection = request.ceilings.objection_to(job.executed_flops, job.operator.bytes, latency)
        if objection:
            raise CandidateError(Failure("wrong_result", objection), max_error)
        return {
            "samples_us": timing.samples_us,
            "baseline_us": timing.baseline_us,
            "baseline_name": request.baseline_name,
            "max_error": max_error,
            "layouts": {argument.name: argument.layout for argument in job.program.arguments},
            "details": {**timing.details, **self.gpu.sensors()},
        }

    def _check(self, job: Job, buffers: Buffers, call: Call, reference: np.ndarray) -> float:
        """Run on poisoned outputs and workspaces, more than once, and compare; the largest error."""
        largest = 0.0
        for _ in range(CHECKS):
            with _crash():
                buffers.poison()
                call()
                got = buffers.output()
            buffers.check_guards()
            largest = max(largest, checked_error(got, reference, job.tolerance))
        return largest

    def _bind_baseline(self, operator: Operator, name: str) -> Timed:
        from wpk_envs.vendors.cudnn import paths

        inputs = operator.random_inputs(np.random.default_rng())
        (path,) = paths(operator, inputs, self.gpu.torch_device, only=name)
        return Timed(self.watch, path.run)


class Buffers:
    """The memory of one program: its arguments and workspaces, each between guards.

    Args:
        gpu: Whose memory.
        program: What needs it.
        inputs: Arrays by name, in the operator's canonical layout.

    Raises:
        RuntimeError: If there is not enough.
    """

    def __init__(self, gpu: Gpu, program: Program, inputs: Mapping[str, np.ndarray]) -> None:
        self._gpu = gpu
        *given, self._output = program.arguments
        packed = {argument.name: argument.pack(inputs[argument.name]).reshape(-1) for argument in given}
        sizes = {**program.workspaces, self._output.name: int(np.prod(self._output.shape))}
        self._written = list(sizes)
        guard = np.zeros(GUARD, np.float32)
        self._whole = {name: gpu.upload(np.concatenate([guard, array, guard])) for name, array in packed.items()} | {
            name: gpu.allocate(size + 2 * GUARD) for name, size in sizes.items()
        }
        self.named: dict[str, Buffer] = {name: whole[GUARD:-GUARD] for name, whole in self._whole.items()}

    def poison(self) -> None:
        """Fill outputs, workspaces and all guards with NaN."""
        for name, whole in self._whole.items():
            for part in (whole,) if name in self._written else (whole[:GUARD], whole[-GUARD:]):
                self._gpu.poison(part)

    def output(self) -> np.ndarray:
        """The output in its canonical layout."""
        return self._output.pack(self._gpu.download(self.named[self._output.name]).reshape(self._output.shape))

    def check_guards(self) -> None:
        """Raise `CandidateError` if something was written outside of a buffer."""
        for name, whole in self._whole.items():
            for part, where in ((whole[:GUARD], "before"), (whole[-GUARD:], "behind")):
                if (self._gpu.download(part).view(np.uint32) != np.uint32(0xFFFFFFFF)).any():
                    raise CandidateError(Failure("crash", f"the kernel wrote out of bounds, {where} its buffer {name}"))


@contextlib.contextmanager
def _crash() -> Iterator[None]:
    """Whatever the block raises is a crash of the candidate, but for errors that are typed already."""
    try:
        yield
    except (CandidateError, UserError):
        raise
    except Exception as error:
        raise CandidateError(failure(error, "crash")) from error
