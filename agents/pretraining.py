"""Train one policy on many recorded operators, so that it knows where to look on others.

Two phases, either of which may be left out. *Imitation* is advantage-weighted regression (Peng et al.,
arXiv 1910.00177): the policy is fitted to choose configs in proportion to exp(reward / temperature). Since a table
has every config, that distribution is known exactly at every knob, and no return needs to be sampled. *PPO* then
plays episodes of `wpk_envs.envs.suite.Suite`, rewards made comparable between operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy

import wpk_envs
from agents.landscapes import Landscape
from agents.policies import Policy
from agents.ranking import ranked
from agents.relative_reward import RelativeReward
from agents.torch_setup import small_torch
from wpk_envs.envs.observation import Observer, fields
from wpk_envs.envs.sb3 import SB3ScheduleVecEnv
from wpk_envs.envs.suite import Suite
from wpk_envs.errors import UserError
from wpk_envs.schedules.space import INVALID_NODE
from wpk_envs.tuning import Budget, TuningProblem

CHUNK = 50
"""Gradient steps of imitation between two reports."""

N_ENVS = 64
RANKED = 512
"""Configs of the ranking that a policy's file keeps."""


@dataclass
class Recipe:
    """How a policy is trained.

    Attributes:
        imitation: Gradient steps of imitation.
        temperature: Difference of log speedups at which a config is imitated e times less than a better one.
        batch: Decisions per gradient step.
        learning_rate: Adam's step size at the start of imitation; it falls to 0 along half a cosine.
        noise: Standard deviation of what is added to the operator's features, so that the policy does not learn the
            operators by heart.
        hidden: Width of the two hidden layers.
        steps: Environment steps of PPO.
        ppo_learning_rate: Its step size.
        ent_coef: Its weight of the entropy bonus.
    """

    imitation: int = 500
    temperature: float = 0.03
    batch: int = 512
    learning_rate: float = 3e-3
    noise: float = 0.3
    hidden: int = 64
    steps: int = 0
    ppo_learning_rate: float = 3e-4
    ent_coef: float = 0.02

    def check(self) -> None:
        """Raise `UserError` for values that cannot be."""
        for name, value in asdict(self).items():
            positive = name in ("batch", "hidden", "temperature")
            if value < 0 or (positive and not value):
                raise UserError(f"{name} must be {'greater than 0' if positive else '0 or more'}, not {value}")
        if not self.imitation + self.steps:
            raise UserError("imitation and steps are both 0, so nothing would be learnt; give one of them a number")


class Pretraining:
    """The training of one policy; `run` it, then take its `policy`.

    Args:
        chosen: What it is trained on.
        recipe: How.
        seed: Of every random choice.
    """

    def __init__(self, chosen: Sequence[Landscape], recipe: Recipe, seed: int) -> None:
        self.chosen = list(chosen)
        self.recipe = recipe
        self.seed = seed
        self._space = self.chosen[0].space
        self._done = {"imitation": 0, "steps": 0}
        with small_torch(seed):
            self._network = MaskableActorCriticPolicy(
                Observer(self._space).box,
                spaces.Discrete(self._space.encoding.width),
                lambda _: recipe.learning_rate,
                net_arch=[recipe.hidden, recipe.hidden],
            )

    @property
    def length(self) -> int:
        """How many reports `run` makes."""
        rollout = N_ENVS * self._space.length
        return -(-self.recipe.imitation // CHUNK) + -(-self.recipe.steps // rollout)

    def run(self) -> Iterator[str]:
        """Train, and say how it goes at every report; whoever stops early has what was learnt until then."""
        with small_torch(self.seed):
            if self.recipe.imitation:
                yield from self._imitate()
            if self.recipe.steps:
                yield from self._play()

    def _imitate(self) -> Iterator[str]:
        recipe, rng = self.recipe, np.random.default_rng(self.seed)
        lessons = Lessons(self.chosen, recipe.temperature)
        optimizer = torch.optim.Adam(self._network.parameters(), lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.imitation)
        for step in range(1, recipe.imitation + 1):
            observations, masks, targets = lessons.draw(rng, recipe.batch, recipe.noise)
            network: Any = self._network  # its annotations say that masks are NumPy's; tensors are taken, too
            choices = network.get_distribution(observations, masks).distribution
            loss = -(targets * choices.logits).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            self._done["imitation"] = step
            if step % CHUNK == 0 or step == recipe.imitation:
                yield f"imitation, cross-entropy {loss.item():.3f}"

    def _play(self) -> Iterator[str]:
        """Improve by PPO."""
        problems = {
            each.name: TuningProblem(each.operator, each.device, each.space, budget=Budget(trials=None))
            for each in self.chosen
        }
        env = RelativeReward(SB3ScheduleVecEnv(Suite(problems), N_ENVS), self.chosen)
        env.seed(self.seed)
        rollout = self._space.length
        model = MaskablePPO(
            "MlpPolicy",
            env,
            n_steps=rollout,
            batch_size=N_ENVS * rollout,
            n_epochs=4,
            learning_rate=self.recipe.ppo_learning_rate,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=self.recipe.ent_coef,
            policy_kwargs={"net_arch": [self.recipe.hidden, self.recipe.hidden]},
            seed=self.seed,
            device="cpu",
        )
        model.policy.load_state_dict(self._network.state_dict())
        self._network = model.policy
        while self._done["steps"] < self.recipe.steps:
            model.learn(N_ENVS * rollout, reset_num_timesteps=False)
            self._done["steps"] = model.num_timesteps
            yield f"PPO, mean quantile {env.mean:.3f}"

    def policy(self) -> Policy:
        """What has been learnt."""
        device, encoding = self._space.device, self._space.encoding
        weights = {name: array.detach().numpy().copy() for name, array in self._network.state_dict().items()}
        facts = {
            "encoding": [encoding.device_kind, encoding.version],
            "fields": fields(self._space),
            "hidden": self.recipe.hidden,
            "operators": {each.name: each.operator.to_dict() for each in self.chosen},
            "tables": {each.name: each.table for each in self.chosen},
            "recipe": asdict(self.recipe),
            "done": dict(self._done),
            "seed": self.seed,
            "device_name": device.name,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": {"wpk_envs": wpk_envs.__version__, **device.versions},
        }
        return Policy(weights, ranked(self.chosen)[:RANKED], facts)


class Lessons:
    """What to choose at every knob of every operator, and how often one comes there.

    Knobs with one allowed option teach nothing and are left out. All operators have the same weight.

    Args:
        chosen: The operators.
        temperature: See `Recipe`.
    """

    def __init__(self, chosen: Sequence[Landscape], temperature: float) -> None:
        parts = [_lessons(each, temperature) for each in chosen]
        self._observations, self._masks, self._targets = (
            torch.as_tensor(np.concatenate([part[k] for part in parts])) for k in range(3)
        )
        visits = np.concatenate([part[3] / part[3].sum() for part in parts])
        self._cumulated = np.cumsum(visits) / len(parts)
        names = fields(chosen[0].space)
        self._features = torch.tensor([place for place, name in enumerate(names) if name.startswith("operator.")])

    def draw(self, rng: np.random.Generator, count: int, noise: float) -> tuple[torch.Tensor, ...]:
        """Decisions as often as they occur: observations, masks and what to choose, a row each."""
        places = np.searchsorted(self._cumulated, rng.random(count) * self._cumulated[-1])
        chosen = torch.as_tensor(places)
        observations = self._observations[chosen]
        blurred = torch.as_tensor(rng.normal(scale=noise, size=(count, len(self._features))), dtype=torch.float32)
        observations[:, self._features] += blurred
        return observations, self._masks[chosen], self._targets[chosen]


def _lessons(landscape: Landscape, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Observations, masks, probabilities of every option and of coming there, of all nodes with a choice."""
    tree = landscape.tree
    worth = np.exp((landscape.rewards - landscape.rewards.max()) / temperature)
    below = np.zeros(len(tree.depth))
    np.add.at(below, tree.paths, (worth / worth.sum())[:, None])
    masks = tree.children != INVALID_NODE
    choice = masks.sum(1) > 1
    targets = np.where(masks, below[tree.children], 0.0)[choice]
    targets /= np.maximum(targets.sum(1, keepdims=True), np.finfo(float).tiny)
    return tree.observations[choice], masks[choice], targets.astype(np.float32), below[choice]
