"""PPO with masks on ``construct``, made for small budgets.

Four things distinguish it from SB3-contrib's MaskablePPO with its default settings:

- **Small updates.** One after every ``n_envs`` episodes, so that 128 trials give 16 updates.
- **Risk-seeking reward.** What counts in a search is the best config, not the average one. A terminal
  reward is how far it exceeds the (1 - ``top``) quantile of all trials so far, 0 below it, in the spirit
  of risk-seeking policy gradients (Petersen et al., arXiv 1912.04871).
- **Masks without replacement.** Options below which everything was tried are masked out, so a policy
  that has settled on a config goes on to its neighbours in place of asking again.
- **Cloning.** Between updates the policy imitates the ``clone`` best configs found so far.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from agents.masked_ppo import ENDLESS, MaskedPPO, UntilDone
from agents.torch_setup import small_torch
from wpk_envs.envs.construct import Construct
from wpk_envs.envs.sb3 import SB3ScheduleVecEnv
from wpk_envs.errors import UserError
from wpk_envs.tuning import TuningProblem


@dataclass
class PPO(MaskedPPO):
    """MaskablePPO on the ``construct`` environment: ``n_envs`` episodes, and so new configs, per update.

    Attributes:
        top: Share of the trials so far that is rewarded.
        clone: How many of the best configs are imitated between updates; 0 for none.
        clone_steps: Gradient steps of imitation between updates.
        policy: File of a policy saved by `save`, to start from; none starts anew.
    """

    name: ClassVar[str] = "ppo"
    top: float = 0.2
    clone: int = 5
    clone_steps: int = 2
    policy: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, math.inf, "clone", "clone_steps")
        self.check(0, 1, "top")
        if self.policy is not None and not Path(self.policy).is_file():
            raise UserError(
                f"algo.policy='{self.policy}' is no file; give one that an earlier run's policy was saved to"
            )

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Train until the budget is spent; the policy is kept for `save`."""
        self.improve(problem, seed, self._load)

    def improve(self, problem: TuningProblem, seed: int, prepare: Callable[[MaskablePPO], None]) -> None:
        """Train a model that ``prepare`` may give weights to, until the budget is spent."""
        with small_torch(seed):
            env = RiskSeekingReward(SB3ScheduleVecEnv(problem, self.n_envs, exclude_tried=True), problem, self.top)
            self._model = self.new_model(env, problem.space.length, seed)
            prepare(self._model)
            self._model.learn(ENDLESS, callback=Between(self, problem))

    def save(self, path: str | Path) -> None:
        """Write the trained policy as SB3's zip file; `tune` first."""
        self._model.save(path)

    def _load(self, model: MaskablePPO) -> None:
        """Take over the policy's weights if one was given; nothing else of its file is read, in particular no code."""
        if self.policy is None:
            return
        try:
            model.set_parameters(self.policy, device="cpu")
        except (ValueError, RuntimeError, KeyError) as error:
            raise UserError(f"algo.policy='{self.policy}' does not fit this network: {error}") from error


class RiskSeekingReward(VecEnvWrapper):
    """Replaces terminal rewards by their excess over a quantile of all trials so far."""

    def __init__(self, venv: VecEnv, problem: TuningProblem, top: float) -> None:
        super().__init__(venv)
        self._problem = problem
        self._top = top

    def reset(self) -> VecEnvObs:
        """Start all episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and replace the rewards of the episodes that ended."""
        observations, rewards, dones, infos = self.venv.step_wait()
        if dones.any() and self._problem.trials:
            excess = np.maximum(rewards - np.quantile(self._problem.rewards, 1 - self._top), 0.0)
            rewards = np.where(dones, excess, rewards).astype(np.float32)
        return observations, rewards, dones, infos


class Between(UntilDone):
    """What happens between updates: cloning, and the end when the budget is spent."""

    def __init__(self, settings: PPO, problem: TuningProblem) -> None:
        super().__init__(problem)
        self._settings = settings
        self._demonstrate = functools.cache(Construct(problem).demonstrate)

    def _on_rollout_start(self) -> None:
        trials = zip(self.problem.rewards, self.problem.trials)
        best = sorted((-reward, trial.vector) for reward, trial in trials if trial.measurement.error is None)
        if self._settings.clone and best:
            self._imitate([vector for _, vector in best[: self._settings.clone]])

    def _imitate(self, vectors: list[tuple[int, ...]]) -> None:
        demonstrations: list[Any] = [self._demonstrate(vector) for vector in vectors]
        observations, masks, actions = (torch.as_tensor(np.concatenate(part)) for part in zip(*demonstrations))
        policy = self.model.policy
        for _ in range(self._settings.clone_steps):
            log_prob = policy.get_distribution(observations, masks).log_prob(actions)  # type: ignore
            policy.optimizer.zero_grad()
            (-log_prob.mean()).backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            policy.optimizer.step()
