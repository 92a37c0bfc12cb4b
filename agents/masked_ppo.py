"""What the agents share that train sb3-contrib's MaskablePPO: its settings, and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.base import Agent
from wpk_envs.tuning import TuningProblem

ENDLESS = 10**12
"""Time steps given to SB3's learn: the tuning problem's budget ends it."""


@dataclass
class MaskedPPO(Agent):
    """MaskablePPO in small updates: every rollout is one minibatch.

    Attributes:
        n_envs: Episodes at a time.
        n_epochs: Passes over the steps of an update.
        learning_rate: Adam's step size.
        ent_coef: Weight of the entropy bonus.
        clip_range: PPO's clipping of the policy ratio.
        hidden: Width of the two hidden layers of policy and value.
    """

    n_envs: int = 8
    n_epochs: int = 4
    learning_rate: float = 3e-3
    ent_coef: float = 0.01
    clip_range: float = 0.2
    hidden: int = 64

    def __post_init__(self) -> None:
        self.check(1, math.inf, "n_envs", "n_epochs", "hidden")
        self.check(0, math.inf, "learning_rate", "ent_coef", "clip_range")

    def new_model(self, env: VecEnv, n_steps: int, seed: int) -> MaskablePPO:
        """A new policy and its learner, which updates after every ``n_steps`` steps of all environments."""
        return MaskablePPO(
            "MlpPolicy",
            env,
            n_steps=n_steps,
            batch_size=n_steps * env.num_envs,
            n_epochs=self.n_epochs,
            learning_rate=self.learning_rate,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=self.ent_coef,
            clip_range=self.clip_range,
            policy_kwargs={"net_arch": [self.hidden, self.hidden]},
            seed=seed,
            device="cpu",
        )


class UntilDone(BaseCallback):
    """Ends training when the tuning problem's budget is spent."""

    def __init__(self, problem: TuningProblem) -> None:
        super().__init__()
        self.problem = problem

    def _on_step(self) -> bool:
        return not self.problem.done
