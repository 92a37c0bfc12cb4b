"""The speedup tables of networks, as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.reporting.charts import Axis
from experiments.reporting.collect import Result

PEER = "over_vendor"


@dataclass(frozen=True)
class Speedups:
    """The result of one `experiments.tables`.

    Attributes:
        result: Where it is from.
        suites: The rows of every network.
        axis: Of the speedups over the vendor's best, in percent of a column's width.
    """

    result: Result
    suites: Mapping[str, Sequence[Mapping[str, Any]]]
    axis: Axis

    @property
    def groups(self) -> Sequence[Mapping[str, Any]]:
        """Means and maxima, of each network and of all."""
        return self.result.summary["groups"]

    @property
    def paper(self) -> Sequence[Mapping[str, Any]]:
        """The paper's figures with the nearest that was measured."""
        return self.result.summary["paper"]

    @property
    def measured(self) -> int:
        """Operators with a speedup over the vendor's best."""
        return sum(row.get(PEER) is not None for rows in self.suites.values() for row in rows)


def speedups_of(result: Result) -> Speedups:
    """Make the page's part of a result."""
    suites: dict[str, list[Mapping[str, Any]]] = {}
    for row in result.summary["operators"]:
        suites.setdefault(row["suite"], []).append(row)
    known = [row.get(f"{PEER}{end}") for row in result.summary["operators"] for end in ("", "_low", "_high")]
    return Speedups(result, suites, Axis.around_one(known))
