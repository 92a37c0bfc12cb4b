"""The baseline of an operator: the vendor library's fastest path that is correct."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from wpk_envs.core import Operator
from wpk_envs.devices.checking import relative_error
from wpk_envs.devices.timing import estimate_seconds, interleave

if TYPE_CHECKING:
    from wpk_envs.vendors.path import VendorPath

TOLERANCE = 1e-4
"""Largest accepted error relative to the reference's largest magnitude: any float32 algorithm passes,
16-bit or TF32 arithmetic does not."""

HEAT_ROUNDS, HEAT_FACTOR, FINAL_ROUNDS = 3, 1.3, 12
"""Every path is timed a few times; those near the fastest then meet again."""


@dataclass(frozen=True)
class Baseline:
    """The outcome of a race between all of a vendor's paths for one operator.

    Attributes:
        name: The fastest path.
        latency_us: Its median latency in microseconds.
        plain_name: What a user of torch gets without doing anything for it.
        plain_latency_us: Its median latency.
        latencies_us: Median latency of every path by name.
        dropped: Paths that gave wrong results, and by how much, in a sentence.
    """

    name: str
    latency_us: float
    plain_name: str
    plain_latency_us: float
    latencies_us: Mapping[str, float] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)


def race(operator: Operator, threads: int = 1) -> Baseline:
    """Check and time every path of torch's oneDNN and MKL (imports torch).

    Raises:
        UserError: If the library has no path for this kind of operator.
        RuntimeError: If no path is correct.
    """
    import torch

    from wpk_envs.vendors.onednn import paths

    inputs = operator.random_inputs(np.random.default_rng())
    with torch.inference_mode():
        found = paths(operator, inputs, threads)
        right, dropped = correct(found, operator, operator.reference(inputs))
        return ranked(right, dropped, _latencies(right, threads))


def correct(
    found: Sequence[VendorPath], operator: Operator, reference: np.ndarray, tolerance: float = TOLERANCE
) -> tuple[list[VendorPath], dict[str, str]]:
    """The paths that give the right result, and what is wrong with the others by name.

    Raises:
        RuntimeError: If none is right.
    """
    errors = {path.name: relative_error(path.output(), reference) for path in found}
    right = [path for path in found if errors[path.name] <= tolerance]
    dropped = {
        name: f"vendor path '{name}' is wrong by {error:.1e} of the largest magnitude (accepted: {tolerance:.0e})"
        for name, error in errors.items()
        if not error <= tolerance
    }
    if not right:
        raise RuntimeError(f"no vendor path computes {operator.label}: {'; '.join(dropped.values()) or 'none runs'}")
    return right, dropped


def ranked(right: Sequence[VendorPath], dropped: Mapping[str, str], latencies: Mapping[str, float]) -> Baseline:
    """The outcome of a race; the first path is the plain one."""
    best, plain = min(latencies, key=latencies.__getitem__), right[0].name
    return Baseline(best, latencies[best], plain, latencies[plain], latencies, dropped)


def finalists(paths: Sequence[VendorPath], medians: Mapping[str, float]) -> list[VendorPath]:
    """The paths that meet again: those near the fastest, and the plain one."""
    bar = HEAT_FACTOR * min(medians.values())
    return [path for path in paths if medians[path.name] <= bar or path is paths[0]]


def _latencies(paths: Sequence[VendorPath], threads: int) -> dict[str, float]:
    """Median latency of every path in microseconds, the fast ones timed more often."""
    estimates = {path.name: estimate_seconds(path.run, threads) for path in paths}
    heat = interleave([path.run for path in paths], list(estimates.values()), HEAT_ROUNDS, threads)
    medians = {path.name: statistics.median(samples) for path, samples in zip(paths, heat)}
    final = finalists(paths, medians)
    again = interleave([path.run for path in final], [estimates[path.name] for path in final], FINAL_ROUNDS, threads)
    return medians | {path.name: statistics.median(samples) for path, samples in zip(final, again)}
