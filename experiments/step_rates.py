"""How fast recorded environments step: whole episodes of valid configs drawn beforehand, batch after batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gymnasium as gym
import numpy as np

from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.envs import env_id
from wpk_envs.schedules import build_space
from wpk_envs.tuning import Budget, TuningProblem

OPERATOR = "conv3x3"
BATCH = 1024
ROUNDS, EPISODES = 10, 20
"""Samples, and batches of whole episodes in each."""


def vector_steps_per_second(seed: int) -> list[float]:
    """Environment steps a second through Gymnasium's vector interface, a sample per round."""
    device = RecordedDevice()
    env = gym.make_vec(env_id(OPERATOR), num_envs=BATCH, device=device)
    env.reset(seed=seed)
    return list(_rates(device, env.step, seed))


def sb3_steps_per_second(seed: int) -> list[float]:
    """The same through Stable-Baselines3's (imports torch)."""
    from wpk_envs.envs.sb3 import SB3ScheduleVecEnv

    device = RecordedDevice()
    env = SB3ScheduleVecEnv(_problem(device), BATCH)
    env.reset()
    return list(_rates(device, env.step, seed))


def _rates(device: RecordedDevice, step: Callable[[np.ndarray], object], seed: int) -> Iterator[float]:
    vectors = np.array(list(_problem(device).space))
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        drawn = vectors[rng.integers(len(vectors), size=(EPISODES, BATCH))]
        actions = np.ascontiguousarray(drawn.transpose(0, 2, 1)).reshape(-1, BATCH)
        start = time.perf_counter()
        for each in actions:
            step(each)
        yield actions.size / (time.perf_counter() - start)


def _problem(device: RecordedDevice) -> TuningProblem:
    operator = device.operators[OPERATOR]
    space = build_space(operator, device.info, among=device.configs(operator))
    return TuningProblem(operator, device, space, budget=Budget(trials=None))
