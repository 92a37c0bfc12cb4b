"""`SB3ScheduleVecEnv`: the native batch as Stable-Baselines3 wants it (imports SB3 and torch)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from wpk_envs.envs.batch import MeasureBatch
from wpk_envs.envs.render import schedule_text
from wpk_envs.envs.replay import open_batch
from wpk_envs.envs.suite import Suite
from wpk_envs.tuning import TuningProblem

Indices = int | Iterable[int] | None


class SB3ScheduleVecEnv(VecEnv):
    """Many episodes of one tuning problem or of a suite, measured together, behind SB3's interface.

    SB3 does not take Gymnasium's vector environments. An ended episode starts over in the same step, its
    last observation is in ``info["terminal_observation"]``. `action_masks` is found by sb3-contrib's
    maskable algorithms.

    Args:
        problem: What is tuned, or a suite of that.
        num_envs: Number of episodes at a time.
        formulation: ``"construct"``, ``"one_shot"`` or ``"refine"``.
        exclude_tried: Whether masks leave out what was tried in this run.
        render_mode: ``"ansi"`` or none.
        measure: Answers the configs of a step in place of ``problem.measure``, for agents that measure only some.
    """

    def __init__(
        self,
        problem: TuningProblem | Suite,
        num_envs: int,
        formulation: str = "construct",
        exclude_tried: bool = False,
        render_mode: str | None = None,
        measure: MeasureBatch | None = None,
    ) -> None:
        self.problem = problem
        self.batch = open_batch(problem, formulation, num_envs, measure)
        self.exclude_tried = exclude_tried
        self.render_mode = render_mode
        self._rng = np.random.default_rng()
        self._actions: np.ndarray = np.zeros(0)
        super().__init__(num_envs, self.batch.formulation.observer.box, self.batch.formulation.action_space)

    def reset(self) -> np.ndarray:
        """Start all episodes; see `ScheduleEnv.reset`. The first of the seeds set by `seed` serves all."""
        if self._seeds[0] is not None:
            self._rng = np.random.default_rng(self._seeds[0])
        infos = self.batch.reset(self._rng, self._options[0])
        self.reset_infos = [infos[i] for i in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return self.batch.observations()

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all episodes; those that end start over at once."""
        step = self.batch.step(self._actions, self._rng, autoreset=True)
        infos, resets = step.info_list()
        for i, info in resets.items():
            self.reset_infos[i] = info
        return step.observations, step.rewards.astype(np.float32), step.terminated | step.truncated, infos

    def action_masks(self, index: int) -> np.ndarray:
        """One episode's mask, ``bool[choices]``."""
        return self.batch.action_mask(index, self.exclude_tried)

    def render_text(self, index: int) -> str:
        """One episode's schedule so far as text."""
        return schedule_text(self.batch.space(index), self.batch.schedule(index))

    def close(self) -> None:
        """Release nothing: the problem and its device belong to the caller."""

    def env_method(self, method_name: str, *args: Any, indices: Indices = None, **kwargs: Any) -> list[Any]:
        """Call ``action_masks`` or ``render`` of sub-environments.

        Raises:
            AttributeError: For any other method.
        """
        if method_name == "action_masks" and indices is None:
            return list(self.batch.action_masks(self.exclude_tried))
        methods = {"action_masks": self.action_masks, "render": self.render_text}
        if method_name not in methods:
            raise AttributeError(f"schedule environments have no method {method_name}, only {', '.join(methods)}")
        return [methods[method_name](i, *args, **kwargs) for i in self._get_indices(indices)]

    def has_attr(self, attr_name: str) -> bool:
        """Whether sub-environments have an attribute or a method of that name."""
        return attr_name in ("action_masks", "render", "render_mode", "problem")

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute that all sub-environments share.

        Raises:
            AttributeError: If they have no such attribute.
        """
        if not self.has_attr(attr_name):
            raise AttributeError(f"schedule environments have no attribute {attr_name}")
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Refuse: sub-environments share one problem and have nothing of their own to set."""
        raise AttributeError(f"schedule environments have no attribute {attr_name} to set")

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Always false: there are no single environments to wrap."""
        return [False for _ in self._get_indices(indices)]
