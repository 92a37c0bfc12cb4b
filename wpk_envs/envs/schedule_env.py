"""`ScheduleEnv`: schedule search as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from wpk_envs.envs.batch import ScheduleBatch
from wpk_envs.envs.formulation import Episode
from wpk_envs.envs.render import schedule_text
from wpk_envs.envs.suite import Suite
from wpk_envs.tuning import TuningProblem


class ScheduleEnv(gym.Env[np.ndarray, Any]):
    """A view of a tuning problem: actions set schedule knobs, the reward is measured (or predicted) speedup.

    The observation is documented in `wpk_envs.envs.observation`, actions, rewards and ends of an
    episode in the formulation's class, and the info of measured steps in
    `wpk_envs.envs.formulation.describe`.

    Args:
        problem: What is tuned, or a suite of that; other environments may share it.
        formulation: ``"construct"``, ``"one_shot"`` or ``"refine"``.
        render_mode: ``"ansi"`` or none.

    Raises:
        UserError: If there is no such formulation.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium's declaration)
        "render_modes": ["ansi"],
        "render_fps": 4,
    }

    def __init__(
        self,
        problem: TuningProblem | Suite,
        formulation: str = "construct",
        render_mode: str | None = None,
    ) -> None:
        self.problem = problem
        self.render_mode = render_mode
        self._batch = ScheduleBatch(problem, formulation, num_envs=1)
        self.on_close: Callable[[], None] | None = None
        """Called once by `close`: releases what was opened for this environment alone."""
        self.action_space = self._batch.formulation.action_space
        self.observation_space = self._batch.formulation.observer.box

    @property
    def _episode(self) -> Episode:
        return self._batch.episodes[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: For `refine`'s start config and a suite's operators; nothing else is drawn.
            options: For `refine`: ``{"config": {...}}`` starts from that config.

        Returns:
            The observation and the info, which is empty unless the formulation measures a start config, or an
            operator of a suite was drawn.
        """
        super().reset(seed=seed)
        infos = self._batch.reset(self.np_random, options)
        return self._episode.observation.copy(), infos[0]

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take an action; measuring happens here, where the action completes a config."""
        outcome = self._batch.step([action], self.np_random, autoreset=False).outcomes[0]
        return (
            self._episode.observation.copy(),
            outcome.reward,
            outcome.terminated,
            outcome.truncated,
            outcome.info,
        )

    def action_masks(self, exclude_tried: bool = False) -> np.ndarray:
        """Actions that can lead to a valid config, ``bool[choices]``.

        Args:
            exclude_tried: Also leave out what leads to configs tried in this run alone, as long as
                anything else is left.
        """
        return self._episode.action_mask(exclude_tried)

    def render(self) -> str | None:
        """The schedule so far as text; for a complete config also its TensorIR script (imports TVM)."""
        if self.render_mode != "ansi":
            return None
        return schedule_text(self._batch.space(0), self._episode.schedule())

    def close(self) -> None:
        """Release what was opened for this environment; safe to call twice."""
        if self.on_close is not None:
            on_close, self.on_close = self.on_close, None
            on_close()
