"""Comparisons of agents, as the page shows them: standings, curves, profiles, and who beats whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.comparison.cells import Run
from experiments.comparison.scores import Scores
from experiments.naming import MEASURED, PREDICTED, Naming
from experiments.reporting.charts import Axis, Chart, Styles
from experiments.reporting.collect import Result
from experiments.reporting.comparison_charts import curves_of_budgets, curves_of_runs, profile_of
from experiments.reporting.standings import Standing, standings_of

FEW_SEEDS = 5


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Attributes:
        result: Where it is from.
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


def comparison_of(result: Result, styles: Styles) -> Comparison:
    """Make a comparison's part of the page."""
    summary = result.summary
    naming = PREDICTED if summary.get("predicted") else MEASURED
    budgets = tuple(sorted({budget for figures in summary["agents"].values() for budget in figures}, key=int))
    standings = standings_of(summary, budgets, styles)
    scores = _scores(result)
    lows = [row.figures.get(budgets[-1], {}).get(key) for row in standings for key in ("low", "iqm")]
    least = min([0.99, *(low for low in lows if low is not None)])
    return Comparison(
        result=result,
        naming=naming,
        budgets=budgets,
        standings=standings,
        words=_words(summary, standings, budgets[-1], naming),
        axis=Axis(least, 1.0, 0, 100),
        curves=curves_of_budgets(standings, budgets, naming)
        if scores is None
        else curves_of_runs(scores, standings, budgets, naming),
        profile=None if scores is None else profile_of(scores, standings, int(budgets[-1]), naming),
        pairs=(summary.get("improvement") or {}).get(budgets[-1]) or {},
    )


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
        words.append("There are no intervals, so nothing is said of who is better.")
    elif tied:
        others = "any other agent" if len(tied) == len(standings) - 1 > 1 else listed(tied)
        words.append(f"By this figure it is not told apart from {others}.")
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
