"""Start from what was learnt on other operators: a pretrained policy proposes, and learns on from what it gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from sb3_contrib import MaskablePPO

from agents.base import Agent
from agents.policies import Policy, find, load
from agents.ppo import PPO
from agents.ranking import valid_ones
from agents.torch_setup import small_torch
from wpk_envs.envs.sb3 import SB3ScheduleVecEnv
from wpk_envs.tuning import TuningProblem


@dataclass
class Transfer(Agent):
    """The best on average elsewhere first, then a pretrained policy without replacement, fine-tuned as `PPO` trains.

    Attributes:
        policy: A policy of the package, a file, or a folder of files (`agents.policies.load`).
        unseen: Whether of a folder one is taken that was not trained on the operator.
        ranked: Configs that are tried before the policy proposes any: those that were best on average in its
            training tables.
        zero_shot: Never update: what the policy knows before it has seen anything of the operator.
        n_envs: Proposals, and so new configs, per update.
        n_epochs: Passes over the episodes of an update.
        learning_rate: Adam's step size, for PPO and for cloning.
        ent_coef: Weight of the entropy bonus.
        clone: How many of the best configs are imitated between updates; 0 for none.
    """

    name: ClassVar[str] = "transfer"
    policy: str = "epyc_suite"
    unseen: bool = True
    ranked: int = 8
    zero_shot: bool = False
    n_envs: int = 8
    n_epochs: int = 4
    learning_rate: float = 1e-3
    ent_coef: float = 0.01
    clone: int = 5

    def __post_init__(self) -> None:
        self.check(1, math.inf, "n_envs", "n_epochs")
        self.check(0, math.inf, "ranked", "learning_rate", "ent_coef", "clone")
        find(self.policy)

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Try what was best elsewhere, then propose until the budget is spent."""
        policy = load(self.policy, problem.space, self.unseen)
        policy.check_fits(problem.space)
        self.knowledge = {
            "policy": self.policy,
            "operators": list(policy.names),
            "has_seen_operator": policy.has_seen(problem.operator),
        }
        problem.measure(valid_ones(problem, policy.ranking)[: self.ranked])
        if problem.done:
            return
        learner = PPO(
            n_envs=self.n_envs,
            n_epochs=self.n_epochs,
            learning_rate=self.learning_rate,
            ent_coef=self.ent_coef,
            clone=self.clone,
            hidden=policy.hidden,
        )
        if self.zero_shot:
            _propose(problem, learner, policy, seed)
        else:
            learner.improve(problem, seed, policy.put_into)


def _propose(problem: TuningProblem, learner: PPO, policy: Policy, seed: int) -> None:
    """Sample configs that were not tried until the budget is spent, learning nothing."""
    with small_torch(seed):
        env = SB3ScheduleVecEnv(problem, learner.n_envs, exclude_tried=True)
        model: MaskablePPO = learner.new_model(env, problem.space.length, seed)
        policy.put_into(model)
        observations: Any = env.reset()
        while not problem.done:
            masks = env.batch.action_masks(exclude_tried=True)
            actions, _ = model.predict(observations, action_masks=masks)
            observations, *_ = env.step(actions)
