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
    by trial, since masks cannot express that here. Invalid requests cost no trial. A policy that has settled asks
    for nothing new any more: the search ends after ``patience`` updates without a new config.

    Attributes:
        n_steps: Batches of ``n_envs`` configs per update.
        patience: Updates in a row without a new config that end the search.
    """

    name: ClassVar[str] = "ppo_oneshot"
    n_epochs: int = 10
    learning_rate: float = 3e-4
    ent_coef: float = 0.0
    n_steps: int = 8
    patience: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(2, math.inf, "n_steps")
        self.check(1, math.inf, "patience")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Train until the budget is spent, or the policy has settled."""
        with small_torch(seed):
            env = SB3ScheduleVecEnv(problem, self.n_envs, "one_shot")
            self.new_model(env, self.n_steps, seed).learn(ENDLESS, callback=UntilSettled(problem, self.patience))


class UntilSettled(UntilDone):
    """Ends training when the budget is spent, or when so many updates in a row have brought no new config."""

    def __init__(self, problem: TuningProblem, patience: int) -> None:
        super().__init__(problem)
        self._patience = patience
        self._idle, self._trials = 0, -1

    def _on_rollout_start(self) -> None:
        trials = len(self.problem.trials)
        self._idle = self._idle + 1 if trials == self._trials else 0
        self._trials = trials

    def _on_step(self) -> bool:
        return self._idle < self._patience and super()._on_step()
