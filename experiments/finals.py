"""The end of a run: the best schedules measured again, in new processes and with more repeats.

What is predicted or replayed needs no second time: there the best trial's answer is final.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpk_envs.core import Candidate, Device, Measurement
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


def remeasure(problem: TuningProblem) -> Final | None:
    """Measure the best few trials in new processes, then the winner alone with more repeats.

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
        return next(filter(None, (_final(problem, device, finalists[p], again[p]) for p in order)), None)
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


def _final(problem: TuningProblem, device: Device, trial: Trial, again: Measurement) -> Final | None:
    if again.error is not None:
        return None
    candidate = problem.space.candidate(trial.vector)
    measurement = device.measure([candidate], repeats=FINAL_REPEATS)[0]
    problem.record(candidate, measurement)
    return None if measurement.error is not None else Final(trial, candidate, measurement)


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


def ratios(measurement: Measurement) -> list[float]:
    """The speedup of every pair: a baseline sample over the candidate's sample beside it."""
    return [base / own for base, own in zip(measurement.baseline_us, measurement.samples_us)]


def geomean(values: Sequence[float]) -> float | None:
    """The geometric mean; none of nothing."""
    return statistics.geometric_mean(values) if values else None
