"""Whether a plan computes what the framework does, and which of its steps err by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpk_envs.planner import layouts
from wpk_envs.planner.assembly import CONVERT, Assembly
from wpk_envs.planner.operations import evaluate
from wpk_envs.planner.program import Program


@dataclass(frozen=True)
class StepError:
    """How far a step's outputs are from what torch computes of the same inputs.

    Attributes:
        step: Name of the node.
        label: Of its implementation.
        error: Largest deviation relative to the output's largest magnitude.
    """

    step: str
    label: str
    error: float


def max_abs_error(got: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """The largest deviation of any output; infinite for NaN, another shape or another number of outputs.

    The same infinity in both is no deviation.
    """
    if [each.shape for each in got] != [each.shape for each in wanted]:
        return float("inf")
    errors = [_deviation(one.astype(np.float64), other.astype(np.float64)) for one, other in zip(got, wanted)]
    return max(errors, default=0.0)


def _deviation(one: np.ndarray, other: np.ndarray) -> float:
    differs = one != other
    error = float(np.abs(one[differs] - other[differs]).max(initial=0.0))
    return float("inf") if np.isnan(error) else error


def step_errors(assembly: Assembly, program: Program, inputs: Sequence[np.ndarray]) -> list[StepError]:
    """Run a program step by step beside torch, each step of the inputs that it really gets; the worst first.

    Args:
        assembly: What the program was made of.
        program: It.
        inputs: For the graph's inputs.
    """
    import torch

    graph, errors = assembly.graph, []
    for buffer, given in zip(program.inputs, inputs):
        program.runtime.fill(buffer, given)
    for step, call in zip(assembly.steps, program.calls):
        activations = iter([_canonical(assembly, program, name) for name in step.inputs])
        read = [graph.constants[name] if name in graph.constants else next(activations) for name in step.node.inputs]
        call()
        if step.node.op == CONVERT:
            continue
        with torch.inference_mode():
            wanted = [each.numpy() for each in evaluate(step.node, [torch.from_numpy(each) for each in read])]
        got = [_canonical(assembly, program, name) for name in step.outputs]
        scale = max((magnitude(each) for each in wanted), default=0.0) or 1.0
        errors.append(StepError(step.node.name, step.implementation.label, max_abs_error(got, wanted) / scale))
    return sorted(errors, key=lambda each: -each.error)


def magnitude(array: np.ndarray) -> float:
    """The largest absolute value that is finite."""
    return float(np.abs(array.astype(np.float64)[np.isfinite(array)]).max(initial=0.0))


def _canonical(assembly: Assembly, program: Program, name: str) -> np.ndarray:
    """A copy of a buffer's tensor in the canonical layout: the buffer may be written again."""
    buffer, array = assembly.buffers[name], program.runtime.read(program.buffers[name])
    return np.ascontiguousarray(layouts.from_buffer(array, buffer.layout, buffer.tensor.shape))
