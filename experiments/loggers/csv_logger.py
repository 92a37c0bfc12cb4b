"""``logger=csv``: a row per trial in ``trials.csv``, for pandas and spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.loggers.contract import Tracked
from experiments.loggers.rows import REUSED, SECONDS, TRIAL, Rows
from wpk_envs.tuning import Trial


class CsvLogger:
    """Writes every trial as soon as it is known.

    A resumed run is told its earlier trials again, so the file is written anew, with one clock.

    Args:
        tracked: The run's description; its knobs are the last columns.
        folder: The file is ``folder/trials.csv``.
    """

    def __init__(self, tracked: Tracked, folder: Path) -> None:
        self._path = folder / "trials.csv"
        self._knobs = tracked.knobs
        self._rows = Rows(tracked.naming)
        self._file: Any = None

    def start(self) -> None:
        """Open the file and write the names of the columns."""
        keys = self._rows.keys
        columns = [TRIAL, SECONDS, keys.speedup, keys.latency, keys.best_speedup, keys.best_latency, REUSED, "error"]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(
            self._file, [*columns, *map(_column, self._knobs)], extrasaction="ignore", lineterminator="\n"
        )
        self._writer.writeheader()
        self._file.flush()

    def trial(self, trial: Trial) -> None:
        """Write a row."""
        knobs = {_column(name): value for name, value in trial.config.items()}
        self._writer.writerow({**self._rows.row(trial), "error": trial.measurement.error, **knobs})
        self._file.flush()

    def finish(self, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path]) -> None:
        """Close the file: the results are in ``summary.json`` beside it."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _column(knob: str) -> str:
    """The column of a knob, told apart from a figure's."""
    return f"knob.{knob}"
