"""Environments that draw another operator at every reset."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from tests.recorded_tables import NAMES, make_folder
from tests.synthetic import SyntheticDevice, medium_problem, tiny_problem
from tests.test_replay import assert_same
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.envs import ScheduleEnv, ScheduleVectorEnv, Suite
from wpk_envs.envs.batch import ScheduleBatch
from wpk_envs.envs.registration import open_suite
from wpk_envs.envs.replay import ReplayBatch
from wpk_envs.errors import UserError

ID = "wpk/Suite-v0"
ENVS = 6


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    return RecordedDevice(make_folder(tmp_path_factory.mktemp("tables")))


def suite_on(device, **settings):
    return open_suite(ExitStack(), device=device, store=False, **settings)


def play(env, seed):
    """An episode of the first option that is allowed, and the operator it was of."""
    _, info = env.reset(seed=seed)
    over = False
    while not over:
        *_, reward, over, _, last = env.step(int(env.action_masks().argmax()))
    assert last["operator"] == info["operator"]
    return info["operator"], reward, last


@pytest.mark.parametrize("formulation", ["construct", "one_shot", "refine"])
def test_checkers_pass(device, formulation) -> None:
    for where in (device, SyntheticDevice()):
        operators = None if where is device else ["gemv", "depthwise3x3"]
        for spec in (ID, dataclasses.replace(gym.spec(ID), nondeterministic=False)):
            env = gym.make(spec, device=where, operators=operators, store=False, formulation=formulation)
            check_env(env.unwrapped)
            check_env_for_sb3(env.unwrapped)


def test_every_reset_draws_an_operator_and_the_info_names_it(device) -> None:
    env = gym.make(ID, device=device, store=False).unwrapped
    played = [play(env, seed) for seed in range(12)]
    assert {name for name, _, _ in played} == set(NAMES)
    assert play(env, 3) == played[3]
    for name, problem in zip(env.problem.names, env.problem.problems):
        assert problem.operator == NAMES[name]
        rewards = {reward for drawn, reward, _ in played if drawn == name}
        assert rewards == {problem.reward(trial.measurement) for trial in problem.trials}


def test_observations_and_actions_are_those_of_any_operator(device) -> None:
    env = gym.make(ID, device=device, store=False).unwrapped
    single = ScheduleEnv(env.problem.problems[0])
    assert env.observation_space == single.observation_space
    assert env.action_space == single.action_space
    starts = {tuple(env.reset(seed=seed)[0]) for seed in range(12)}
    assert tuple(single.reset()[0]) in starts
    assert len(starts) == len(NAMES)


def test_only_chosen_operators_are_drawn(device) -> None:
    env = gym.make(ID, device=device, store=False, operators=["small_gemm"]).unwrapped
    assert {play(env, seed)[0] for seed in range(6)} == {"small_gemm"}
    with pytest.raises(UserError, match=r"unknown recorded operator 'gemm' .allowed: small_depthwise, small_gemm"):
        gym.make(ID, device=device, operators=["gemm"])
    with pytest.raises(UserError, match="at least one operator"):
        gym.make(ID, device=device, operators=[])


def test_budgets_are_those_of_each_operator(device) -> None:
    env = gym.make(ID, device=device, store=False, budget=2).unwrapped
    rng = np.random.default_rng(0)
    for _ in range(20):
        over = False
        env.reset()
        while not over:
            options = np.flatnonzero(env.action_masks(exclude_tried=True))
            _, _, terminated, truncated, info = env.step(rng.choice(options))
            over = terminated or truncated
    assert [len(problem.trials) for problem in env.problem.problems] == [2, 2]
    assert truncated
    assert info["stop_reason"] == "trials"


@pytest.mark.parametrize("limits", [{}, {"budget": 9}], ids=["endless", "limited"])
@pytest.mark.parametrize("careless", [0.0, 0.004], ids=["masked", "masked out at times"])
def test_in_arrays_every_step_is_that_of_the_general_batch(device, monkeypatch, limits, careless) -> None:
    fast = ScheduleVectorEnv(suite_on(device, **limits), ENVS)
    with monkeypatch.context() as patch:
        patch.setattr("wpk_envs.envs.vector_env.open_batch", ScheduleBatch)
        slow = ScheduleVectorEnv(suite_on(device, **limits), ENVS)
    assert isinstance(fast._batch, ReplayBatch)
    rng = np.random.default_rng(1)
    for one, other in zip(fast.reset(seed=0), slow.reset(seed=0)):
        assert_same(one, other)
    named = set()
    for step in range(150):
        masks = fast.action_masks(step % 3 == 0)
        np.testing.assert_array_equal(masks, slow.action_masks(step % 3 == 0))
        actions = (rng.random(masks.shape) * (masks | (rng.random(masks.shape) < careless))).argmax(1)
        (*arrays, infos), (*others, same) = fast.step(actions), slow.step(actions)
        for one, other in zip(arrays, others):
            assert_same(one, other)
        assert_same(infos, same)
        named |= set(infos.get("operator", ())) | set(infos.get("final_info", {}).get("operator", ()))
    assert named - {None} == set(NAMES)
    for left, right in zip(fast.problem.problems, slow.problem.problems):
        assert len(left.trials) > 5
        assert [trial.vector for trial in left.trials] == [trial.vector for trial in right.trials]
        assert (left.requests, left.requests_invalid) == (right.requests, right.requests_invalid)


def test_sb3_sees_the_same(device, monkeypatch) -> None:
    from wpk_envs.envs.sb3 import SB3ScheduleVecEnv

    fast = SB3ScheduleVecEnv(suite_on(device), ENVS)
    monkeypatch.setattr("wpk_envs.envs.sb3.open_batch", ScheduleBatch)
    slow = SB3ScheduleVecEnv(suite_on(device), ENVS)
    rng = np.random.default_rng(2)
    fast.seed(1)
    slow.seed(1)
    np.testing.assert_array_equal(fast.reset(), slow.reset())
    for _ in range(40):
        masks = np.stack(fast.env_method("action_masks"))
        actions = (rng.random(masks.shape) * masks).argmax(1)
        (*arrays, infos), (*others, same) = fast.step(actions), slow.step(actions)
        for one, other in zip(arrays, others):
            assert_same(one, other)
        for one, other in zip([*infos, *fast.reset_infos], [*same, *slow.reset_infos], strict=True):
            assert_same(one, other)
    assert {info["operator"] for info in fast.reset_infos} <= set(NAMES)


def test_configs_of_an_operator_are_measured_as_one_batch() -> None:
    place = SyntheticDevice()
    batch = ScheduleBatch(suite_on(place, names=["gemv", "bert_ffn"]), "construct", 8)
    batch.reset(np.random.default_rng(0))
    while not place.batches:
        batch.step([int(mask.argmax()) for mask in batch.action_masks(False)], np.random.default_rng(0), False)
    assert [len({candidate.operator for candidate in each}) for each in place.batches] == [1, 1]


def test_encodings_must_agree() -> None:
    with pytest.raises(UserError, match="one encoding"):
        Suite({"one": tiny_problem(), "other": medium_problem()})
