"""The bandit formulation: one action sets every knob at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from wpk_envs.core import Measurement
from wpk_envs.envs.formulation import FAILURE_REWARD, Episode, Formulation, Outcome, describe
from wpk_envs.envs.observation import Observer
from wpk_envs.schedules.space import INVALID_NODE, Prefix, ScheduleSpace
from wpk_envs.tuning import TuningProblem


class OneShotEpisode(Episode):
    """An episode of one step."""

    def __init__(self, problem: TuningProblem, observer: Observer, reachable: np.ndarray) -> None:
        super().__init__(problem, observer)
        self._reachable = reachable
        self._vector: Prefix = ()

    def begin(self, rng: np.random.Generator, options: Mapping[str, Any]) -> Prefix | None:
        """Start with no knob set."""
        self._vector = ()
        self.observation = self.observer.blank()
        return None

    def act(self, action: Any) -> Prefix | None:
        """Set all knobs; those that the chosen template lacks are ignored."""
        self._vector = without_unused(self.space, action)
        self.observer.set_config(self.observation, self._vector)
        return self._vector

    def settle(self, measurement: Measurement | None) -> Outcome:
        """End the episode: ``log(speedup)``, or the failure reward."""
        info = describe(self.problem, self._vector, measurement)
        if measurement is None:
            return Outcome(FAILURE_REWARD, truncated=True, info=info)
        reward = self.problem.reward(measurement)
        self.observer.set_outcome(self.observation, measurement, reward)
        return Outcome(reward, terminated=True, info=info)

    def action_mask(self, exclude_tried: bool) -> np.ndarray:
        """Options that occur in some valid config, all knobs' lists joined: ``bool[sum of option counts]``.

        Masks of a ``MultiDiscrete`` are per knob, so an allowed combination may still be invalid, and
        ``exclude_tried`` has no effect.
        """
        return self._reachable.copy()

    def schedule(self) -> Prefix:
        """The options chosen so far."""
        return self._vector


class OneShot(Formulation):
    """Set every knob in one step.

    Actions: ``MultiDiscrete``, one option number per knob of the encoding; those of knobs that the
    chosen template lacks are ignored.
    Reward: ``log(speedup)``, the failure reward for invalid configs (never compiled) and for errors.
    Ends: after the one step; truncated with the failure reward if the budget does not pay for the config.
    """

    name = "one_shot"

    def __init__(self, problem: TuningProblem) -> None:
        super().__init__(problem)
        self.action_space = spaces.MultiDiscrete([len(knob.options) for knob in problem.space.encoding.knobs])
        self._reachable = _reachable_options(problem.space)

    def episode(self) -> OneShotEpisode:
        """A new episode slot."""
        return OneShotEpisode(self.problem, self.observer, self._reachable)


def without_unused(space: ScheduleSpace, action: Any) -> Prefix:
    """The vector with option 0 for every knob that its template lacks; unchanged if no such template fits."""
    vector = tuple(int(option) for option in action)
    name = str(space.encoding.knobs[0].options[vector[0]])
    if name not in space.templates:
        return vector
    used = {"template", *space.templates[name].knobs}
    return tuple(option if knob.name in used else 0 for knob, option in zip(space.encoding.knobs, vector))


def _reachable_options(space: ScheduleSpace) -> np.ndarray:
    layer, masks = {space.root}, []
    for knob in space.encoding.knobs:
        options = range(len(knob.options))
        masks.append([any(space.child(node, option) != INVALID_NODE for node in layer) for option in options])
        layer = {space.child(node, option) for node in layer for option in options} - {INVALID_NODE}
    return np.array([allowed for mask in masks for allowed in mask])
