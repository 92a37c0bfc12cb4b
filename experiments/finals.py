"""The end of a run: the best schedules measured again, in new processes and with more repeats.

What is predicted or replayed needs no second time: there the best trial's answer is final.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wpk_envs.core import Candidate, Device, Measurement, Operator
from wpk_envs.tuning import Trial, TuningProblem

FINALISTS = 3
FINAL_REPEATS = 60
CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Final:
    """The winner of a run and the measurement that its figures are reported from."""

    trial: Trial
    candidate: Candidate
    measurement: Measurement


def remeasure(problem: TuningProblem, search: Mapping[str, Any] | None = None) -> Final | None:
    """Measure the best few trials in new processes, then the winner alone with more repeats.

    The winner's record tells in its details what search found it, and how plain torch did.

    Args:
        problem: A problem whose search is over.
        search: What is known of the search, as plain data.

    Returns:
        The winner, on a device that predicts or replays as it was found; none if no trial succeeded, or none again.
    """
    if problem.device.predicts or problem.device.replays:
        return unrepeated(problem)
    finalists = _best(problem)
    if not finalists:
        return None
    device = problem.device.fresh()
    try:
        candidates = [problem.space.candidate(trial.vector) for trial in finalists]
        again = device.measure(candidates, lambda place, answer: problem.record(candidates[place], answer))
        order = sorted(range(len(finalists)), key=lambda place: -problem.reward(again[place]))
        return next(filter(None, (_final(problem, device, finalists[p], again[p], search or {}) for p in order)), None)
    finally:
        if device is not problem.device:
            device.close()


def unrepeated(problem: TuningProblem) -> Final | None:
    """The best trial with its measurement from the search: for runs that were interrupted, predict or replay."""
    if problem.best is None:
        return None
    trial = problem.best
    return Final(trial, problem.space.candidate(trial.vector), trial.measurement)


def _best(problem: TuningProblem) -> list[Trial]:
    good = [trial for trial in problem.trials if trial.measurement.error is None]
    return sorted(good, key=lambda trial: -problem.reward(trial.measurement))[:FINALISTS]


def _final(
    problem: TuningProblem, device: Device, trial: Trial, again: Measurement, search: Mapping[str, Any]
) -> Final | None:
    if again.error is not None:
        return None
    candidate = problem.space.candidate(trial.vector)
    plain = plain_torch(device, candidate.operator) if again.baseline_us else {}  # no baseline: nothing was raced
    details = {"search": dict(search), "plain_torch": plain}
    (measurement,) = measure_finals(device, [(candidate, details)])
    problem.record(candidate, measurement)
    return None if measurement.error is not None else Final(trial, candidate, measurement)


def measure_finals(device: Device, wanted: Sequence[tuple[Candidate, Mapping[str, Any]]]) -> list[Measurement]:
    """Measure candidates with as many repeats as final results have, and add to what is known of those that work."""
    found = device.measure([candidate for candidate, _ in wanted], repeats=FINAL_REPEATS)
    return [
        each if each.error is not None else replace(each, details={**each.details, **details})
        for each, (_, details) in zip(found, wanted)
    ]


def plain_torch(device: Device, operator: Operator) -> dict[str, Any]:
    """How plain torch did in the race for the baseline, and the baseline there; empty if the device has no race."""
    race = getattr(device, "baseline", None)
    if race is None:
        return {}
    found = race(operator)
    return {"name": found.plain_name, "us": found.plain_latency_us, "baseline_us": found.latency_us}


def median_interval(samples: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95% bootstrap interval (percentile method) of the samples' median."""
    if len(set(samples)) < 2:
        return samples[0], samples[0]
    from scipy import stats

    result = stats.bootstrap(
        (np.asarray(samples),),
        np.median,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def quotient_interval(above: Sequence[float], below: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95% bootstrap interval (percentile method) of a quotient of the medians of independent samples."""
    from scipy import stats

    result = stats.bootstrap(
        (np.asarray(above), np.asarray(below)),
        lambda a, b, axis: np.median(a, axis=axis) / np.median(b, axis=axis),
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def ratios(measurement: Measurement) -> list[float]:
    """The speedup of every pair: a baseline sample over the candidate's sample beside it."""
    return [base / own for base, own in zip(measurement.baseline_us, measurement.samples_us)]


def geomean(values: Sequence[float]) -> float | None:
    """The geometric mean; none of nothing."""
    return statistics.geometric_mean(values) if values else None
