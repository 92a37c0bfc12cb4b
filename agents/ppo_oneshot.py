"""PPO on ``one_shot``: the whole config in one action, as a bandit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from agents.masked_ppo import ENDLESS, MaskedPPO, UntilDone
from agents.torch_setup import small_torch
from wpk_envs.envs.sb3 import SB3ScheduleVecEnv
from wpk_envs.tuning import TuningProblem


@dataclass
class PPOOneShot(MaskedPPO):
    """MaskablePPO with sb3-contrib's defaults, except for the size of an update.

    Masks leave out options that no valid config has. Which combinations of the others are valid it must learn
    by trial, since masks cannot express that here. Invalid requests cost no trial, but a run ends after 50
    requests per trial.

    Attributes:
        n_steps: Batches of ``n_envs`` configs per update.
    """

    name: ClassVar[str] = "ppo_oneshot"
    n_epochs: int = 10
    learning_rate: float = 3e-4
    ent_coef: float = 0.0
    n_steps: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(2, math.inf, "n_steps")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Train until the budget is spent."""
        with small_torch(seed):
            env = SB3ScheduleVecEnv(problem, self.n_envs, "one_shot")
            self.new_model(env, self.n_steps, seed).learn(ENDLESS, callback=UntilDone(problem))
