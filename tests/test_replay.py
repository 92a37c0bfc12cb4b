"""The batch in arrays must be the general batch, only faster."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from tests.recorded_tables import OPERATOR, make_folder
from wpk_envs import operators
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.envs import ScheduleEnv, ScheduleVectorEnv
from wpk_envs.envs.batch import ScheduleBatch
from wpk_envs.envs.replay import ReplayBatch, open_batch
from wpk_envs.schedules import build_space
from wpk_envs.tuning import Budget, TuningProblem

ENVS = 6


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    return RecordedDevice(make_folder(tmp_path_factory.mktemp("tables")))


def problem_on(device, **limits):
    space = build_space(OPERATOR, device.info, among=device.configs(OPERATOR))
    return TuningProblem(OPERATOR, device, space, budget=Budget(**{"trials": None, **limits}))


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, np.ndarray) and one.dtype == object:
        for left, right in zip(one, other, strict=True):
            assert np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def pair(device, monkeypatch, **limits):
    fast = ScheduleVectorEnv(problem_on(device, **limits), ENVS)
    with monkeypatch.context() as patch:
        patch.setattr("wpk_envs.envs.vector_env.open_batch", ScheduleBatch)
        slow = ScheduleVectorEnv(problem_on(device, **limits), ENVS)
    assert isinstance(fast._batch, ReplayBatch)
    return fast, slow


@pytest.mark.parametrize("limits", [{}, {"trials": 9}], ids=["endless", "limited"])
@pytest.mark.parametrize("careless", [0.0, 0.004], ids=["masked", "masked out at times"])
def test_every_step_is_that_of_the_general_batch(device, monkeypatch, limits, careless):
    fast, slow = pair(device, monkeypatch, **limits)
    rng = np.random.default_rng(1)
    for one, other in zip(fast.reset(seed=0), slow.reset(seed=0)):
        assert_same(one, other)
    for step in range(150):
        exclude = step % 3 == 0
        masks = fast.action_masks(exclude)
        np.testing.assert_array_equal(masks, slow.action_masks(exclude))
        actions = (rng.random(masks.shape) * (masks | (rng.random(masks.shape) < careless))).argmax(1)
        for one, other in zip(fast.step(actions), slow.step(actions)):
            assert_same(one, other)
    left, right = fast.problem, slow.problem
    assert len(left.trials) > 5
    assert [trial.vector for trial in left.trials] == [trial.vector for trial in right.trials]
    assert (left.requests, left.requests_invalid) == (right.requests, right.requests_invalid)
    assert (left.requests_invalid > 0) == (careless > 0)
    assert left.best.measurement == right.best.measurement


def test_only_construct_over_recorded_configs_runs_in_arrays(device):
    problem = problem_on(device)
    assert isinstance(open_batch(problem, "construct", 2), ReplayBatch)
    assert isinstance(open_batch(problem, "refine", 2), ScheduleBatch)


def test_sb3_sees_the_same(device, monkeypatch):
    from wpk_envs.envs.sb3 import SB3ScheduleVecEnv

    fast = SB3ScheduleVecEnv(problem_on(device), ENVS)
    monkeypatch.setattr("wpk_envs.envs.sb3.open_batch", ScheduleBatch)
    slow = SB3ScheduleVecEnv(problem_on(device), ENVS)
    rng = np.random.default_rng(2)
    np.testing.assert_array_equal(fast.reset(), slow.reset())
    for _ in range(50):
        masks = np.stack(fast.env_method("action_masks"))
        np.testing.assert_array_equal(masks, np.stack(slow.env_method("action_masks")))
        actions = (rng.random(masks.shape) * masks).argmax(1)
        *arrays, infos = fast.step(actions)
        *others, same = slow.step(actions)
        for one, other in zip(arrays, others):
            assert_same(one, other)
        for one, other in zip(infos, same, strict=True):
            assert_same(one, other)


def test_a_recorded_environment_is_deterministic(device):
    env = ScheduleEnv(problem_on(device))
    check_env(env, skip_render_check=True)


def test_the_schedule_so_far_is_the_prefix(device):
    env = ScheduleVectorEnv(problem_on(device), 2, render_mode="ansi")
    env.reset(seed=0)
    mask = env.action_masks()
    env.step(mask.argmax(1))
    assert env._batch.schedule(0) == (int(mask[0].argmax()),)
    assert operators.get("depthwise3x3").label.split()[0] in env.render()[0]
