"""What a worker does with one candidate: build it, check it against the reference, time it."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wpk_envs.core import Candidate, DeviceInfo, Kernel, Measurement, Operator
from wpk_envs.devices.baseline import relative_error
from wpk_envs.devices.failures import failure
from wpk_envs.devices.messages import Failure, MeasureCandidate
from wpk_envs.devices.timing import time_pair

REDRAW_EVERY = 8
"""Inputs are drawn anew, from the system's entropy, after this many candidates of an operator."""

REMEMBERED = 4
"""Operators whose inputs and bound baselines a worker keeps."""


class CandidateError(Exception):
    """A candidate that failed, how, and by how much its result was wrong if it gave one."""

    def __init__(self, failure: Failure, max_error: float | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.max_error = max_error


class Workbench:
    """Measures candidates one after the other in this process.

    Args:
        info: The device that schedules are made for.
    """

    def __init__(self, info: DeviceInfo) -> None:
        self.info = info
        self._examples: dict[Operator, Example] = {}
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

        inputs, reference = self._example(candidate.operator)
        *arguments, output = kernel.arguments
        try:
            tensors = [tvm_adapter.to_tensor(argument.pack(inputs[argument.name])) for argument in arguments]
            result = tvm_adapter.to_tensor(np.full(output.shape, np.nan, dtype=np.float32))
            call = functools.partial(function, *tensors, result)
            call()
            got = output.pack(result.numpy())
        except Exception as error:
            raise CandidateError(failure(error, "crash")) from error
        error_size = relative_error(got, reference)
        if not error_size <= candidate.template.tolerance:
            wrong = _wrong(got, reference, candidate.template.tolerance)
            raise CandidateError(Failure("wrong_result", wrong), error_size)
        return call, error_size

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

    def _example(self, operator: Operator) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        example = self._examples.pop(operator, None)
        if example is None or example.uses >= REDRAW_EVERY:
            example = Example(operator)
        self._examples[operator] = example  # the latest used is the last
        while len(self._examples) > REMEMBERED:
            del self._examples[next(iter(self._examples))]
        example.uses += 1
        return example.inputs, example.reference

    def _bind_baseline(self, operator: Operator, name: str) -> Callable[[], Any]:
        from wpk_envs.vendors.onednn import paths

        inputs = operator.random_inputs(np.random.default_rng())
        (path,) = paths(operator, inputs, self.info.threads, only=name)
        return path.run


class Example:
    """Random inputs of an operator and their float64 result."""

    def __init__(self, operator: Operator) -> None:
        self.inputs = operator.random_inputs(np.random.default_rng())
        self.reference = operator.reference(self.inputs)
        self.uses = 0


def _wrong(got: np.ndarray, reference: np.ndarray, tolerance: float) -> str:
    """What is wrong with an output, in a sentence."""
    if got.shape != reference.shape:
        return f"the output has shape {list(got.shape)} instead of {list(reference.shape)}"
    holes = np.count_nonzero(~np.isfinite(got))
    if holes:
        return f"{holes} of {got.size} output elements were never written or are not finite"
    error = relative_error(got, reference)
    return f"the output is wrong by {error:.1e} of the largest magnitude (accepted: {tolerance:.0e})"
