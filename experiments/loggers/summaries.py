"""What W&B is told of a finished comparison of agents, or of a table of speedups: one run with figures and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.finals import geomean
from experiments.loggers.contract import Tracked, Warn, warn_user
from experiments.loggers.settings import LoggerConfig, WandbConfig
from experiments.loggers.wandb_run import WandbRun
from experiments.naming import MEASURED, Naming

AGENT, BUDGET, OPERATOR, SUITE = "agent", "budget_trials", "op", "suite"
"""What rows are about; the other columns are figures."""


@dataclass(frozen=True)
class SummaryKeys:
    """Names of the figures of comparisons and tables; those of predictions say so."""

    naming: Naming

    @property
    def comparison(self) -> str:
        """The table of a comparison: a row per agent and budget."""
        return self.naming.key("comparison")

    def fraction(self, agent: str) -> str:
        """Fraction of the best known that an agent reaches within a budget, interquartile mean."""
        return f"{self.naming.key('fraction_of_best_known')}/{agent}"

    def trials_to_95(self, agent: str) -> str:
        """Trials that an agent needs to 95% of the best known, median, under the largest budget."""
        return f"{self.naming.key('trials_to_95')}/{agent}"

    @property
    def speedups(self) -> str:
        """The table of speedups: a row per operator."""
        return self.naming.key("speedups")

    @property
    def speedup(self) -> str:
        """The speedup of a row of it."""
        return self.naming.key("speedup")

    def geomean(self, suite: str) -> str:
        """Geometric mean of the speedups of a network's operators."""
        return f"geomean_{self.speedup}/{suite}"

    def geomean_over_metaschedule(self, suite: str) -> str:
        """The same over what TVM's MetaSchedule finds."""
        return f"geomean_{self.naming.key('speedup_over_metaschedule')}/{suite}"


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


def comparison_digest(summary: Mapping[str, Any], naming: Naming = MEASURED) -> Digest:
    """Digest a comparison's summary.

    Args:
        summary: Has ``agents``, by name and then by budget in trials, ``iqm``, ``low`` and ``high`` of the fraction of
            the best known and ``trials_to_95`` (none if not reached); and ``seeds``.
        naming: What the figures are called.
    """
    keys = SummaryKeys(naming)
    agents = {agent: {int(trials): each for trials, each in by.items()} for agent, by in summary["agents"].items()}
    budgets = sorted({trials for results in agents.values() for trials in results})
    last = {keys.trials_to_95(agent): results[max(results)]["trials_to_95"] for agent, results in agents.items()}
    return Digest(
        table=keys.comparison,
        rows=[
            {AGENT: agent, BUDGET: trials, **_fractions(results[trials], naming)}
            for agent, results in agents.items()
            for trials in sorted(results)
        ],
        scalars={"seeds": summary["seeds"], **last},
        curves=[
            {BUDGET: trials, **{keys.fraction(agent): r[trials]["iqm"] for agent, r in agents.items() if trials in r}}
            for trials in budgets
        ],
        steps={keys.fraction("*"): BUDGET},
    )


def _fractions(result: Mapping[str, Any], naming: Naming) -> dict[str, Any]:
    """One agent's figures within one budget, as columns."""
    return {
        naming.key("fraction_of_best_known"): result["iqm"],
        naming.key("fraction_low"): result["low"],
        naming.key("fraction_high"): result["high"],
        naming.key("trials_to_95"): result["trials_to_95"],
    }


def speedups_digest(rows: Sequence[Mapping[str, Any]], naming: Naming = MEASURED) -> Digest:
    """Digest a table of speedups.

    Args:
        rows: Each has ``op``, ``suite`` and figures, ``speedup`` and ``speedup_over_metaschedule`` among them (none
            where there is no measurement).
        naming: What the figures are called.
    """
    keys = SummaryKeys(naming)
    scalars: dict[str, float | None] = {}
    for suite in dict.fromkeys(row[SUITE] for row in rows):
        members = [row for row in rows if row[SUITE] == suite]
        scalars[keys.geomean(suite)] = _geomean(members, "speedup")
        scalars[keys.geomean_over_metaschedule(suite)] = _geomean(members, "speedup_over_metaschedule")
    named = [{key if key in (OPERATOR, SUITE) else naming.key(key): row[key] for key in row} for row in rows]
    return Digest(keys.speedups, named, scalars)


def _geomean(rows: Sequence[Mapping[str, Any]], figure: str) -> float | None:
    return geomean([row[figure] for row in rows if row.get(figure) is not None])


def log_summary(config: LoggerConfig, tracked: Tracked, digest: Digest, folder: Path, warn: Warn = warn_user) -> None:
    """Log a finished program's summary as a W&B run of its own; with another logger than W&B nothing is done.

    Args:
        config: The program's logger, as `settings.logger_of` gives it.
        tracked: The run's description; its ``job`` is the program.
        digest: The summary, see `comparison_digest` and `speedups_digest`.
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
