"""What a logger is: it is told of a run while it goes, and never stands in its way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.naming import MEASURED, Naming
from wpk_envs.tuning import Trial

Warn = Callable[[str], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracked:
    """What a logger is told of a run at its start.

    Attributes:
        name: Tells the run from others, such as ``ga-conv3x3-seed0``; fit for a folder.
        group: What it belongs to.
        config: Its settings as plain data.
        tags: Words to find it by.
        knobs: Names of the knobs that its configs may have.
        naming: What its figures are called.
        job: The program that makes it.
    """

    name: str
    group: str
    config: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    knobs: tuple[str, ...] = ()
    naming: Naming = MEASURED
    job: str = "run"


class Logger(Protocol):
    """Called in this order: ``start`` once, ``trial`` for every trial, ``finish`` if there is a summary, ``close``.

    A resumed run starts anew and is told its earlier trials again, first of all.
    """

    def start(self) -> None:
        """Begin; nothing is written before."""

    def trial(self, trial: Trial) -> None:
        """Take a trial as soon as it is known."""

    def finish(self, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path]) -> None:
        """Take the results.

        Args:
            summary: The run's summary.
            trials: All trials, in order.
            files: The winner's config and schedule; none without a winner.
        """

    def close(self) -> None:
        """End, in whatever state; safe to call twice and without a start."""


class Nothing:
    """``logger=none``: takes everything and keeps nothing."""

    def start(self) -> None:
        """Do nothing."""

    def trial(self, trial: Trial) -> None:
        """Do nothing."""

    def finish(self, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Guarded:
    """Passes everything on to a logger until that fails, which is one warning and the end of the logging.

    Args:
        logger: Whom to.
        what: What it writes, for the warning.
        warn: Called with the one warning.
    """

    def __init__(self, logger: Logger, what: str, warn: Warn) -> None:
        self._logger = logger
        self._what = what
        self._warn = warn

    def start(self) -> None:
        """Begin."""
        self._try(lambda logger: logger.start())

    def trial(self, trial: Trial) -> None:
        """Pass on a trial."""
        self._try(lambda logger: logger.trial(trial))

    def finish(self, summary: Mapping[str, Any], trials: Sequence[Trial], files: Sequence[Path]) -> None:
        """Pass on the results."""
        self._try(lambda logger: logger.finish(summary, trials, files))

    def close(self) -> None:
        """End."""
        self._try(lambda logger: logger.close())

    def _try(self, call: Callable[[Logger], None]) -> None:
        try:
            call(self._logger)
        except Exception as error:
            self._logger = Nothing()
            log.warning("%s failed", self._what, exc_info=error)
            self._warn(f"{self._what} failed ({reason(error)}); the run goes on without it")


def warn_user(sentence: str) -> None:
    """Print a warning to standard error."""
    print(f"warning: {sentence}", file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """An error's first line without its full stop, or its kind."""
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
