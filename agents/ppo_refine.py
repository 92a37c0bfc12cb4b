"""PPO on ``refine``: a policy that improves a config move by move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from agents.masked_ppo import ENDLESS, MaskedPPO, UntilDone
from agents.torch_setup import small_torch
from wpk_envs.envs.sb3 import SB3ScheduleVecEnv
from wpk_envs.tuning import TuningProblem


@dataclass
class PPORefine(MaskedPPO):
    """MaskablePPO on the ``refine`` environment, with masks that leave out tried configs while a new one is near.

    Every move measures a config and is paid the change in log speedup, so an episode's sum is what it gained over
    its random start.

    Attributes:
        n_steps: Moves of every episode per update.
    """

    name: ClassVar[str] = "ppo_refine"
    n_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(2, math.inf, "n_steps")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Train until the budget is spent."""
        with small_torch(seed):
            env = SB3ScheduleVecEnv(problem, self.n_envs, "refine", exclude_tried=True)
            self.new_model(env, self.n_steps, seed).learn(ENDLESS, callback=UntilDone(problem))
