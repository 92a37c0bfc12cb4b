"""Rewards that mean the same on every operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from agents.landscapes import Landscape


class RelativeReward(VecEnvWrapper):
    """Replaces the terminal rewards of a suite by the share of the operator's recorded configs that are no better.

    Speedups over the vendor's best differ between operators by their template, far more than by what an agent does:
    without this the policy is paid for the operator that was drawn.

    Args:
        venv: Episodes of a suite whose info names the operator.
        landscapes: What is recorded of each.

    Attributes:
        mean: Of the rewards of the episodes that ended last.
    """

    def __init__(self, venv: VecEnv, landscapes: Sequence[Landscape]) -> None:
        super().__init__(venv)
        self._sorted = {each.name: np.sort(each.rewards) for each in landscapes}
        self.mean = 0.0

    def reset(self) -> VecEnvObs:
        """Start all episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and replace the rewards of the episodes that ended."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for place in np.flatnonzero(dones):
            known = self._sorted[infos[place]["operator"]]
            rewards[place] = np.searchsorted(known, rewards[place] + 1e-6) / len(known)
        if dones.any():
            self.mean = float(rewards[dones].mean())
        return observations, rewards, dones, infos
