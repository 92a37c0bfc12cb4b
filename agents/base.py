"""The contract of every agent: given a tuning problem and a seed, spend the budget and return what was found.

An agent asks for measurements through the problem alone (`TuningProblem.measure`, or an environment over
it), so all pay the same price. It draws from its seed alone and decides by configs and their rewards,
never by the order or the time in which results arrived. That makes resuming simple: a new problem whose
``journal`` holds the interrupted run's trials answers those, and the agent comes back to exactly where it
was.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wpk_envs.core import Device, Operator
from wpk_envs.errors import UserError
from wpk_envs.schedules import ScheduleSpace, build_space
from wpk_envs.tuning import StopReason, Trial, TuningProblem


@dataclass(frozen=True)
class CurvePoint:
    """The best so far after a trial.

    Attributes:
        trial: Number of trials so far.
        seconds: The run's clock.
        gain: Best `Measurement.gain` so far (the speedup; on predicted devices the predicted one), 0 before the first.
    """

    trial: int
    seconds: float
    gain: float


@dataclass(frozen=True)
class TuningResult:
    """What an agent found.

    Attributes:
        algo: The agent's name.
        seed: Its seed.
        trials: Every trial, in the order in which outcomes were known.
        best: The fastest of them, none if all failed.
        stop_reason: Why the run ended.
    """

    algo: str
    seed: int
    trials: tuple[Trial, ...]
    best: Trial | None
    stop_reason: StopReason | None

    @property
    def curve(self) -> list[CurvePoint]:
        """Best so far after every trial, over trials and over seconds."""
        points, best = [], 0.0
        for trial in self.trials:
            best = max(best, trial.measurement.gain or 0.0)
            points.append(CurvePoint(trial.number, trial.seconds, best))
        return points


class Agent(ABC):
    """A search algorithm. A subclass is a dataclass whose fields are its settings, each with a default.

    Attributes:
        name: What ``algo=`` says.
    """

    name: ClassVar[str]
    own_space: ClassVar[bool] = False
    """Whether `space` is one that no other agent searches, so that trials are not comparable one by one."""
    knowledge: Mapping[str, Any] | None = None
    """What it knew before the search, none for most agents: ``operators`` that it comes from by name, and
    ``has_seen_operator``, whether the one that is tuned is among them."""

    def space(self, operator: Operator, device: Device, templates: Sequence[str] | None = None) -> ScheduleSpace:
        """What the agent searches: all that the device can answer, unless the agent has a space of its own.

        Args:
            operator: What to tune.
            device: Where.
            templates: Keep only these templates; all that fit if none.

        Raises:
            UserError: If there is nothing to search there.
        """
        return build_space(operator, device.info, templates, among=device.configs(operator))

    def tune(self, problem: TuningProblem, seed: int) -> TuningResult:
        """Search until the budget is spent.

        Args:
            problem: A problem with budget left.
            seed: Seeds everything random.

        Returns:
            The result; `TuningResult.stop_reason` is ``"finished"`` if the agent ended by itself.
        """
        with seeded(seed):
            self.search(problem, seed)
        if not problem.done:
            problem.finish()
        return TuningResult(self.name, seed, tuple(problem.trials), problem.best, problem.stop_reason)

    def check(self, least: float, most: float, *settings: str) -> None:
        """Raise `UserError` for a setting that is not between two values; for ``__post_init__``."""
        for setting in settings:
            value = getattr(self, setting)
            if not least <= value <= most:
                limits = f"{least} or more" if most == math.inf else f"between {least} and {most}"
                raise UserError(f"algo.{setting} of {self.name} must be {limits}, not {value}")

    @abstractmethod
    def search(self, problem: TuningProblem, seed: int) -> None:
        """Ask for measurements until ``problem.done``, or until there is nothing more to ask."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of ``random`` and NumPy, which libraries draw from; restore them after."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
