from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from tests.synthetic import SyntheticDevice, medium_problem, tiny_problem
from wpk_envs.envs import ScheduleEnv, ScheduleVectorEnv
from wpk_envs.envs.sb3 import SB3ScheduleVecEnv
from wpk_envs.errors import UserError

FORMULATIONS = ("construct", "one_shot", "refine")


def test_a_step_measures_finished_configs_as_one_batch() -> None:
    problem = medium_problem()
    envs = ScheduleVectorEnv(problem, 5)
    envs.reset()
    vectors = [problem.space.unrank(100 * i) for i in range(5)]
    for position in range(problem.space.length):
        assert problem.device.batches == []
        _, rewards, terminated, truncated, _ = envs.step(np.array([vector[position] for vector in vectors]))
    assert len(problem.device.batches) == 1
    assert [candidate.config for candidate in problem.device.batches[0]] == [problem.space.decode(v) for v in vectors]
    assert terminated.all()
    assert not truncated.any()
    assert rewards.dtype == np.float64


def test_ended_episodes_start_over_in_the_same_step() -> None:
    problem = tiny_problem()
    envs = ScheduleVectorEnv(problem, 3)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    first, infos = envs.reset()
    assert infos == {}
    observations, rewards, terminated, _, infos = envs.step(np.array([0, 2, 1]))
    assert terminated.tolist() == [False, True, False]
    assert rewards[1] < 0
    np.testing.assert_array_equal(observations[1], first[1])
    assert infos["_final_obs"].tolist() == [False, True, False]
    assert envs.single_observation_space.contains(infos["final_obs"][1])
    assert infos["final_info"]["error"].tolist() == [None, "invalid", None]
    for action in (1, 0, 0):
        _, _, terminated, _, infos = envs.step(np.full(3, action))
    assert terminated.tolist() == [True, False, True]
    config = infos["final_info"]["config"][2]
    assert dict(config) == {"template": "fancy", "tile": 2, "order": "row"}
    assert infos["final_info"]["_config"].tolist() == [True, False, True]


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_batched_and_single_environments_agree(formulation: str) -> None:
    """Every sub-environment does what a single environment does with the same actions."""
    envs = ScheduleVectorEnv(medium_problem(None), 4, formulation)
    singles = [ScheduleEnv(medium_problem(None), formulation) for _ in range(4)]
    starts = [singles[0].problem.space.decode(singles[0].problem.space.unrank(50))] * 4
    observations, _ = envs.reset(seed=0, options={"config": starts[0]})
    for single, row, start in zip(singles, observations, starts):
        np.testing.assert_array_equal(single.reset(options={"config": start})[0], row)
    rng = np.random.default_rng(0)
    ended = np.zeros(4, dtype=bool)
    while not ended.any():
        masks = envs.action_masks()
        assert all(np.array_equal(single.action_masks(), mask) for single, mask in zip(singles, masks))
        if formulation == "one_shot":
            actions = np.stack([single.action_space.sample() for single in singles])
        else:
            actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        ended = terminated | truncated
        for i, single in enumerate(singles):
            row, reward, *ends, _ = single.step(actions[i])
            assert (reward, ends) == (rewards[i], [terminated[i], truncated[i]])
            np.testing.assert_array_equal(row, infos["final_obs"][i] if ended[i] else observations[i])


def test_duplicates_in_a_batch_are_measured_once() -> None:
    problem = tiny_problem()
    envs = ScheduleVectorEnv(problem, 4)
    envs.reset()
    for option in problem.space.unrank(2):
        _, rewards, *_ = envs.step(np.full(4, option))
    assert len(problem.device.measured) == 1
    assert len(set(rewards)) == 1


def test_a_batch_beyond_the_budget_is_measured_in_part() -> None:
    problem = medium_problem(trials=3)
    envs = ScheduleVectorEnv(problem, 5)
    envs.reset()
    vectors = [problem.space.unrank(100 * i) for i in range(5)]
    for position in range(problem.space.length):
        *_, terminated, truncated, infos = envs.step(np.array([vector[position] for vector in vectors]))
    assert terminated.tolist() == [True] * 3 + [False] * 2
    assert truncated.tolist() == [False] * 3 + [True] * 2
    assert infos["final_info"]["stop_reason"].tolist() == ["trials"] * 5
    assert len(problem.device.measured) == 3


@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_make_vec(formulation: str, mode: str) -> None:
    settings = {"device": SyntheticDevice(), "store": False, "formulation": formulation}
    envs = gym.make_vec("wpk/Depthwise3x3-v0", num_envs=3, vectorization_mode=mode, **settings)
    observations, _ = envs.reset(seed=0)
    for _ in range(2 * 16):
        assert envs.observation_space.contains(observations)
        observations, rewards, *_ = envs.step(envs.action_space.sample())
        assert np.isfinite(rewards).all()
    envs.close()


def test_render_gives_a_text_per_environment() -> None:
    envs = ScheduleVectorEnv(tiny_problem(), 2, render_mode="ansi")
    envs.reset()
    envs.step(np.array([0, 1]))
    assert ["template = plain" in text for text in envs.render()] == [True, False]


def test_no_environments_are_refused() -> None:
    with pytest.raises(UserError, match="num_envs must be 1 or more, not 0"):
        ScheduleVectorEnv(tiny_problem(), 0)


# --- Stable-Baselines3


def test_sb3_gets_terminal_observations_and_truncation() -> None:
    problem = medium_problem(trials=1)
    env = SB3ScheduleVecEnv(problem, 2)
    assert isinstance(env, VecEnv)
    first = env.reset()
    vectors = [problem.space.unrank(0), problem.space.unrank(500)]
    for position in range(problem.space.length):
        observations, rewards, dones, infos = env.step(np.array([vector[position] for vector in vectors]))
    assert dones.tolist() == [True, True]
    assert rewards.dtype == np.float32
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True]
    np.testing.assert_array_equal(observations, first)
    for info in infos:
        assert not np.array_equal(info["terminal_observation"], first[0])
        assert env.observation_space.contains(info["terminal_observation"])


def test_sb3_finds_the_masks() -> None:
    problem = tiny_problem()
    env = SB3ScheduleVecEnv(problem, 2, exclude_tried=True)
    env.reset()
    assert env.has_attr("action_masks")
    problem.measure([vector for vector in problem.space if vector[0] == 0])
    assert [mask.tolist()[:3] for mask in env.env_method("action_masks")] == [[False, True, False]] * 2
    assert len(env.env_method("action_masks", indices=[1])) == 1


def test_sb3_seed_fixes_refines_start() -> None:
    def start(seed: int) -> np.ndarray:
        env = SB3ScheduleVecEnv(medium_problem(), 2, "refine")
        env.seed(seed)
        return env.reset()

    np.testing.assert_array_equal(start(1), start(1))
    assert not np.array_equal(start(1), start(2))


def test_sb3_says_what_it_does_not_have() -> None:
    env = SB3ScheduleVecEnv(tiny_problem(), 2)
    assert not env.has_attr("gravity")
    assert env.env_is_wrapped(gym.Wrapper) == [False, False]
    assert env.get_attr("problem") == [env.problem] * 2
    with pytest.raises(AttributeError, match="no attribute gravity"):
        env.get_attr("gravity")
    with pytest.raises(AttributeError, match="no method dance"):
        env.env_method("dance")
    with pytest.raises(AttributeError, match="gravity to set"):
        env.set_attr("gravity", 9.81)
