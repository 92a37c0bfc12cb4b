"""Random inputs, their float64 result, and what is wrong with an output that differs from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wpk_envs.core import Operator
from wpk_envs.devices.messages import Failure

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


class Example:
    """Random inputs of an operator and their float64 result."""

    def __init__(self, operator: Operator) -> None:
        self.inputs = operator.random_inputs(np.random.default_rng())
        self.reference = operator.reference(self.inputs)
        self.uses = 0


class Examples:
    """The latest operators' examples, drawn anew after some uses."""

    def __init__(self) -> None:
        self._latest: dict[Operator, Example] = {}

    def of(self, operator: Operator) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """Inputs by name and their float64 result."""
        example = self._latest.pop(operator, None)
        if example is None or example.uses >= REDRAW_EVERY:
            example = Example(operator)
        self._latest[operator] = example  # the latest used is the last
        while len(self._latest) > REMEMBERED:
            del self._latest[next(iter(self._latest))]
        example.uses += 1
        return example.inputs, example.reference


def relative_error(output: np.ndarray, reference: np.ndarray) -> float:
    """Largest deviation relative to the reference's largest magnitude; infinite for NaN or another shape."""
    if output.shape != reference.shape:
        return float("inf")
    scale = float(np.abs(reference).max()) or 1.0
    error = float(np.abs(output - reference).max()) / scale
    return error if np.isfinite(error) else float("inf")


def checked_error(got: np.ndarray, reference: np.ndarray, tolerance: float) -> float:
    """The relative error of an output that is right.

    Raises:
        CandidateError: If it is wrong.
    """
    error = relative_error(got, reference)
    if not error <= tolerance:
        raise CandidateError(Failure("wrong_result", _wrong(got, reference, tolerance)), error)
    return error


def _wrong(got: np.ndarray, reference: np.ndarray, tolerance: float) -> str:
    """What is wrong with an output, in a sentence."""
    if got.shape != reference.shape:
        return f"the output has shape {list(got.shape)} instead of {list(reference.shape)}"
    holes = np.count_nonzero(~np.isfinite(got))
    if holes:
        return f"{holes} of {got.size} output elements were never written or are not finite"
    error = relative_error(got, reference)
    return f"the output is wrong by {error:.1e} of the largest magnitude (accepted: {tolerance:.0e})"
