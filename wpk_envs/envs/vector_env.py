"""`ScheduleVectorEnv`: many episodes of one tuning problem, measured together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from wpk_envs.envs.render import schedule_text
from wpk_envs.envs.replay import open_batch
from wpk_envs.envs.suite import Suite
from wpk_envs.tuning import TuningProblem


class ScheduleVectorEnv(gym.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`ScheduleEnv` natively batched: configs completed in the same step are measured as one batch.

    Over recorded tables the ``construct`` formulation runs in arrays, at a million steps a second and more with
    large batches.

    An episode that ends starts over in the same step (``AutoresetMode.SAME_STEP``): the observation is
    the new episode's, the old one's last observation and info are in ``infos["final_obs"]`` and
    ``infos["final_info"]``.

    Args:
        problem: What is tuned, or a suite of that, shared by all sub-environments with its budget and trials.
        num_envs: Number of sub-environments.
        formulation: ``"construct"``, ``"one_shot"`` or ``"refine"``.
        render_mode: ``"ansi"`` or none.

    Raises:
        UserError: If there is no such formulation.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium's declaration)
        "render_modes": ["ansi"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        problem: TuningProblem | Suite,
        num_envs: int,
        formulation: str = "construct",
        render_mode: str | None = None,
    ) -> None:
        self.problem = problem
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._batch = open_batch(problem, formulation, num_envs)
        self.on_close: Callable[[], None] | None = None
        """Called once by `close`: releases what was opened for this environment alone."""
        self.single_action_space = self._batch.formulation.action_space
        self.single_observation_space = self._batch.formulation.observer.box
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start all episodes; see `ScheduleEnv.reset`. One seed serves all sub-environments."""
        super().reset(seed=seed)
        infos: dict[str, Any] = {}
        for i, info in self._batch.reset(self.np_random, options).items():
            infos = self._add_info(infos, info, i)
        return self._batch.observations(), infos

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all episodes; those that end start over at once."""
        step = self._batch.step(actions, self.np_random, autoreset=True)
        infos = step.vector_infos(self._add_info)
        return step.observations, step.rewards, step.terminated, step.truncated, infos

    def action_masks(self, exclude_tried: bool = False) -> np.ndarray:
        """Every sub-environment's `ScheduleEnv.action_masks`, ``bool[num_envs, choices]``."""
        return self._batch.action_masks(exclude_tried)

    def render(self) -> tuple[str, ...] | None:
        """Every sub-environment's schedule so far as text."""
        if self.render_mode != "ansi":
            return None
        return tuple(schedule_text(self._batch.space(i), self._batch.schedule(i)) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Release what was opened for this environment."""
        if self.on_close is not None:
            self.on_close()
