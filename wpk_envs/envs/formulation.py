"""What a formulation is: one way to pose schedule search as a Markov decision process.

A formulation makes `Episode`s. An episode never measures: it says which config it wants measured, and is
told the answer. That is what lets `wpk_envs.envs.batch.ScheduleBatch` measure the configs of many
episodes as one batch, and what lets the single and the batched environment share every line of logic.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import UserDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from wpk_envs.core import SPEEDUP_FLOOR, Measurement
from wpk_envs.envs.observation import Observer
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import TuningProblem

FAILURE_REWARD = math.log(SPEEDUP_FLOOR)
"""What every failure earns; also the floor of every terminal reward."""

FIGURES = ("speedup", "latency_us", "predicted_speedup", "predicted_latency_us")


@dataclass
class Outcome:
    """What a step earned, in Gymnasium's words."""

    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: dict[str, Any] = field(default_factory=dict)


class Episode(ABC):
    """One episode slot, used again and again.

    Attributes:
        observation: The current observation, ``float32[fields]``; changed in place, so copy to keep.
    """

    def __init__(self, problem: TuningProblem, observer: Observer) -> None:
        self.problem = problem
        self.space = problem.space
        self.observer = observer
        self.observation = observer.blank()

    @abstractmethod
    def begin(self, rng: np.random.Generator, options: Mapping[str, Any]) -> Prefix | None:
        """Start over; returns a config that must be measured before the first step, if any."""

    def begun(self, measurement: Measurement | None) -> dict[str, Any]:
        """Take the answer to `begin`'s config and return the info of the reset."""
        return {}

    @abstractmethod
    def act(self, action: Any) -> Prefix | None:
        """Take an action; returns a config to be measured, or none if this step measures nothing."""

    @abstractmethod
    def settle(self, measurement: Measurement | None) -> Outcome:
        """Take the answer to `act`'s config; none means that the problem's budget is over."""

    @abstractmethod
    def action_mask(self, exclude_tried: bool) -> np.ndarray:
        """Actions that can lead to a valid config, ``bool``, one entry per choice of the action space."""

    @abstractmethod
    def schedule(self) -> Prefix:
        """The options chosen so far."""


class Formulation(ABC):
    """Makes episodes of one kind over one tuning problem.

    Attributes:
        name: What users write, such as ``"construct"``.
        action_space: Of one environment.
        observer: Writes the observations; its ``box`` is the observation space of one environment.
    """

    name: ClassVar[str]
    action_space: spaces.Space[Any]

    def __init__(self, problem: TuningProblem) -> None:
        self.problem = problem
        self.observer = Observer(problem.space)

    @abstractmethod
    def episode(self) -> Episode:
        """A new episode slot; call its `Episode.begin` first."""


def describe(problem: TuningProblem, vector: Sequence[int], measurement: Measurement | None) -> dict[str, Any]:
    """The info of a measured step; it holds no clocks.

    Returns:
        ``error`` and ``message`` (empty if none), ``trials`` (of the whole problem), ``stop_reason``
        (empty while the problem goes on); ``config``, a mapping, if it is valid; ``speedup`` and ``latency_us`` if
        it was measured; ``predicted_speedup``, ``predicted_latency_us`` and ``confidence`` if it was predicted.
    """
    info: dict[str, Any] = {"error": "", "message": ""}
    if measurement is not None:
        info = {"error": measurement.error or "", "message": measurement.message}
        figures = {name: getattr(measurement, name) for name in FIGURES}
        info.update((name, value) for name, value in figures.items() if value is not None)
        if measurement.predicted_latency_us is not None:
            info["confidence"] = measurement.confidence
    info["trials"] = len(problem.trials)
    info["stop_reason"] = problem.stop_reason or ""
    if problem.space.is_valid(vector):
        # No dict: Gymnasium's vector environments split those by key, and a knob's values mix numbers and words.
        info["config"] = UserDict(problem.space.decode(vector))
    return info
