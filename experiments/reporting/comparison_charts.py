"""Charts of a comparison: the best so far, and performance profiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from experiments.comparison import statistics
from experiments.comparison.scores import Scores
from experiments.naming import Naming
from experiments.reporting.charts import Chart, Line
from experiments.reporting.standings import Standing

POINTS = 32
RESAMPLES = 300
"""Of the bands of curves and profiles; the intervals in tables are the comparison's own."""

WIDTH = 760
"""Of the charts, which have many lines."""


def _label(naming: Naming) -> str:
    return f"% of the best known {naming.text('speedup')}"


def curves_of_budgets(standings: Sequence[Standing], budgets: Sequence[str], naming: Naming) -> tuple[Chart, ...]:
    """The best so far over trials, from the reported budgets alone; nothing of a single budget."""
    lines = []
    for row in standings:
        known = [(int(b), row.figures[b]) for b in budgets if b in row.figures and row.figures[b]["iqm"] is not None]
        bands = [(b, 100 * f["low"], 100 * f["high"]) for b, f in known if f["low"] is not None]
        if known:
            lines.append(Line(row.agent, row.style, [(b, 100 * f["iqm"]) for b, f in known], bands))
    return (_over("trials", lines, naming),) if lines and len(budgets) > 1 else ()


def curves_of_runs(
    scores: Scores, standings: Sequence[Standing], budgets: Sequence[str], naming: Naming
) -> tuple[Chart, ...]:
    """The best so far over trials and over seconds, from the single runs."""
    trials = np.unique(np.geomspace(1, max(2, int(budgets[-1])), POINTS).round())
    charts = [_over("trials", _interquartile(scores, standings, trials, scores.at_trials), naming)]
    seconds = scores.seconds_points()
    if len(seconds) > 1:
        grid = np.geomspace(seconds[0], seconds[-1], POINTS)
        charts.append(_over("seconds of search", _interquartile(scores, standings, grid, scores.at_seconds), naming))
    return tuple(charts)


def _interquartile(
    scores: Scores, standings: Sequence[Standing], points: np.ndarray, reached: Callable[..., np.ndarray]
) -> list[Line]:
    values = 100 * reached(points)
    return [_line(row, points, statistics.iqm(values[scores.algos.index(row.agent)], RESAMPLES)) for row in standings]


def _line(row: Standing, points: np.ndarray, found: statistics.Estimates) -> Line:
    value, low, high = (each.tolist() for each in (found.value, found.low, found.high))
    places = points.tolist()
    known = [(x, y) for x, y in zip(places, value) if not math.isnan(y)]
    band = [(x, a, b) for x, a, b in zip(places, low, high) if not math.isnan(a)]
    return Line(row.agent, row.style, known or [(places[0], 0.0)], band)


def _over(x_label: str, lines: Sequence[Line], naming: Naming) -> Chart:
    return Chart(
        title=f"Best {naming.text('speedup')} so far over {x_label}, interquartile mean with 95% band",
        x_label=x_label,
        y_label=_label(naming),
        lines=lines,
        x_base=2 if x_label == "trials" else 10,
        y_range=(_floor(lines), 100.0),
        y_unit="%",
        width=WIDTH,
    )


def _floor(lines: Sequence[Line]) -> float:
    """Where the vertical axis begins: at the tens below the lowest line."""
    return 10.0 * math.floor(min(min(y for line in lines for _, y in line.points), 90.0) / 10)


def profile_of(scores: Scores, standings: Sequence[Standing], trials: int, naming: Naming) -> Chart:
    """Share of the runs that reach a fraction of the best known speedup, after so many trials."""
    reached = scores.at_trials([trials])[..., 0]
    least = math.floor(20 * float(np.nanquantile(reached, 0.02))) / 20
    thresholds = np.linspace(min(least, 0.9), 1, 51)
    lines = [
        _line(
            row,
            100 * thresholds,
            _in_percent(statistics.share_reaching(reached[scores.algos.index(row.agent)], thresholds, RESAMPLES)),
        )
        for row in standings
    ]
    return Chart(
        title=f"Performance profile: % of the runs that reach a part of the best known {naming.text('speedup')}",
        x_label=f"{_label(naming)}, after {trials} trials",
        y_label="% of the runs",
        lines=lines,
        y_range=(0.0, 100.0),
        y_unit="%",
        width=WIDTH,
    )


def _in_percent(found: statistics.Estimates) -> statistics.Estimates:
    return statistics.Estimates(100 * found.value, 100 * found.low, 100 * found.high)
