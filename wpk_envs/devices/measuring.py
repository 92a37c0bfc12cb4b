"""What a worker does with one candidate: build it, check it against the reference, time it."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from wpk_envs.core import Candidate, DeviceInfo, Kernel, Measurement, Operator
from wpk_envs.devices.checking import REMEMBERED, CandidateError, Examples, checked_error
from wpk_envs.devices.failures import failure
from wpk_envs.devices.messages import Failure, MeasureCandidate
from wpk_envs.devices.timing import time_pair


class Workbench:
    """Measures candidates one after the other in this process.

    Args:
        info: The device that schedules are made for.
    """

    def __init__(self, info: DeviceInfo) -> None:
        self.info = info
        self._examples = Examples()
        self._baseline = functools.lru_cache(maxsize=REMEMBERED)(self._bind_baseline)

    def measure(self, request: MeasureCandidate) -> Measurement:
        """Build, check and time a candidate; whatever it raises becomes a typed error."""
        started = time.perf_counter()
        built = started
        try:
            kernel, function = self._build(request.candidate)
            built = time.perf_counter()
            call, max_error = self._check(request.candidate, kernel, function)
            samples, baseline = self._time(request, call, max_error)
        except CandidateError as error:
            ended = time.perf_counter()
            build_seconds = (built if built > started else ended) - started
            return Measurement(
                error=error.failure.error,
                message=error.failure.message,
                max_error=error.max_error,
                build_seconds=build_seconds,
                measure_seconds=ended - started - build_seconds,
            )
        return Measurement(
            samples_us=samples,
            baseline_us=baseline,
            baseline_name=request.baseline_name,
            max_error=max_error,
            layouts={argument.name: argument.layout for argument in kernel.arguments},
            build_seconds=built - started,
            measure_seconds=time.perf_counter() - built,
        )

    def _build(self, candidate: Candidate) -> tuple[Kernel, Callable[..., Any]]:
        from wpk_envs import tvm_adapter

        try:
            kernel = candidate.template.kernel(candidate.operator, candidate.config, self.info)
            return kernel, tvm_adapter.compile_cpu(kernel.module, self.info.target)
        except Exception as error:
            raise CandidateError(failure(error, "compile")) from error

    def _check(
        self, candidate: Candidate, kernel: Kernel, function: Callable[..., Any]
    ) -> tuple[Callable[[], Any], float]:
        """Run once on a poisoned output and compare; the bound call and its error."""
        from wpk_envs import tvm_adapter

        inputs, reference = self._examples.of(candidate.operator)
        *arguments, output = kernel.arguments
        try:
            tensors = [tvm_adapter.to_tensor(argument.pack(inputs[argument.name])) for argument in arguments]
            result = tvm_adapter.to_tensor(np.full(output.shape, np.nan, dtype=np.float32))
            call = functools.partial(function, *tensors, result)
            call()
            got = output.pack(result.numpy())
        except Exception as error:
            raise CandidateError(failure(error, "crash")) from error
        return call, checked_error(got, reference, candidate.template.tolerance)

    def _time(
        self, request: MeasureCandidate, call: Callable[[], Any], max_error: float
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        baseline = self._baseline(request.candidate.operator, request.baseline_name)
        try:
            samples, beside = time_pair(call, baseline, self.info.threads, request.repeats)
        except Exception as error:
            raise CandidateError(failure(error, "crash")) from error
        objection = request.ceilings.objection(request.candidate, statistics.median(samples))
        if objection:
            raise CandidateError(Failure("wrong_result", objection), max_error)
        return samples, beside

    def _bind_baseline(self, operator: Operator, name: str) -> Callable[[], Any]:
        from wpk_envs.vendors.onednn import paths

        inputs = operator.random_inputs(np.random.default_rng())
        (path,) = paths(operator, inputs, self.info.threads, only=name)
        return path.run
