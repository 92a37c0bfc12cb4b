"""What W&B is told of a finished comparison, table of speedups or plan: one run with figures and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.finals import geomean
from experiments.loggers.contract import Tracked, Warn, warn_user
from experiments.loggers.settings import LoggerConfig, WandbConfig
from experiments.loggers.wandb_run import WandbRun

AGENT, BUDGET, OPERATOR, SUITE, SPEEDUP = "agent", "budget_trials", "op", "suite", "speedup"
"""Columns of the tables."""

FIGURES = ("iqm", "low", "high", "trials_to_95")
"""What a comparison has of an agent within a budget: the fraction with its interval, and the trials."""

COMPARISON, SPEEDUPS, PLANS = "comparison", "speedups", "end_to_end"
"""The table of a comparison, a row per agent and budget; that of speedups, a row per operator; of plans, per model."""


def fraction(agent: str) -> str:
    """Name of the fraction of the best known that an agent reaches within a budget, interquartile mean."""
    return f"fraction_of_best_known/{agent}"


def trials_to_95(agent: str) -> str:
    """Name of the trials that an agent needs to 95% of the best known, median, under the largest budget."""
    return f"trials_to_95/{agent}"


def geomean_speedup(suite: str) -> str:
    """Name of the geometric mean of the speedups of a network's operators."""
    return f"geomean_speedup/{suite}"


def geomean_over_metaschedule(suite: str) -> str:
    """Name of the same over what TVM's MetaSchedule finds."""
    return f"geomean_speedup_over_metaschedule/{suite}"


def ratio_to_fastest_peer(model: str) -> str:
    """Name of how many times as fast as its fastest peer the plan of a model is."""
    return f"ratio_to_fastest_peer/{model}"


@dataclass(frozen=True)
class Digest:
    """A summary as W&B takes it.

    Attributes:
        table: Name of the table.
        rows: Its rows, all with the same columns.
        scalars: Figures by name; none for what is not known.
        curves: Figures that go together, in order.
        steps: By which figure of the curves the others are drawn.
    """

    table: str
    rows: Sequence[Mapping[str, Any]]
    scalars: Mapping[str, float | None]
    curves: Sequence[Mapping[str, float]] = ()
    steps: Mapping[str, str] = field(default_factory=dict)


def comparison_digest(summary: Mapping[str, Any]) -> Digest:
    """Digest a comparison's summary.

    Args:
        summary: Has ``agents``, by name and then by budget in trials, ``iqm``, ``low`` and ``high`` of the fraction of
            the best known and ``trials_to_95`` (none if not reached); and ``seeds``.
    """
    agents = {agent: {int(trials): each for trials, each in by.items()} for agent, by in summary["agents"].items()}
    budgets = sorted({trials for results in agents.values() for trials in results})
    last = {trials_to_95(agent): results[max(results)]["trials_to_95"] for agent, results in agents.items()}
    return Digest(
        table=COMPARISON,
        rows=[
            {AGENT: agent, BUDGET: trials, **{key: results[trials][key] for key in FIGURES}}
            for agent, results in agents.items()
            for trials in sorted(results)
        ],
        scalars={"seeds": summary["seeds"], **last},
        curves=[{BUDGET: trials, **_fractions(agents, trials)} for trials in budgets],
        steps={fraction("*"): BUDGET},
    )


def _fractions(agents: Mapping[str, Mapping[int, Mapping[str, Any]]], trials: int) -> dict[str, float]:
    """The known fractions within one budget."""
    found = {fraction(agent): results.get(trials, {}).get("iqm") for agent, results in agents.items()}
    return {name: value for name, value in found.items() if value is not None}


def speedups_digest(rows: Sequence[Mapping[str, Any]]) -> Digest:
    """Digest a table of speedups.

    Args:
        rows: Each has ``op``, ``suite``, ``speedup``, ``speedup_over_metaschedule`` and what else is to be seen (none
            where there is no measurement).
    """
    scalars: dict[str, float | None] = {}
    for suite in dict.fromkeys(row[SUITE] for row in rows):
        members = [row for row in rows if row[SUITE] == suite]
        scalars[geomean_speedup(suite)] = _geomean(members, SPEEDUP)
        scalars[geomean_over_metaschedule(suite)] = _geomean(members, "speedup_over_metaschedule")
    return Digest(SPEEDUPS, rows, scalars)


def plans_digest(rows: Sequence[Mapping[str, Any]]) -> Digest:
    """Digest an end-to-end table.

    Args:
        rows: Each has ``model``, ``ratio_to_fastest_peer`` (none without a peer) and what else is to be seen.
    """
    scalars = {ratio_to_fastest_peer(row["model"]): row["ratio_to_fastest_peer"] for row in rows}
    return Digest(PLANS, rows, scalars)


def _geomean(rows: Sequence[Mapping[str, Any]], figure: str) -> float | None:
    return geomean([row[figure] for row in rows if row[figure] is not None])


def log_summary(config: LoggerConfig, tracked: Tracked, digest: Digest, folder: Path, warn: Warn = warn_user) -> None:
    """Log a finished program's summary as a W&B run of its own; with another logger than W&B nothing is done.

    Args:
        config: The program's logger, as `settings.logger_of` gives it.
        tracked: The run's description; its ``job`` is the program.
        digest: The summary, see `comparison_digest`, `speedups_digest` and `plans_digest`.
        folder: W&B's offline files go into ``folder/wandb``.
        warn: Called with the one warning if the logging fails; the program goes on.
    """
    if not isinstance(config, WandbConfig) or config.mode == "disabled":
        return
    run = WandbRun(config, tracked, folder, warn, digest.steps)
    run.start()
    run.send(lambda opened: _send(opened, digest))
    run.close()


def _send(run: Any, digest: Digest) -> None:
    import wandb

    for figures in digest.curves:
        run.log(figures)
    if digest.rows:
        columns = list(digest.rows[0])
        data = [[row[column] for column in columns] for row in digest.rows]
        run.log({digest.table: wandb.Table(columns=columns, data=data)})
    run.summary.update({key: figure for key, figure in digest.scalars.items() if figure is not None})
