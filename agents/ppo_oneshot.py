"""PPO on ``one_shot``: the whole config in one action, as a bandit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.callbacks import BaseCallback

from agents.base import Agent
from agents.torch_setup import small_torch
from wpk_envs.envs.sb3 import SB3ScheduleVecEnv
from wpk_envs.tuning import TuningProblem

ENDLESS = 10**12
"""Time steps given to SB3's learn: the tuning problem's budget ends it."""


@dataclass
class PPOOneShot(Agent):
    """Stable-Baselines3's PPO with its defaults, except for the size of an update.

    It must learn by trial which combinations are valid, since masks cannot express that here. Invalid
    requests cost no trial, but a run ends after 50 requests per trial.

    Attributes:
        n_envs: Configs asked for at a time.
        n_steps: Batches per update.
        n_epochs: Passes over the configs of an update.
        learning_rate: Adam's step size.
        ent_coef: Weight of the entropy bonus.
    """

    name: ClassVar[str] = "ppo_oneshot"
    n_envs: int = 8
    n_steps: int = 8
    n_epochs: int = 10
    learning_rate: float = 3e-4
    ent_coef: float = 0.0

    def __post_init__(self) -> None:
        self.check(1, math.inf, "n_envs", "n_epochs")
        self.check(2, math.inf, "n_steps")
        self.check(0, math.inf, "learning_rate", "ent_coef")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Train until the budget is spent."""
        with small_torch(seed):
            model = SB3PPO(
                "MlpPolicy",
                SB3ScheduleVecEnv(problem, self.n_envs, "one_shot"),
                n_steps=self.n_steps,
                batch_size=self.n_steps * self.n_envs,
                n_epochs=self.n_epochs,
                learning_rate=self.learning_rate,
                ent_coef=self.ent_coef,
                seed=seed,
                device="cpu",
            )
            model.learn(ENDLESS, callback=UntilDone(problem))


class UntilDone(BaseCallback):
    """Ends training when the tuning problem's budget is spent."""

    def __init__(self, problem: TuningProblem) -> None:
        super().__init__()
        self._problem = problem

    def _on_step(self) -> bool:
        return not self._problem.done
