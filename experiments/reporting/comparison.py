"""Comparisons of agents, as the page shows them: standings, curves, profiles, and who beats whom."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.comparison import statistics
from experiments.comparison.cells import Run
from experiments.comparison.scores import Scores
from experiments.naming import MEASURED, PREDICTED, Naming
from experiments.reporting.charts import Axis, Chart, Line, Styles
from experiments.reporting.collect import Result

POINTS = 32
RESAMPLES = 300
"""Of the bands of curves and profiles; the intervals in tables are the comparison's own."""

FEW_SEEDS = 5
WIDTH = 760
"""Of the charts, which have many lines."""


@dataclass(frozen=True)
class Standing:
    """One agent's row.

    Attributes:
        agent: Its label.
        style: Of its lines.
        figures: By budget: ``iqm``, ``low``, ``high``, ``trials_to_95``, ``best`` and ``tied``.
        rank: Mean rank over the operators under the last budget; none if it is not known.
        remark: What the reader should know of its runs; empty if nothing.
    """

    agent: str
    style: int
    figures: Mapping[str, Mapping[str, Any]]
    rank: float | None
    remark: str


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Attributes:
        result: Where it is from.
        place: Its number on the page.
        naming: What its figures are called.
        budgets: Trials that it reports at, as in its summary.
        standings: The agents, the best under the last budget first.
        words: What it shows, in sentences.
        axis: Of the fractions, in percent of a column's width.
        curves: Over trials, and over seconds if they are known.
        profile: Share of runs by what they reach; none without the single runs.
        pairs: Probability that the first agent beats the second, with its interval; empty if it is not known.
    """

    result: Result
    place: int
    naming: Naming
    budgets: tuple[str, ...]
    standings: tuple[Standing, ...]
    words: tuple[str, ...]
    axis: Axis
    curves: tuple[Chart, ...]
    profile: Chart | None
    pairs: Mapping[str, Mapping[str, Mapping[str, float | None]]]

    @property
    def last(self) -> str:
        """The last budget."""
        return self.budgets[-1]


def comparison_of(result: Result, place: int, styles: Styles) -> Comparison:
    """Make a comparison's part of the page."""
    summary = result.summary
    naming = PREDICTED if summary.get("predicted") else MEASURED
    budgets = tuple(sorted({budget for figures in summary["agents"].values() for budget in figures}, key=int))
    standings = _standings(summary, budgets, styles)
    scores = _scores(result)
    lows = [each[key] for row in standings for each in row.figures.values() for key in ("low", "iqm")]
    least = min([0.99, *(low for low in lows if low is not None)])
    return Comparison(
        result=result,
        place=place,
        naming=naming,
        budgets=budgets,
        standings=standings,
        words=_words(summary, standings, budgets[-1], naming),
        axis=Axis(least, 1.0, 0, 100),
        curves=_curves(standings, budgets, naming) if scores is None else _bands(scores, standings, budgets, naming),
        profile=None if scores is None else _profile(scores, standings, int(budgets[-1]), naming),
        pairs=(summary.get("improvement") or {}).get(budgets[-1]) or {},
    )


def _standings(summary: Mapping[str, Any], budgets: Sequence[str], styles: Styles) -> tuple[Standing, ...]:
    agents, last = summary["agents"], budgets[-1]
    ranks = ((summary.get("ranks") or {}).get(last) or {}).get("mean_rank") or {}
    runs = summary.get("runs") or {}
    leads = {budget: _leader(agents, budget) for budget in budgets}
    rows = [
        Standing(
            agent=agent,
            style=styles[agent],
            figures={b: _marked(figures[b], leads[b]) for b in budgets if b in figures},
            rank=ranks.get(agent),
            remark=f"{missing} runs missing" if (missing := (runs.get(agent) or {}).get("missing")) else "",
        )
        for agent, figures in agents.items()
    ]
    return tuple(sorted(rows, key=lambda row: -_or_less(row.figures.get(last, {}).get("iqm"))))


def _or_less(value: float | None) -> float:
    return -math.inf if value is None else value


def _leader(agents: Mapping[str, Any], budget: str) -> Mapping[str, Any]:
    return max((each[budget] for each in agents.values() if budget in each), key=lambda each: _or_less(each["iqm"]))


def _marked(figure: Mapping[str, Any], leader: Mapping[str, Any]) -> Mapping[str, Any]:
    """A figure, marked if it is the best, or if its interval reaches into that of the best."""
    known = None not in (figure["high"], leader["low"])
    return {**figure, "best": figure is leader, "tied": known and figure["high"] >= leader["low"]}


def _words(summary: Mapping[str, Any], standings: Sequence[Standing], last: str, naming: Naming) -> tuple[str, ...]:
    """What the comparison shows, and what it does not."""
    first = standings[0]
    figure, seeds = first.figures[last], int(summary["seeds"])
    if figure["iqm"] is None:
        return ("No run has ended yet.",)
    tied = [row.agent for row in standings[1:] if row.figures.get(last, {}).get("tied")]
    interval = "" if figure["low"] is None else f" (95% interval {_percents(figure['low'], figure['high'])})"
    words = [
        f"After {last} trials, {first.agent} reaches {100 * figure['iqm']:.1f}%{interval} of the best known "
        f"{naming.text('speedup')}, the most of {len(standings)} agents."
    ]
    if figure["low"] is None:
        words.append("There is one seed only, so nothing is said of who is better.")
    elif tied:
        others = "any other agent" if len(tied) == len(standings) - 1 > 1 else listed(tied)
        words.append(f"This comparison does not tell it apart from {others}.")
    elif len(standings) > 1:
        words.append("No other agent's interval reaches into its own.")
    quick = [row for row in standings if row.figures.get(last, {}).get("trials_to_95") is not None]
    if quick:
        soonest = min(quick, key=lambda row: row.figures[last]["trials_to_95"])
        words.append(
            f"{soonest.agent} is the first at 95%: {soonest.figures[last]['trials_to_95']:.0f} trials (median)."
        )
    saved = {agent: share for agent, share in (summary.get("headline") or {}).get("of_ga", {}).items() if share}
    if saved:
        least = min(saved, key=lambda agent: saved[agent])
        words.append(f"On operators held out, {least} needs {100 * saved[least]:.0f}% of the trials of ga to 95%.")
    if 1 < seeds < FEW_SEEDS:
        words.append(f"{seeds} seeds are few; read the intervals as rough.")
    return tuple(words)


def _percents(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _scores(result: Result) -> Scores | None:
    """The single runs as arrays; none if the folder does not have them."""
    summary = result.summary
    split = summary.get("held_out")
    files = ["runs.jsonl"] if split is None else [f"runs_{split}.jsonl", "runs_common.jsonl"]
    runs = [Run.from_dict(line) for name in files for line in result.lines(name)]
    if not runs or not summary.get("operators"):
        return None
    known = {op: entry["best_known_speedup"] for op, entry in summary["operators"].items()}
    wanted = {run.cell: run for run in runs if run.cell.algo in summary["agents"] and run.cell.op in known}
    return Scores(list(summary["agents"]), list(known), int(summary["seeds"]), wanted, known)


def _label(naming: Naming) -> str:
    return f"% of the best known {naming.text('speedup')}"


def _curves(standings: Sequence[Standing], budgets: Sequence[str], naming: Naming) -> tuple[Chart, ...]:
    """Over trials, from the reported budgets alone."""
    lines = []
    for row in standings:
        known = [(int(b), row.figures[b]) for b in budgets if b in row.figures and row.figures[b]["iqm"] is not None]
        bands = [(b, 100 * f["low"], 100 * f["high"]) for b, f in known if f["low"] is not None]
        if known:
            lines.append(Line(row.agent, row.style, [(b, 100 * f["iqm"]) for b, f in known], bands))
    return (_over("trials", lines, naming),) if lines and len(budgets) > 1 else ()


def _bands(scores: Scores, standings: Sequence[Standing], budgets: Sequence[str], naming: Naming) -> tuple[Chart, ...]:
    """Over trials and over seconds, from the single runs."""
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


def _profile(scores: Scores, standings: Sequence[Standing], trials: int, naming: Naming) -> Chart:
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
