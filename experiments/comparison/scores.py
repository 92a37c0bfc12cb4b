"""Runs as arrays: what share of the best known speedup they had reached, and when.

An array has the axes agents, operators, seeds; runs that are missing are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.comparison.cells import Cell, Run

SHARE = 0.95
"""The share of the best known speedup that runs are timed to."""

SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
"""Seconds of search that may be reported at."""


@dataclass(frozen=True)
class Scores:
    """The runs of a comparison and what they are compared with.

    Attributes:
        algos: Labels of the agents.
        ops: Names of the operators.
        seeds: Number of seeds.
        runs: Those that ended.
        best_known: Gain of the best known config by operator.
    """

    algos: Sequence[str]
    ops: Sequence[str]
    seeds: int
    runs: Mapping[Cell, Run]
    best_known: Mapping[str, float]

    def at_trials(self, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """Fraction of the best known speedup after numbers of trials, ``float[agents, ops, seeds, points]``."""
        return self._each(lambda run: self._curve(run, "trial", points), len(points))

    def at_seconds(self, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """The same after seconds of search."""
        return self._each(lambda run: self._curve(run, "seconds", points), len(points))

    def trials_to(self, share: float = SHARE) -> np.ndarray:
        """Trials until a share of the best known was reached, infinity if never, ``float[agents, ops, seeds]``."""
        return self._each(lambda run: self._first(run, "trial", share))[..., 0]

    def seconds_to(self, share: float = SHARE) -> np.ndarray:
        """The same in seconds of search."""
        return self._each(lambda run: self._first(run, "seconds", share))[..., 0]

    def seconds_points(self) -> tuple[int, ...]:
        """Those of `SECONDS` at which at least half of every agent's runs were still searching.

        Later ones would hold against an agent that it had used up its trials. Who has tried everything has not.
        """
        ends = self._each(lambda run: np.inf if run.stop_reason == "exhausted" else run.seconds)
        medians = [np.nanmedian(each) for each in ends if not np.isnan(each).all()]
        return tuple(point for point in SECONDS if medians and point <= min(medians))

    def missing(self, algo: str) -> int:
        """How many of an agent's runs have not ended."""
        return sum(Cell(algo, op, seed) not in self.runs for op in self.ops for seed in range(self.seeds))

    def _each(self, figures: Callable[[Run], Any], width: int = 1) -> np.ndarray:
        """Figures of every run, ``float[agents, ops, seeds, width]``."""
        array = np.full((len(self.algos), len(self.ops), self.seeds, width), np.nan)
        for a, algo in enumerate(self.algos):
            for o, op in enumerate(self.ops):
                for seed in range(self.seeds):
                    run = self.runs.get(Cell(algo, op, seed))
                    if run is not None:
                        array[a, o, seed] = figures(run)
        return array

    def _curve(self, run: Run, clock: str, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """Fractions at points of a run's step curve, 0 before its first step."""
        gains = np.array([0.0, *(step.gain for step in run.improvements)])
        places = [getattr(step, clock) for step in run.improvements]
        return gains[np.searchsorted(places, points, side="right")] / self.best_known[run.cell.op]

    def _first(self, run: Run, clock: str, share: float) -> float:
        bar = share * self.best_known[run.cell.op]
        return next((getattr(step, clock) for step in run.improvements if step.gain >= bar), np.inf)


def best_known(recorded: Mapping[str, float | None], runs: Iterable[Run]) -> dict[str, float]:
    """The best gain known of every operator: the recorded one, or where there is none that of the best run."""
    known = {op: gain or 0.0 for op, gain in recorded.items()}
    for run in runs:
        if recorded.get(run.cell.op, 0.0) is None:
            known[run.cell.op] = max(known[run.cell.op], run.gain)
    return known
