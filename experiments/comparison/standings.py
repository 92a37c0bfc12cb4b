"""What a comparison found, as plain data: the figures of ``summary.json``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.comparison import statistics
from experiments.comparison.scores import Scores
from experiments.comparison.statistics import Estimates

ALIKE = 0.0005
"""Fractions of the best known speedup that are no further apart are alike: in percent they read the same."""

THRESHOLDS = (0.8, 0.9, 0.95, 0.99)
"""Fractions of the best known speedup that the summary's performance profiles are given at."""


def standings(scores: Scores, points: Sequence[int]) -> dict[str, Any]:
    """All figures of a comparison.

    Args:
        scores: The runs.
        points: Trials to report at, in order.

    Returns:
        Plain data: ``agents``, ``over_seconds``, ``operators``, ``improvement``, ``ranks`` and ``profiles``, where a
        number of trials (or seconds) is a key, it is one as text; what there is not is null.
    """
    reached = scores.at_trials(points)
    trials_to = scores.trials_to()
    return {
        "agents": _agents(scores.algos, reached, trials_to, points),
        "over_seconds": _over_seconds(scores),
        "operators": _operators(scores, reached, trials_to, points),
        "improvement": {str(point): _improvement(scores.algos, reached[..., p]) for p, point in enumerate(points)},
        "ranks": {str(point): _ranks(scores.algos, reached[..., p]) for p, point in enumerate(points)},
        "profiles": _profiles(scores.algos, reached[..., -1], points[-1]),
    }


def _agents(
    algos: Sequence[str], reached: np.ndarray, times: np.ndarray, points: Sequence[int], key: str = "trials_to_95"
) -> dict[str, Any]:
    """IQM with interval by agent and point, and the median time to 95% within so many trials or seconds."""
    estimates = [statistics.iqm(each) for each in reached]
    bars = _bars(estimates)
    table: dict[str, Any] = {}
    for algo, estimate, time in zip(algos, estimates, times):
        table[algo] = {
            str(point): {**figure, key: statistics.median(np.where(time > point, np.inf, time)), "tied_with_best": tied}
            for point, figure, tied in zip(points, _plain(estimate), _tied(estimate, bars))
        }
    return table


def _bars(estimates: Sequence[Estimates]) -> np.ndarray:
    """The lower bound of the best agent's interval at every point."""
    values = np.array([each.value for each in estimates])
    best = np.where(np.isnan(values), -np.inf, values).argmax(0)
    lows = np.array([each.low for each in estimates])
    return lows[best, np.arange(lows.shape[1])]


def _tied(estimate: Estimates, bars: np.ndarray) -> list[bool | None]:
    """Whether an interval reaches into the best agent's, or is as good as that."""
    known = ~np.isnan(bars) & ~np.isnan(estimate.high)
    return [bool(high >= bar - ALIKE) if sure else None for high, bar, sure in zip(estimate.high, bars, known)]


def _plain(estimate: Estimates, name: str = "iqm") -> list[dict[str, float | None]]:
    figures = zip(estimate.value, estimate.low, estimate.high)
    return [{name: _number(value), "low": _number(low), "high": _number(high)} for value, low, high in figures]


def _over_seconds(scores: Scores) -> dict[str, Any]:
    points = scores.seconds_points()
    if not points:
        return {}
    return _agents(scores.algos, scores.at_seconds(points), scores.seconds_to(), points, "seconds_to_95")


def _operators(scores: Scores, reached: np.ndarray, trials_to: np.ndarray, points: Sequence[int]) -> dict[str, Any]:
    """By operator: what is known to be possible, and what every agent reached."""
    table: dict[str, Any] = {}
    for o, op in enumerate(scores.ops):
        figures = {
            algo: {
                "iqm": {
                    str(point): _number(value) for point, value in zip(points, statistics.iqm_of_seeds(reached[a, o]))
                },
                "trials_to_95": statistics.median(trials_to[a, o]),
            }
            for a, algo in enumerate(scores.algos)
        }
        table[op] = {"best_known_speedup": scores.best_known[op], "agents": figures}
    return table


def _improvement(algos: Sequence[str], reached: np.ndarray) -> dict[str, Any]:
    """Probability that a run of the first agent beats one of the second, ``{first: {second: figures}}``."""
    table: dict[str, Any] = {algo: {} for algo in algos}
    for (a, first), (b, second) in itertools.combinations(enumerate(algos), 2):
        (figures,) = _plain(statistics.improvement(reached[a], reached[b]), "probability")
        table[first][second] = figures
        other = {key: None if value is None else 1 - value for key, value in figures.items()}
        table[second][first] = {"probability": other["probability"], "low": other["high"], "high": other["low"]}
    return table


def _ranks(algos: Sequence[str], reached: np.ndarray) -> dict[str, Any]:
    by_operator = np.array([[statistics.iqm_of_seeds(op[:, None])[0] for op in agent] for agent in reached])
    ranks, p_value = statistics.mean_ranks(by_operator)
    return {"mean_rank": dict(zip(algos, map(_number, ranks))), "friedman_p": p_value}


def _profiles(algos: Sequence[str], reached: np.ndarray, point: int) -> dict[str, Any]:
    """Share of the runs that reach fractions of the best known speedup, at the end."""
    shares = {algo: statistics.share_reaching(each, THRESHOLDS) for algo, each in zip(algos, reached)}
    figures = {algo: dict(zip(map(str, THRESHOLDS), _plain(share, "share"))) for algo, share in shares.items()}
    return {"trials": point, "share_reaching": figures}


def last_point(agents: Mapping[str, Any]) -> str:
    """The last point that agents are reported at."""
    return next(reversed(next(iter(agents.values()))))


def ordered(agents: Mapping[str, Any]) -> list[str]:
    """Labels of the agents, the best at the last point first; of equals the one that was better before."""
    return sorted(agents, key=lambda algo: [-_or_less(each["iqm"]) for each in reversed(agents[algo].values())])


def _or_less(value: float | None) -> float:
    return -math.inf if value is None else value


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
