"""PPO proposes, a cost model screens, the device measures the most promising few.

The idea is Chameleon's (Ahn et al., ICLR 2020, arXiv 2001.08743): a policy trained by PPO on a cost model's
predictions explores, and a selection of what it proposes is measured. Here the policy sets knob by knob in the
``construct`` environment, one update follows every batch of measurements, and the selection takes the best
predicted proposals, with a share of random configs; Chameleon clusters its proposals and measures the centroids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from agents.masked_ppo import ENDLESS, MaskedPPO, UntilDone
from agents.moves import draw, new
from agents.torch_setup import small_torch
from wpk_envs.core import Measurement
from wpk_envs.envs.sb3 import SB3ScheduleVecEnv
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import TuningProblem

if TYPE_CHECKING:
    from agents.cost_model import CostModel


@dataclass
class PPOScreened(MaskedPPO):
    """MaskablePPO on ``n_envs`` proposals per update, of which ``batch`` configs are measured.

    The policy is paid the reward of proposals that were measured, the predicted reward of the others.

    Attributes:
        batch: Configs measured between two updates.
        epsilon: Share of the trials that is random.
        trees: Trees of the cost model.
        model_learning_rate: The cost model's step size.
    """

    name: ClassVar[str] = "ppo_screened"
    n_envs: int = 64
    batch: int = 8
    epsilon: float = 0.1
    trees: int = 50
    model_learning_rate: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, math.inf, "batch", "trees")
        self.check(0, 1, "epsilon")
        self.check(1e-6, math.inf, "model_learning_rate")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Measure a random batch, then propose, screen, measure and update until the budget is spent."""
        # Every program reads the settings above; importing scikit-learn takes time that only this one must spend.
        from agents.cost_model import CostModel

        screen = Screen(self, problem, CostModel(problem.space, self.trees, self.model_learning_rate), seed)
        screen.start()
        with small_torch(seed):
            env = SB3ScheduleVecEnv(problem, self.n_envs, exclude_tried=True, measure=screen)
            self.new_model(env, problem.space.length, seed).learn(ENDLESS, callback=UntilDone(problem))


class Screen:
    """Answers proposals: those that the cost model ranks first with measurements, the others with predictions."""

    def __init__(self, settings: PPOScreened, problem: TuningProblem, model: CostModel, seed: int) -> None:
        self._settings = settings
        self._problem = problem
        self._model = model
        self._rng = np.random.default_rng(seed)
        self._known: dict[Prefix, Measurement] = {}
        self._rewards: dict[Prefix, float] = {}

    def start(self) -> None:
        """Measure random configs, for the model to learn from."""
        self._measure(draw(self._problem, self._rng, self._settings.batch))

    def __call__(self, proposals: Sequence[Prefix]) -> list[Measurement | None]:
        """Learn from all trials, measure a batch, answer every proposal."""
        self._model.fit(self._rewards)
        self._measure(self._chosen(proposals))
        predictions = self._model.predict(proposals)
        return [self._known.get(vector) or _predicted(reward) for vector, reward in zip(proposals, predictions)]

    def _chosen(self, proposals: Sequence[Prefix]) -> list[Prefix]:
        batch = self._settings.batch
        exploring = self._rng.binomial(batch, self._settings.epsilon)
        chosen = self._model.ranked(new(proposals, self._known))[: batch - exploring]
        return [*chosen, *new(draw(self._problem, self._rng, batch), chosen)][:batch]

    def _measure(self, vectors: Sequence[Prefix]) -> None:
        for vector, measurement in zip(vectors, self._problem.measure(vectors)):
            if measurement is not None:
                self._known[vector] = measurement
                self._rewards[vector] = self._problem.reward(measurement)


def _predicted(reward: float) -> Measurement:
    return Measurement(predicted_latency_us=1.0, predicted_baseline_us=math.exp(reward))
