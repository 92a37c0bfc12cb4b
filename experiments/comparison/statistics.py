"""The statistics of a comparison, after Agarwal et al. (arXiv 2108.13264), by SciPy.

Scores have the axes operators, seeds, points, NaN where a run is missing. Operators are the strata: an interval says
how much the figure depends on the seeds, for these operators.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
PAIR_RESAMPLES = 1000
"""Of the many intervals between two agents."""


@dataclass(frozen=True)
class Estimates:
    """A figure at every point with its 95% bootstrap interval; the bounds are NaN where there is one seed only.

    Attributes:
        value: ``float[points]``.
        low: Lower bounds.
        high: Upper bounds.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(scores: np.ndarray, resamples: int = RESAMPLES) -> Estimates:
    """Interquartile mean over all runs, with a stratified bootstrap interval.

    Args:
        scores: ``float[ops, seeds, points]`` of one agent.
        resamples: Of the bootstrap.
    """
    from scipy import stats

    def mean(*samples: np.ndarray, axis: int) -> Any:
        return stats.trim_mean(np.concatenate(samples, axis), 0.25, axis=axis)

    return _bootstrapped(_strata(scores), mean, resamples, scores.shape[-1])


def iqm_of_seeds(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean of one agent's runs on one operator, ``float[seeds, points]`` to ``float[points]``."""
    from scipy import stats

    present = scores[~np.isnan(scores).any(-1)]
    return stats.trim_mean(present, 0.25, axis=0) if len(present) else np.full(scores.shape[-1], np.nan)


def share_reaching(
    scores: np.ndarray, thresholds: Sequence[float] | np.ndarray, resamples: int = RESAMPLES
) -> Estimates:
    """A performance profile: the share of the runs that reach each threshold.

    Args:
        scores: ``float[ops, seeds]`` of one agent.
        thresholds: The thresholds, which are the points of the result.
        resamples: Of the bootstrap.
    """

    def mean(*samples: np.ndarray, axis: int) -> Any:
        return np.concatenate(samples, axis).mean(axis)

    reach = np.where(np.isnan(scores)[..., None], np.nan, scores[..., None] >= np.asarray(thresholds))
    return _bootstrapped(_strata(reach), mean, resamples, len(thresholds))


def improvement(first: np.ndarray, second: np.ndarray, resamples: int = PAIR_RESAMPLES) -> Estimates:
    """Probability that a run of one agent beats one of another on the same operator, averaged over the operators.

    Ties count one half, so this is the Mann-Whitney statistic over the number of pairs.

    Args:
        first: ``float[ops, seeds]``.
        second: The other's, of the same shape.
        resamples: Of the bootstrap.

    Returns:
        Estimates of one point.
    """
    strata = zip(_strata(first[..., None], all_ops=True), _strata(second[..., None], all_ops=True))
    both = [pair for pair in strata if pair[0].size and pair[1].size]

    def mean(*samples: np.ndarray, axis: int) -> Any:
        halves = zip(samples[::2], samples[1::2])
        return np.mean([_wins(a[..., :, None], b[..., None, :]) for a, b in halves], axis=0)

    return _bootstrapped([each for pair in both for each in pair], mean, resamples, 1)


def _wins(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    pairs = first.shape[-2] * second.shape[-1]
    return (np.count_nonzero(first > second, (-2, -1)) + np.count_nonzero(first >= second, (-2, -1))) / (2 * pairs)


def mean_ranks(scores: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Mean rank of every agent over the operators, 1 the best, and the p-value of Friedman's test.

    Args:
        scores: ``float[agents, ops]``, one figure for each.

    Returns:
        ``float[agents]``, and the probability of ranks as unlike as these if all agents were alike; none for less
        than three agents or two operators.
    """
    from scipy import stats

    whole = scores[:, ~np.isnan(scores).any(0)]
    if not whole.size:
        return np.full(len(scores), np.nan), None
    ranks = stats.rankdata(-whole, axis=0).mean(1)
    if len(whole) < 3 or whole.shape[1] < 2 or (whole == whole[0]).all():
        return ranks, None
    return ranks, float(stats.friedmanchisquare(*whole).pvalue)


def median(values: np.ndarray) -> float | None:
    """The median of all numbers that are there; none if there are none or it is infinite."""
    present = values[~np.isnan(values)]
    middle = float(np.median(present)) if present.size else np.inf
    return middle if np.isfinite(middle) else None


def _strata(scores: np.ndarray, all_ops: bool = False) -> list[np.ndarray]:
    """The runs of every operator, ``float[points, runs]``; operators without any are left out."""
    strata = [each[~np.isnan(each).any(-1)].T for each in scores]
    return [each for each in strata if each.size or all_ops]


def _bootstrapped(samples: list[np.ndarray], statistic: Callable[..., Any], resamples: int, points: int) -> Estimates:
    """A statistic of independent samples, each resampled by itself: a stratified bootstrap."""
    from scipy import stats

    if not samples:
        nothing = np.full(points, np.nan)
        return Estimates(nothing, nothing, nothing)
    value = np.asarray(statistic(*samples, axis=-1))
    if min(each.shape[-1] for each in samples) < 2:
        return Estimates(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # of runs that are all alike
        found = stats.bootstrap(
            samples,
            statistic,
            confidence_level=CONFIDENCE,
            n_resamples=resamples,
            method="percentile",
            axis=-1,
            random_state=np.random.default_rng(0),
        ).confidence_interval
    return Estimates(value, np.asarray(found.low), np.asarray(found.high))
