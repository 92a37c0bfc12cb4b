"""The agents of a comparison, the best first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.reporting.charts import Styles

PRINTED = 3
"""Digits of a fraction that the page shows, a tenth of a percent: less than that tells no agents apart."""


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


def standings_of(summary: Mapping[str, Any], budgets: Sequence[str], styles: Styles) -> tuple[Standing, ...]:
    """The rows of a comparison's table, the best under the last of the budgets first."""
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
    """A figure, marked if it is the best, or if its interval reaches into that of the best, as far as is printed."""
    known = None not in (figure["high"], leader["low"])
    tied = known and round(figure["high"], PRINTED) >= round(leader["low"], PRINTED)
    return {**figure, "best": figure is leader, "tied": tied}
