"""What a run shows while it goes: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.naming import Naming
from wpk_envs.core import Measurement
from wpk_envs.tuning import Trial

LINE_SECONDS = 10.0
"""At least this long between two plain lines that bring no new best."""

WIDTH = 120
"""Columns of output that goes to a file or a pipe."""


def console() -> Console:
    """Standard output, as wide as the terminal, or wide enough for tables elsewhere."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


class Steps:
    """Shows how many of a known number of steps are done, with a remark.

    Args:
        console: Where to; `rich.console.Console.is_terminal` decides how.
        title: What is being done.
        total: How many steps there are.
    """

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            texts = [TextColumn("[bold]{task.description}"), BarColumn(20), MofNCompleteColumn()]
            remark = TextColumn("{task.fields[remark]}")
            self._bar = Progress(*texts, remark, TimeElapsedColumn(), console=console, transient=True)
            self._task = self._bar.add_task(title, total=total, remark="")

    def __enter__(self) -> Steps:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def pace(self) -> str:
        """Steps a minute and the minutes that are left, the step at hand included."""
        a_minute = 60 * (self._done + 1) / max(time.monotonic() - self._started, 1e-9)
        left = (self._total - self._done - 1) / a_minute
        return f"{a_minute:.0f} a minute, {left:.0f} min left" if left >= 1 else f"{a_minute:.0f} a minute"

    def step(self, remark: str) -> None:
        """Show that one more is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, remark=remark)
        elif self._done == self._total or time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(f"{self._title}: {self._done} of {self._total}, {remark}", highlight=False)


class Display:
    """Shows trials, the best speedup, trials a minute and errors.

    Args:
        console: Where to; `rich.console.Console.is_terminal` decides how.
        title: What is being tuned, by whom.
        trials: The budget, if it is in trials.
    """

    def __init__(self, console: Console, title: str, trials: int | None) -> None:
        self._console = console
        self._title = title
        self._trials = trials
        self._best: Measurement | None = None
        self._errors: Counter[str] = Counter()
        self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = ["{task.fields[best]}", "{task.fields[rate]}", "{task.fields[errors]}"]
            texts = [TextColumn(column) for column in columns]
            first = TextColumn("[bold]{task.description}")
            self._bar = Progress(
                first, BarColumn(20), MofNCompleteColumn(), *texts, TimeElapsedColumn(), console=console, transient=True
            )
            self._task = self._bar.add_task(title, total=trials, best="", rate="", errors="")

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, trial: Trial) -> None:
        """Show a new trial."""
        measurement = trial.measurement
        if measurement.error is not None:
            self._errors[measurement.error] += 1
        improved = _better(measurement, self._best)
        if improved:
            self._best = measurement
        best, rate, errors = self._texts(trial)
        if self._bar is not None:
            self._bar.update(self._task, completed=trial.number, best=best, rate=rate, errors=errors)
        elif improved or trial.number == self._trials or time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            of = f" of {self._trials}" if self._trials else ""
            self._console.print(f"trial {trial.number}{of}: {best}, {rate}, {errors}", highlight=False)

    def _texts(self, trial: Trial) -> tuple[str, str, str]:
        best = "no result yet" if self._best is None else f"best {_figure(self._best)}"
        rate = f"{60 * trial.number / max(trial.seconds, 1e-9):.0f} trials/min"
        kinds = ", ".join(f"{count} {kind}" for kind, count in self._errors.items())
        return best, rate, f"errors: {kinds or 'none'}"


def _better(measurement: Measurement, best: Measurement | None) -> bool:
    """Whether a trial is the best so far, by its speedup, or by its latency where that is missing."""
    if measurement.cost_us is None or best is None or best.cost_us is None:
        return measurement.cost_us is not None
    if measurement.gain is None or best.gain is None:
        return measurement.cost_us < best.cost_us
    return measurement.gain > best.gain


def _figure(measurement: Measurement) -> str:
    naming = Naming(measurement.predicted_latency_us is not None)
    return naming.text(f"{measurement.cost_us:.1f} us" if measurement.gain is None else f"{measurement.gain:.2f}x")
