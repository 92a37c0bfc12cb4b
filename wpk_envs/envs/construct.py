"""The default formulation: an episode sets one knob after the other, and is paid at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from wpk_envs.core import KnobValue, Measurement
from wpk_envs.envs.formulation import FAILURE_REWARD, Episode, Formulation, Outcome, describe
from wpk_envs.envs.observation import Observer
from wpk_envs.schedules.space import INVALID_NODE, Prefix, ScheduleSpace
from wpk_envs.tuning import TuningProblem


def masked_out(space: ScheduleSpace, position: int, option: int) -> str:
    """Why an episode ended at a knob, in a sentence."""
    return f"no valid config has option {option} of {space.encoding.knobs[position].name} here"


class ConstructEpisode(Episode):
    """Walks down the space's decision diagram, one node per step."""

    def __init__(self, problem: TuningProblem, observer: Observer) -> None:
        super().__init__(problem, observer)
        self._restart()

    def _restart(self) -> None:
        self._node = self.space.root
        self._prefix: list[int] = []
        self._partial: dict[str, KnobValue] = {}
        self._used: Sequence[str] = ()
        self._asked: Prefix = ()

    def begin(self, rng: np.random.Generator, options: Mapping[str, Any]) -> Prefix | None:
        """Start with no knob set."""
        self._restart()
        self.observation = self.observer.blank()
        return None

    def act(self, action: Any) -> Prefix | None:
        """Set the next knob to an option.

        A masked-out option asks for an invalid config, which the problem counts and never compiles.
        """
        option, position = int(action), len(self._prefix)
        child = self.space.child(self._node, option)
        if child == INVALID_NODE:
            self._asked = (*self._prefix, option, *(0,) * (self.space.length - position - 1))
            return self._asked
        self._node = child
        self._prefix.append(option)
        self.observer.set_knob(self.observation, position, option)
        self._note_knob(position, option)
        if position + 1 < self.space.length:
            return None
        self._asked = tuple(self._prefix)
        return self._asked

    def _note_knob(self, position: int, option: int) -> None:
        knob = self.space.encoding.knobs[position]
        if position == 0:
            self._used = ("template", *self.space.templates[str(knob.options[option])].knobs)
        if knob.name in self._used:
            self._partial[knob.name] = knob.options[option]
            self.observer.set_static(self.observation, self._partial)

    def settle(self, measurement: Measurement | None) -> Outcome:
        """End the episode: ``log(speedup)``, or the failure reward."""
        info = describe(self.problem, self._asked, measurement)
        if measurement is None:
            return Outcome(FAILURE_REWARD, truncated=True, info=info)
        position = len(self._prefix)
        if position < self.space.length:  # the last choice was masked out
            info["message"] = masked_out(self.space, position, self._asked[position])
        reward = self.problem.reward(measurement)
        self.observer.set_outcome(self.observation, measurement, reward)
        return Outcome(reward, terminated=True, info=info)

    def action_mask(self, exclude_tried: bool) -> np.ndarray:
        """Options of the next knob, ``bool[width]``."""
        return self.problem.mask(self._prefix, self._node, exclude_tried)

    def schedule(self) -> Prefix:
        """The options chosen so far."""
        return tuple(self._prefix)


class Construct(Formulation):
    """Set the knobs in the encoding's order.

    Actions: ``Discrete(A)``, the next knob's option; A is the encoding's longest option list. The mask is
    exact: an option is allowed if and only if some valid config continues with it. A knob that the
    chosen template lacks allows option 0 alone, so that every episode has the same length.
    Reward: 0 until the last knob, then ``log(speedup)``, the failure reward if measuring failed.
    Ends: after the last knob, or at once with error ``invalid`` on a masked-out option; truncated with
    the failure reward if the budget does not pay for the config.
    """

    name = "construct"

    def __init__(self, problem: TuningProblem) -> None:
        super().__init__(problem)
        self.action_space = spaces.Discrete(problem.space.encoding.width)

    def episode(self) -> ConstructEpisode:
        """A new episode slot."""
        return ConstructEpisode(self.problem, self.observer)

    def demonstrate(self, vector: Prefix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How an episode would build a valid config, for imitation; measures nothing.

        Returns:
            Observations ``float32[knobs, fields]``, plain masks ``bool[knobs, width]`` and actions
            ``int64[knobs]``, one row per step.
        """
        episode = self.episode()
        observations, masks = [], []
        for option in vector:
            observations.append(episode.observation.copy())
            masks.append(episode.action_mask(exclude_tried=False))
            episode.act(option)
        return np.stack(observations), np.stack(masks), np.array(vector, dtype=np.int64)
