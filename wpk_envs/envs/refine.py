"""The local-search formulation: an episode starts from a valid config and moves one knob at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from wpk_envs.core import Measurement
from wpk_envs.envs.formulation import FAILURE_REWARD, Episode, Formulation, Outcome, describe
from wpk_envs.envs.observation import Observer
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import TuningProblem

STEPS = 32
"""Moves of an episode before it is truncated."""


class RefineEpisode(Episode):
    """Holds a complete, measured config and the moves that lead on to valid ones."""

    def __init__(self, problem: TuningProblem, observer: Observer) -> None:
        super().__init__(problem, observer)
        self._tried: set[Prefix] = set()
        self._seen = 0
        self._asked: Prefix = ()
        self._move_to((), FAILURE_REWARD)

    def _move_to(self, vector: Prefix, value: float) -> None:
        self._vector, self._value = vector, value
        self._moves = _moves(self.problem, vector) if vector else {}

    def begin(self, rng: np.random.Generator, options: Mapping[str, Any]) -> Prefix | None:
        """Start from ``options["config"]``, or from a config drawn uniformly; it is measured first."""
        config = options.get("config")
        self._steps = 0
        self._asked = self.space.sample(rng) if config is None else self.space.encode(config)
        return self._asked

    def begun(self, measurement: Measurement | None) -> dict[str, Any]:
        """Take the start config's outcome; a start that the budget does not pay for counts as failed."""
        self.observation = self.observer.blank()
        self._arrive(measurement)
        return describe(self.problem, self._vector, measurement)

    def _arrive(self, measurement: Measurement | None) -> None:
        self._move_to(self._asked, FAILURE_REWARD if measurement is None else self.problem.reward(measurement))
        self.observer.set_config(self.observation, self._vector)
        if measurement is not None:
            self.observer.set_outcome(self.observation, measurement, self._value)

    def act(self, action: Any) -> Prefix | None:
        """Ask for the config after a move.

        A masked-out move asks for an invalid config, which the problem counts and never compiles.
        """
        nowhere = (-1,) * self.space.length
        self._asked = self._moves.get(divmod(int(action), 2), nowhere)
        return self._asked

    def settle(self, measurement: Measurement | None) -> Outcome:
        """Pay the change in log speedup; end on a masked-out move, the last step or the budget's end."""
        info = describe(self.problem, self._asked, measurement)
        if measurement is None:
            return Outcome(FAILURE_REWARD, truncated=True, info=info)
        if not self.space.is_valid(self._asked):
            self.observer.set_outcome(self.observation, measurement, FAILURE_REWARD)
            info["message"] = "the move leads to no valid config"
            return Outcome(FAILURE_REWARD, terminated=True, info=info)
        before = self._value
        self._arrive(measurement)
        self._steps += 1
        return Outcome(self._value - before, truncated=self._steps >= STEPS, info=info)

    def action_mask(self, exclude_tried: bool) -> np.ndarray:
        """Moves that lead to a valid config, ``bool[2 * knobs]``; to untried ones alone where there are any."""
        targets = self._fresh_moves() if exclude_tried else {}
        mask = np.zeros(2 * self.space.length, dtype=bool)
        for knob, direction in targets or self._moves:
            mask[2 * knob + direction] = True
        return mask

    def _fresh_moves(self) -> dict[tuple[int, int], Prefix]:
        self._tried.update(trial.vector for trial in self.problem.trials[self._seen :])
        self._seen = len(self.problem.trials)
        return {move: target for move, target in self._moves.items() if target not in self._tried}

    def schedule(self) -> Prefix:
        """The current config."""
        return self._vector


class Refine(Formulation):
    """Walk from config to config.

    Actions: ``Discrete(2 * knobs)``. Action ``2 * k`` moves knob k down to the nearest lower option that
    is valid with all other knobs as they are, ``2 * k + 1`` up to the nearest higher one. Moving the
    template takes the other knobs along to the nearest options that the new template allows
    (`ScheduleSpace.repair`). A move that does not exist is masked out; a config with no move at all has
    an all-false mask.
    Reward: the change in log speedup, so that an episode's sum is the gain over its start; a config
    that fails to compile or run counts as the failure reward while the episode stays on it.
    Ends: truncated after `STEPS` moves, or with the failure reward when the budget does not pay for a
    move; terminated with error ``invalid`` and the failure reward on a masked-out move.
    """

    name = "refine"

    def __init__(self, problem: TuningProblem) -> None:
        super().__init__(problem)
        self.action_space = spaces.Discrete(2 * problem.space.length)

    def episode(self) -> RefineEpisode:
        """A new episode slot."""
        return RefineEpisode(self.problem, self.observer)


def _moves(problem: TuningProblem, vector: Prefix) -> dict[tuple[int, int], Prefix]:
    """Targets of every possible move by (knob, direction), direction 0 down and 1 up."""
    found = {}
    for knob in range(len(vector)):
        for direction, step in ((0, -1), (1, 1)):
            target = _target(problem, vector, knob, step)
            if target is not None:
                found[knob, direction] = target
    return found


def _target(problem: TuningProblem, vector: Prefix, knob: int, step: int) -> Prefix | None:
    space = problem.space
    stop = -1 if step < 0 else len(space.encoding.knobs[knob].options)
    for option in range(vector[knob] + step, stop, step):
        target = (*vector[:knob], option, *vector[knob + 1 :])
        if knob == 0 and str(space.encoding.knobs[0].options[option]) in space.templates:
            target = space.repair(target)
        if target[knob] == option and space.is_valid(target):
            return target
    return None
