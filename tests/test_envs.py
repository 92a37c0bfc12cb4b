from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from tests.synthetic import SyntheticDevice, medium_problem, tiny_problem
from wpk_envs import operators
from wpk_envs.core import SPEEDUP_FLOOR, Candidate, Measurement
from wpk_envs.envs import ScheduleEnv, env_id, fields
from wpk_envs.envs.construct import Construct
from wpk_envs.envs.refine import STEPS
from wpk_envs.errors import UserError
from wpk_envs.tuning import Budget

FORMULATIONS = ("construct", "one_shot", "refine")
FAILURE = math.log(SPEEDUP_FLOOR)
IDS = [env_id(name) for name in operators.names()]


def play(env: ScheduleEnv, vector) -> tuple[np.ndarray, float, bool, bool, dict]:
    env.reset()
    for option in vector:
        step = env.step(option)
    return step


def random_walk(env: ScheduleEnv, rng: np.random.Generator, episodes: int) -> list[tuple]:
    steps = []
    env.action_space.seed(int(rng.integers(1000)))
    for _ in range(episodes):
        env.reset(seed=int(rng.integers(1000)))
        ended = False
        while not ended:
            action = (
                env.action_space.sample()
                if isinstance(env.action_space, gym.spaces.MultiDiscrete)
                else rng.choice(np.flatnonzero(env.action_masks()))
            )
            steps.append(env.step(action))
            ended = steps[-1][2] or steps[-1][3]
    return steps


# --- ids and checkers


def test_ids_are_the_documented_ones() -> None:
    names = "Conv3x3 Conv3x3S2 Conv1x1 Conv7x7S2 Depthwise3x3 Gemm Gemv BertFfn"
    assert {f"wpk/{name}-v0" for name in names.split()} == set(IDS)
    assert all(gym.spec(each).nondeterministic for each in IDS)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("each", IDS)
def test_checkers_pass_on_every_id(each: str, formulation: str) -> None:
    spec = dataclasses.replace(gym.spec(each), nondeterministic=False)
    for which in (each, spec):
        env = gym.make(which, device=SyntheticDevice(), store=False, formulation=formulation)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env.unwrapped)
            check_env_for_sb3(env.unwrapped)
        env.close()


def test_checkers_pass_on_live_measurements(tmp_path) -> None:
    env = gym.make("wpk/Gemv-v0", device="cpu", store=tmp_path / "store.sqlite", formulation="refine").unwrapped
    check_env(env)
    check_env_for_sb3(env)
    succeeded = [trial for trial in env.problem.trials if trial.measurement.error is None]
    env.close()
    assert succeeded
    assert all(trial.measurement.latency_us > 0 for trial in succeeded)


def test_importing_the_package_registers_and_stays_light() -> None:
    code = (
        "import sys, json, wpk_envs, gymnasium; "
        "print(json.dumps([list(gymnasium.registry), [m for m in ('tvm', 'torch') if m in sys.modules]]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    registered, heavy = json.loads(out)
    assert set(IDS) <= set(registered)
    assert heavy == []


# --- construct


def test_construct_pays_the_log_speedup_at_the_end_only() -> None:
    problem = medium_problem()
    env = ScheduleEnv(problem)
    vector = problem.space.unrank(17)
    env.reset()
    rewards = []
    for option in vector:
        assert env.action_masks()[option]
        _, reward, terminated, truncated, info = env.step(option)
        rewards.append(reward)
        assert not truncated
    config = problem.space.decode(vector)
    speedup = problem.device.speedup(config)
    assert terminated
    assert rewards[:-1] == [0.0] * (len(vector) - 1)
    assert rewards[-1] == pytest.approx(math.log(speedup))
    assert info["speedup"] == pytest.approx(speedup)
    assert info["latency_us"] == pytest.approx(1000 / speedup)
    assert dict(info["config"]) == config
    assert (info["error"], info["trials"], info["stop_reason"]) == ("", 1, "")


def test_construct_masks_are_the_spaces() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem)
    seen = 0
    for vector in problem.space:
        env.reset()
        for position, option in enumerate(vector):
            np.testing.assert_array_equal(env.action_masks(), problem.space.mask(vector[:position]))
            env.step(option)
            seen += 1
    assert seen == problem.space.size * problem.space.length


@pytest.mark.parametrize("action", [2, 4, 99, -1])
def test_construct_ends_on_a_masked_out_option(action: int) -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem)
    env.reset()
    _, reward, terminated, truncated, info = env.step(action)
    assert (reward, terminated, truncated) == (FAILURE, True, False)
    assert info["error"] == "invalid"
    assert "template" in info["message"]
    assert "config" not in info
    assert problem.requests_invalid == 1
    assert problem.device.measured == []
    assert problem.trials == []


def test_construct_masks_can_leave_out_what_was_tried() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem)
    fancy = [vector for vector in problem.space if vector[0] == 1]
    for vector in fancy:
        play(env, vector)
    env.reset()
    assert env.action_masks().tolist()[:2] == [True, True]
    assert env.action_masks(exclude_tried=True).tolist()[:2] == [True, False]
    env.step(1)
    assert env.action_masks(exclude_tried=True).any()


def test_a_revisit_costs_no_trial() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem)
    vector = problem.space.unrank(3)
    first, second = play(env, vector), play(env, vector)
    assert first[1] == second[1]
    assert second[4]["trials"] == 1
    assert len(problem.device.measured) == 1


def test_failures_earn_the_failure_reward() -> None:
    problem = tiny_problem(device=SyntheticDevice(error_rate=1.0))
    _, reward, terminated, _, info = play(ScheduleEnv(problem), problem.space.unrank(0))
    assert (reward, terminated) == (FAILURE, True)
    assert info["error"] in ("compile", "timeout", "crash", "wrong_result")
    assert "speedup" not in info


class Refusing(SyntheticDevice):
    """Answers every valid config with ``invalid``, as a device does that is asked for confident predictions only."""

    def _answer(self, candidate: Candidate) -> Measurement:
        return Measurement(error="invalid", message="too uncertain")


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_what_the_device_finds_invalid_is_a_failure_like_others(formulation: str) -> None:
    problem = tiny_problem(device=Refusing())
    steps = random_walk(ScheduleEnv(problem, formulation), np.random.default_rng(0), episodes=3)
    measured = [step for step in steps if step[4].get("message") == "too uncertain"]
    assert measured
    assert all(step[4]["error"] == "invalid" and "speedup" not in step[4] for step in measured)
    assert problem.errors == {"invalid": len(problem.trials)}
    if formulation == "refine":
        assert all(step[1] == 0.0 for step in steps), "from failure to failure nothing changes"
    else:
        assert all(step[1] == FAILURE and step[2] for step in measured)


def test_after_the_budget_episodes_are_truncated_with_the_reason() -> None:
    problem = tiny_problem(trials=1)
    env = ScheduleEnv(problem)
    first = play(env, problem.space.unrank(0))
    assert first[4]["stop_reason"] == "trials"
    _, reward, terminated, truncated, info = play(env, problem.space.unrank(1))
    assert (reward, terminated, truncated) == (FAILURE, False, True)
    assert info["stop_reason"] == "trials"
    assert len(problem.device.measured) == 1


def test_demonstrations_are_what_an_episode_sees() -> None:
    problem = medium_problem()
    env = ScheduleEnv(problem)
    vector = problem.space.unrank(123)
    observations, masks, actions = Construct(problem).demonstrate(vector)
    observation, _ = env.reset()
    for position, option in enumerate(vector):
        np.testing.assert_array_equal(observations[position], observation)
        np.testing.assert_array_equal(masks[position], env.action_masks())
        assert actions[position] == option
        observation, *_ = env.step(option)
    assert len(problem.device.measured) == 1


# --- one_shot


def test_one_shot_ignores_knobs_that_the_template_lacks() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem, "one_shot")
    env.reset()
    rewards = [env.step(np.array([0, 2, 1, order]))[1] for order in (0, 1)]
    assert rewards[0] == rewards[1]
    assert len(problem.trials) == 1
    assert "order" not in problem.trials[0].config


def test_one_shot_refuses_invalid_configs() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem, "one_shot")
    for action, reason in (([0, 4, 2, 0], "at most 16 unrolled steps"), ([2, 0, 0, 0], "absent does not fit")):
        env.reset()
        _, reward, terminated, _, info = env.step(np.array(action))
        assert (reward, terminated, info["error"]) == (FAILURE, True, "invalid")
        assert reason in info["message"]
    assert problem.requests_invalid == 2
    assert problem.device.measured == []


def test_one_shot_masks_are_the_options_of_some_valid_config() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem, "one_shot")
    occurring = [{vector[position] for vector in problem.space} for position in range(problem.space.length)]
    expected = [
        option in occurring[position]
        for position, knob in enumerate(problem.space.encoding.knobs)
        for option in range(len(knob.options))
    ]
    assert env.action_masks().tolist() == expected


# --- refine


def test_refine_pays_the_gain_and_is_truncated() -> None:
    problem = medium_problem(trials=None)
    env = ScheduleEnv(problem, "refine")
    _, start = env.reset(seed=7)
    total, steps, truncated = 0.0, 0, False
    rng = np.random.default_rng(0)
    while not truncated:
        _, reward, terminated, truncated, info = env.step(rng.choice(np.flatnonzero(env.action_masks())))
        assert not terminated
        total, steps = total + reward, steps + 1
    assert steps == STEPS
    assert total == pytest.approx(math.log(info["speedup"] / start["speedup"]))


def test_refine_moves_one_knob_to_the_nearest_valid_option() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem, "refine")
    space = problem.space
    start = {"template": "plain", "tile": 8, "unroll": 2}

    def after(action: int) -> dict:
        env.reset(options={"config": start})
        assert env.action_masks()[action]
        return dict(env.step(action)[4]["config"])

    env.reset(options={"config": start})
    assert space.decode(space.encode(start)) == start
    assert np.flatnonzero(env.action_masks()).tolist() == [1, 2, 4]
    assert after(1) == {"template": "fancy", "tile": 8, "order": "row"}
    assert after(2) == start | {"tile": 4}
    assert after(4) == start | {"unroll": 1}


def test_refine_ends_on_a_masked_out_move() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem, "refine")
    env.reset(options={"config": {"template": "plain", "tile": 8, "unroll": 2}})
    _, reward, terminated, _, info = env.step(3)
    assert (reward, terminated, info["error"]) == (FAILURE, True, "invalid")
    assert problem.requests_invalid == 1


def test_refine_masks_can_leave_out_what_was_tried() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem, "refine")
    env.reset(options={"config": {"template": "plain", "tile": 8, "unroll": 2}})
    env.step(2)
    env.reset(options={"config": {"template": "plain", "tile": 8, "unroll": 2}})
    assert np.flatnonzero(env.action_masks(exclude_tried=True)).tolist() == [1, 4]


def test_refine_without_budget_for_its_start() -> None:
    problem = tiny_problem(trials=1)
    problem.measure([problem.space.unrank(0)])
    env = ScheduleEnv(problem, "refine")
    observation, info = env.reset(options={"config": {"template": "plain", "tile": 8, "unroll": 2}})
    assert env.observation_space.contains(observation)
    assert info["stop_reason"] == "trials"
    _, reward, terminated, truncated, info = env.step(2)
    assert (reward, terminated, truncated, info["stop_reason"]) == (FAILURE, False, True, "trials")


# --- observation, rendering, opening


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_observations_are_finite_and_within_bounds(formulation: str) -> None:
    env = ScheduleEnv(medium_problem(None, device=SyntheticDevice(error_rate=0.3)), formulation)
    for observation, *_ in random_walk(env, np.random.default_rng(0), episodes=20):
        assert env.observation_space.contains(observation)
        assert observation.dtype == np.float32


def test_observation_holds_what_its_fields_say() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem)
    names = fields(problem.space)
    assert len(names) == len(set(names)) == env.observation_space.shape[0]

    def named(observation: np.ndarray) -> dict[str, float]:
        return dict(zip(names, observation.tolist()))

    before = named(env.reset()[0])
    assert [before[f"knob.{name}"] for name in ("template", "tile", "unroll", "order")] == [-1] * 4
    assert [before[f"next.{name}"] for name in ("template", "tile", "unroll", "order")] == [1, 0, 0, 0]
    for name, value in problem.operator.features().items():
        assert before[f"operator.{name}"] == pytest.approx(value)
    for name, value in problem.device.info.features().items():
        assert before[f"device.{name}"] == pytest.approx(value)
    assert before["static.register_tile"] == before["static.intensity"] == 0

    env.step(0)
    middle = named(env.step(3)[0])
    assert (middle["knob.template"], middle["knob.tile"], middle["knob.unroll"]) == (0, 0.75, -1)
    assert (middle["next.tile"], middle["next.unroll"]) == (0, 1)
    assert middle["static.register_tile"] == pytest.approx(2 / 8)

    env.step(0)
    observation, reward, *_ = env.step(0)
    after = named(observation)
    assert sum(after[name] for name in names if name.startswith("next.")) == 0
    assert after["last.log_speedup"] == pytest.approx(reward)
    assert after["last.failed"] == 0


def test_all_ids_share_their_spaces() -> None:
    envs = [gym.make(each, device=SyntheticDevice(), store=False) for each in IDS]
    assert len({(str(env.observation_space), str(env.action_space)) for env in envs}) == 1


def test_render_shows_the_schedule_so_far() -> None:
    problem = tiny_problem()
    env = ScheduleEnv(problem, render_mode="ansi")
    env.reset()
    env.step(1)
    env.step(3)
    text = env.render()
    assert "template = fancy" in text
    assert "tile = 8" in text
    assert "next: unroll" in text
    assert ScheduleEnv(problem).render() is None


def test_render_ends_with_the_tensorir_script() -> None:
    env = gym.make("wpk/Gemv-v0", device=SyntheticDevice(), store=False, render_mode="ansi").unwrapped
    play(env, env.problem.space.unrank(0))
    assert "def main(" in env.render()


def test_operator_fields_budget_and_threads_can_be_given() -> None:
    device = SyntheticDevice()
    env = gym.make("wpk/Conv3x3-v0", device=device, store=False, budget=3, threads=1, op={"height": 28}).unwrapped
    assert (env.problem.operator.height, env.problem.operator.width) == (28, 56)
    assert env.problem.budget == Budget(trials=3)
    env.close()
    assert device.closed == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"formulation": "constrict"}, "unknown formulation 'constrict'; did you mean construct"),
        ({"op": {"heigth": 28}}, "unknown field of a conv2d operator 'heigth'; did you mean height"),
        ({"op": {"height": 0}}, "height"),
        ({"budget": 0}, "budget.trials must be greater than 0"),
        ({"threads": 2}, "threads=2 was given with an open device of 1 threads"),
        ({"device": "gpu3"}, "gpu3"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        gym.make("wpk/Conv3x3-v0", **{"device": SyntheticDevice(), "store": False} | settings)


def test_measurements_are_kept_in_the_given_store(tmp_path) -> None:
    for expected in (1, 0):
        device = SyntheticDevice()
        env = gym.make("wpk/Gemv-v0", device=device, store=tmp_path / "store.sqlite").unwrapped
        play(env, env.problem.space.unrank(5))
        env.close()
        env.close()
        assert len(device.measured) == expected
