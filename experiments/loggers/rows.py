"""A trial as a row of figures, under the names that every logger gives them and the dashboards ask for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from experiments.naming import Naming
from wpk_envs.core import ERROR_KINDS
from wpk_envs.tuning import Trial

TRIAL, SECONDS, REUSED = "trial", "seconds", "reused"

ERRORS = {kind: f"errors/{kind}" for kind in ERROR_KINDS}
"""Names of the counts of failed trials so far, by kind of error."""

Row = dict[str, float | None]


@dataclass(frozen=True)
class Keys:
    """Names of a run's figures; those of predictions say so."""

    naming: Naming

    @property
    def speedup(self) -> str:
        """Speedup of a trial; in a run's summary that of the winner."""
        return self.naming.key("speedup")

    @property
    def latency(self) -> str:
        """Latency of a trial in microseconds; in a run's summary that of the winner."""
        return self.naming.key("latency_us")

    @property
    def best_speedup(self) -> str:
        """Highest speedup so far."""
        return f"best_{self.speedup}"

    @property
    def best_latency(self) -> str:
        """Lowest latency so far, in microseconds."""
        return f"best_{self.latency}"

    @property
    def trials(self) -> str:
        """The table of all trials."""
        return self.naming.key("trials")


class Rows:
    """Turns a run's trials, in order, into rows.

    Args:
        naming: What the figures are called.
    """

    def __init__(self, naming: Naming) -> None:
        self.keys = Keys(naming)
        self._best: Row = {self.keys.best_speedup: None, self.keys.best_latency: None}
        self._errors: Counter[str] = Counter()

    def row(self, trial: Trial) -> Row:
        """The next trial's row: its own figures, the best so far, errors so far; none for what is not known."""
        measurement, keys = trial.measurement, self.keys
        if measurement.error is not None:
            self._errors[measurement.error] += 1
        self._best = {
            keys.best_speedup: max(_known(self._best[keys.best_speedup], measurement.gain), default=None),
            keys.best_latency: min(_known(self._best[keys.best_latency], measurement.cost_us), default=None),
        }
        return {
            TRIAL: trial.number,
            SECONDS: trial.seconds,
            **keys.naming.figures(measurement),
            **self._best,
            REUSED: int(trial.reused),
            **{key: self._errors[kind] for kind, key in ERRORS.items()},
        }


def _known(*figures: float | None) -> list[float]:
    return [figure for figure in figures if figure is not None]
