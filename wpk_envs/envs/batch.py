"""The step logic that the single, the batched and the SB3 environment share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wpk_envs.core import Measurement
from wpk_envs.envs.construct import Construct
from wpk_envs.envs.formulation import Episode, Formulation, Outcome
from wpk_envs.envs.one_shot import OneShot
from wpk_envs.envs.refine import Refine
from wpk_envs.envs.suite import Suite
from wpk_envs.errors import UserError, unknown
from wpk_envs.schedules.space import Prefix, ScheduleSpace
from wpk_envs.tuning import TuningProblem

Infos = dict[str, Any]
MeasureBatch = Callable[[Sequence[Prefix]], list[Measurement | None]]

FORMULATIONS: dict[str, type[Formulation]] = {f.name: f for f in (Construct, OneShot, Refine)}


@dataclass
class BatchStep:
    """What one step of every episode gave.

    Attributes:
        observations: ``float32[n, fields]``, of the new episode where one ended and autoreset is on.
        outcomes: One per episode.
        final_observations: The last observation of every episode that ended in this step, by position.
        reset_infos: The new episode's info, by position.
    """

    observations: np.ndarray
    outcomes: list[Outcome]
    final_observations: dict[int, np.ndarray]
    reset_infos: dict[int, dict[str, Any]]

    def vector_infos(self, add_info: Callable[[Infos, Infos, int], Infos]) -> Infos:
        """The infos as Gymnasium's vector environments have them.

        Args:
            add_info: The environment's own way to add one episode's info at a position.
        """
        infos: Infos = {}
        for i, outcome in enumerate(self.outcomes):
            info = outcome.info
            if i in self.final_observations:
                infos = add_info(infos, {"final_obs": self.final_observations[i], "final_info": info}, i)
                info = self.reset_infos[i]
            infos = add_info(infos, info, i)
        return infos

    def info_list(self) -> tuple[list[Infos], dict[int, Infos]]:
        """Every episode's info as Stable-Baselines3 has it, and the resets' infos by position."""
        infos = [outcome.info for outcome in self.outcomes]
        for i, observation in self.final_observations.items():
            infos[i]["terminal_observation"] = observation
            infos[i]["TimeLimit.truncated"] = self.outcomes[i].truncated and not self.outcomes[i].terminated
        return infos, self.reset_infos

    @property
    def rewards(self) -> np.ndarray:
        """``float64[n]``."""
        return np.array([outcome.reward for outcome in self.outcomes])

    @property
    def terminated(self) -> np.ndarray:
        """``bool[n]``."""
        return np.array([outcome.terminated for outcome in self.outcomes])

    @property
    def truncated(self) -> np.ndarray:
        """``bool[n]``."""
        return np.array([outcome.truncated for outcome in self.outcomes])


class ScheduleBatch:
    """Several episodes over one tuning problem, or over those of a suite, stepped together.

    All configs of a problem that a step completes are measured as one batch, so that the device builds and runs
    them in parallel.

    Args:
        problem: What is tuned; all episodes share its budget and its trials.
        formulation: One of `FORMULATIONS`.
        num_envs: Number of episodes at a time.
        measure: Answers the configs of a step, as `TuningProblem.measure` does, which it is if none.

    Raises:
        UserError: If there is no such formulation, or no environment at all.
    """

    def __init__(
        self, problem: TuningProblem | Suite, formulation: str, num_envs: int, measure: MeasureBatch | None = None
    ) -> None:
        if formulation not in FORMULATIONS:
            raise unknown("formulation", formulation, FORMULATIONS)
        if num_envs < 1:
            raise UserError(f"num_envs must be 1 or more, not {num_envs}")
        self._suite = Suite.of(problem)
        self._answer = measure
        kinds = [FORMULATIONS[formulation](each) for each in self._suite.problems]
        self.formulation = kinds[0]
        self._slots = [[kind.episode() for kind in kinds] for _ in range(num_envs)]
        self._drawn = [0] * num_envs

    def reset(
        self, rng: np.random.Generator, options: Mapping[str, Any] | None = None, indices: Sequence[int] | None = None
    ) -> dict[int, dict[str, Any]]:
        """Start episodes over, all of them unless ``indices`` says which; their infos by position."""
        positions = range(len(self._slots)) if indices is None else indices
        for i, number in zip(positions, self._suite.draw(rng, len(positions)).tolist()):
            self._drawn[i] = number
        going = self.episodes
        episodes = [going[i] for i in positions]
        answers = self._measure(episodes, [episode.begin(rng, options or {}) for episode in episodes])
        infos = [episode.begun(answer) for episode, answer in zip(episodes, answers)]
        return {i: {**info, **self._suite.info(self._drawn[i])} for i, info in zip(positions, infos)}

    @property
    def episodes(self) -> list[Episode]:
        """The episodes that are going on."""
        return [slot[number] for slot, number in zip(self._slots, self._drawn)]

    def step(self, actions: Sequence[Any] | np.ndarray, rng: np.random.Generator, autoreset: bool) -> BatchStep:
        """Step every episode; with ``autoreset`` those that end start over at once."""
        episodes = self.episodes
        requests = [episode.act(action) for episode, action in zip(episodes, actions)]
        answers = self._measure(episodes, requests)
        outcomes = [
            Outcome() if request is None else episode.settle(answer)
            for episode, request, answer in zip(episodes, requests, answers)
        ]
        ended = [i for i, outcome in enumerate(outcomes) if outcome.terminated or outcome.truncated]
        finals = {i: episodes[i].observation.copy() for i in ended}
        for i in ended:
            outcomes[i].info.update(self._suite.info(self._drawn[i]))
        reset_infos = self.reset(rng, indices=ended) if autoreset and ended else {}
        return BatchStep(self.observations(), outcomes, finals, reset_infos)

    def _measure(self, episodes: Sequence[Episode], requests: Sequence[Prefix | None]) -> list[Measurement | None]:
        answers: list[Measurement | None] = [None] * len(requests)
        for problem in self._suite.problems:
            asked = {
                place: vector
                for place, (episode, vector) in enumerate(zip(episodes, requests))
                if vector is not None and episode.problem is problem
            }
            measure = self._answer or problem.measure
            for place, answer in zip(asked, measure(list(asked.values())) if asked else []):
                answers[place] = answer
        return answers

    def observations(self) -> np.ndarray:
        """A copy of every episode's current observation, ``float32[n, fields]``."""
        return np.stack([episode.observation for episode in self.episodes])

    def action_masks(self, exclude_tried: bool) -> np.ndarray:
        """Every episode's mask, ``bool[n, choices]``."""
        return np.stack([episode.action_mask(exclude_tried) for episode in self.episodes])

    def action_mask(self, index: int, exclude_tried: bool) -> np.ndarray:
        """One episode's mask, ``bool[choices]``."""
        return self.episodes[index].action_mask(exclude_tried)

    def schedule(self, index: int) -> Prefix:
        """The options that an episode has chosen so far."""
        return self.episodes[index].schedule()

    def space(self, index: int) -> ScheduleSpace:
        """The space of an episode."""
        return self.episodes[index].space
