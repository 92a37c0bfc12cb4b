from __future__ import annotations

import re

import numpy as np
import optuna
import pytest

import agents
from agents.cost_model import ABSENT, CostModel, Features, scale
from agents.ga import GeneticAlgorithm
from agents.optuna_study import Parameters, reachable
from agents.ppo import PPO
from agents.ppo_screened import PPOScreened, Screen
from tests.conformance.agent import AgentConformance
from tests.synthetic import (
    ENCODING,
    INFO,
    SyntheticDevice,
    SyntheticTemplate,
    medium_problem,
    medium_space,
    tiny_problem,
    tiny_space,
)
from wpk_envs.core import Constraint, Knob
from wpk_envs.errors import UserError
from wpk_envs.operators import Conv2d
from wpk_envs.schedules import build_space
from wpk_envs.schedules.space import ScheduleSpace
from wpk_envs.tuning import Budget, TuningProblem


class TestPPO(AgentConformance):
    name = "ppo"


class TestPPOOneShot(AgentConformance):
    name = "ppo_oneshot"


class TestPPORefine(AgentConformance):
    name = "ppo_refine"


class TestPPOScreened(AgentConformance):
    name = "ppo_screened"


class TestGA(AgentConformance):
    name = "ga"


class TestLocalSearch(AgentConformance):
    name = "local_search"


class TestAnnealing(AgentConformance):
    name = "annealing"


class TestTPE(AgentConformance):
    name = "tpe"


class TestSurrogate(AgentConformance):
    name = "surrogate"


class TestRandom(AgentConformance):
    name = "random"


class TestRandomPolicy(AgentConformance):
    name = "random_policy"


class TestRandomPolicyOneShot(AgentConformance):
    name = "random_policy_oneshot"


class TestRandomPolicyRefine(AgentConformance):
    name = "random_policy_refine"


def test_every_agent_has_its_conformance_suite() -> None:
    import tests.test_transfer  # noqa: F401  (those that need tables or policies)

    tested = {cls.name for cls in AgentConformance.__subclasses__()}
    assert tested == {name for name in agents.names() if not agents.agent_class(name).own_space}


def test_unknown_names_and_settings_are_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match=re.escape("unknown algo 'pppo'; did you mean ppo")):
        agents.get("pppo")
    with pytest.raises(UserError, match="unknown setting of algo ga 'poplation'; did you mean population"):
        agents.get("ga", poplation=3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ga", {"population": 1}),
        ("ga", {"offspring": 0}),
        ("ga", {"mutation_rate": -0.1}),
        ("ga", {"crossover": 1.5}),
        ("local_search", {"patience": 0}),
        ("local_search", {"restart": 1.5}),
        ("annealing", {"chains": 0}),
        ("annealing", {"temperature": 0}),
        ("annealing", {"cooling": 1.5}),
        ("tpe", {"candidates": 0}),
        ("surrogate", {"trees": 0}),
        ("surrogate", {"epsilon": 1.5}),
        ("random", {"batch": 0}),
        ("random_policy", {"n_envs": 0}),
        ("random_policy_refine", {"n_envs": 0}),
        ("ppo", {"n_envs": 0}),
        ("ppo", {"top": 1.5}),
        ("ppo", {"clone": -1}),
        ("ppo_oneshot", {"n_steps": 1}),
        ("ppo_refine", {"n_steps": 1}),
        ("ppo_screened", {"batch": 0}),
        ("ppo_screened", {"epsilon": 1.5}),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        agents.get(name, **settings)


@pytest.mark.parametrize("name", ["ga", "ppo", "ppo_screened", "local_search", "annealing", "tpe", "surrogate"])
def test_learning_beats_chance(name: str) -> None:
    """Over a few landscapes, the best after 128 trials is closer to the optimum than that of random search."""

    def mean_best(algo: str) -> float:
        found = []
        for seed in range(4):
            device = SyntheticDevice(seed)
            space = medium_space()
            optimum = max(device.speedup(space.decode(vector)) for vector in space)
            result = agents.get(algo).tune(medium_problem(128, device=device), seed)
            found.append(result.curve[-1].gain / optimum)
        return float(np.mean(found))

    assert mean_best(name) > mean_best("random")


def test_tpe_is_offered_what_valid_configs_have_and_told_what_was_measured() -> None:
    space = tiny_space()
    assert reachable(space, 1) == [[1], [0, 1, 2, 3], [0], [0, 1]]
    config = space.encode({"template": "fancy", "tile": 8, "order": "column"})
    told = Parameters(space).result(config, reward=0.5)
    assert told.params == {"template": 1, "fancy.tile": 3, "fancy.order": 1}
    assert told.value == 0.5


def test_tpe_leaves_optunas_log_and_warnings_alone(recwarn, capfd) -> None:
    verbosity = optuna.logging.get_verbosity()
    agents.get("tpe").tune(medium_problem(30), seed=0)
    assert optuna.logging.get_verbosity() == verbosity
    assert not recwarn.list
    assert capfd.readouterr().err == ""


def test_the_surrogate_sees_sizes_on_a_log_scale_and_templates_one_hot() -> None:
    assert scale(Knob("k", ("none", 2, 8, "all"), "")) == [0.0, 1.0, 3.0, 4.0]
    assert scale(Knob("k", ("row", "column"), "")) == [0.0, 1.0]
    space = tiny_space()
    configs = [{"template": "plain", "tile": 8, "unroll": 2}, {"template": "fancy", "tile": 4, "order": "column"}]
    rows = Features(space)([space.encode(config) for config in configs])
    np.testing.assert_array_equal(rows, [[1, 0, 0, 3, 1, ABSENT], [0, 1, 0, 2, ABSENT, 1]])


def test_a_screen_measures_the_best_predicted_and_answers_the_others_with_predictions() -> None:
    problem = medium_problem(64)
    model = CostModel(problem.space, trees=50, learning_rate=0.15)
    screen = Screen(PPOScreened(epsilon=0.0), problem, model, seed=0)
    screen.start()
    rng = np.random.default_rng(1)
    proposals = list({problem.space.sample(rng) for _ in range(40)})
    answers = dict(zip(proposals, screen(proposals)))
    rewards = dict(zip(proposals, model.predict(proposals)))
    measured = {vector for vector, answer in answers.items() if answer.samples_us}
    assert measured == {trial.vector for trial in problem.trials[8:]}
    assert len(measured) == 8
    assert min(rewards[vector] for vector in measured) >= max(rewards[v] for v in proposals if v not in measured)
    assert all(problem.reward(answers[v]) == pytest.approx(rewards[v]) for v in proposals if v not in measured)


POLICIES = ["ppo_oneshot", "ppo_refine", "ppo_screened", "random_policy_oneshot", "random_policy_refine"]


@pytest.mark.parametrize("name", [*POLICIES, "local_search", "annealing", "tpe", "surrogate"])
def test_the_real_space_of_a_convolution_can_be_searched(name: str) -> None:
    """Templates with unlike knobs, knobs with a single option, words among numbers."""
    operator = Conv2d()
    problem = TuningProblem(operator, SyntheticDevice(), build_space(operator, INFO), budget=Budget(trials=40))
    vectors = [trial.vector for trial in agents.get(name).tune(problem, seed=0).trials]
    assert len(set(vectors)) == len(vectors) == 40


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("local_search", {"batch": 1, "patience": 1, "restart": 1.0}),
        ("annealing", {"chains": 1, "cooling": 0.0}),
        ("tpe", {"batch": 1, "startup": 1, "multivariate": False}),
        ("surrogate", {"batch": 1, "pool": 0, "elites": 0}),
        ("surrogate", {"batch": 1, "trees": 1, "epsilon": 1.0}),
        (
            "ppo_oneshot",
            {"n_envs": 1, "n_steps": 2, "learning_rate": 0.0},
        ),  # one that learns may settle and ask no more
        ("ppo_refine", {"n_envs": 1, "n_steps": 2}),
        ("ppo_screened", {"n_envs": 1, "batch": 1, "trees": 1, "epsilon": 1.0}),
        ("random_policy_refine", {"n_envs": 1}),
    ],
)
def test_the_smallest_settings_search_too(name: str, settings: dict[str, float]) -> None:
    assert agents.get(name, **settings).tune(tiny_problem(None), seed=0).stop_reason == "exhausted"


@pytest.mark.parametrize("name", ["ppo_refine", "random_policy_refine"])
def test_a_walk_starts_anew_from_a_config_without_moves(name: str) -> None:
    alone = Constraint(("tile", "unroll"), lambda tile, unroll: tile == unroll, "a tile as large as the unroll factor")
    space = ScheduleSpace(Conv2d(), INFO, [SyntheticTemplate("plain", ("tile", "unroll"), [alone])], ENCODING)
    problem = TuningProblem(space.operator, SyntheticDevice(), space, budget=Budget(100))
    result = agents.get(name, n_envs=1).tune(problem, seed=0)
    assert result.stop_reason == "exhausted"
    assert {trial.vector for trial in result.trials} == set(space)


def test_ga_needs_no_more_than_a_lone_config() -> None:
    result = GeneticAlgorithm(population=50).tune(tiny_problem(trials=None), seed=0)
    assert result.stop_reason == "exhausted"


def test_policies_can_be_saved_and_started_from(tmp_path) -> None:
    agent = PPO()
    agent.tune(medium_problem(40), seed=0)
    agent.save(tmp_path / "policy.zip")
    anew = PPO().tune(medium_problem(16), seed=1)
    trained = PPO(policy=str(tmp_path / "policy.zip")).tune(medium_problem(16), seed=1)
    mean = [np.mean([trial.measurement.speedup for trial in result.trials]) for result in (anew, trained)]
    assert mean[1] > mean[0]


def test_a_policy_that_does_not_fit_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no file"):
        PPO(policy=str(tmp_path / "none.zip")).tune(medium_problem(8), seed=0)
    agent = PPO()
    agent.tune(tiny_problem(8), seed=0)
    agent.save(tmp_path / "tiny.zip")
    with pytest.raises(UserError, match="does not fit"):
        PPO(policy=str(tmp_path / "tiny.zip")).tune(medium_problem(8), seed=0)
