"""Landscapes of the synthetic device, so that tests of learning from them need no tables."""

from __future__ import annotations

import numpy as np

from agents.landscapes import Landscape
from agents.pretraining import Pretraining, Recipe
from tests.synthetic import SyntheticDevice, medium_space, tiny_space
from wpk_envs.operators import Conv2d
from wpk_envs.schedules.space import ScheduleSpace

QUICK = Recipe(imitation=30, batch=64, hidden=8)


def landscape(space: ScheduleSpace, height: int = 28, seed: int = 0) -> Landscape:
    """All configs of a synthetic space, as if they had been recorded of a convolution of that height."""
    space.operator = Conv2d(height=height)
    device = SyntheticDevice(seed)
    vectors = list(space)
    rewards = [answer.reward for answer in device.measure([space.candidate(vector) for vector in vectors])]
    return Landscape(f"conv{height}", space, np.array(vectors, dtype=np.uint8), np.array(rewards), device)


def tiny(height: int = 28, seed: int = 0) -> Landscape:
    return landscape(tiny_space(), height, seed)


def medium(height: int = 28, seed: int = 0) -> Landscape:
    return landscape(medium_space(), height, seed)


def pretrained(*chosen: Landscape, recipe: Recipe = QUICK, seed: int = 0) -> Pretraining:
    """A finished training."""
    training = Pretraining(chosen, recipe, seed)
    assert len(list(training.run())) == training.length
    return training
