from __future__ import annotations

import shutil

import numpy as np
import pytest

from agents.landscapes import landscapes, remaining
from agents.pretraining import Pretraining, Recipe
from agents.ranking import ranked
from agents.transfer import Transfer
from tests.recorded_tables import NAMES, make_folder
from tests.synthetic_landscapes import QUICK, medium, pretrained
from wpk_envs.errors import UserError
from wpk_envs.tuning import Budget, TuningProblem


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tables"))


def test_landscapes_are_what_was_recorded(tables) -> None:
    for each in landscapes(str(tables)):
        assert each.operator == NAMES[each.name]
        configs = each.device.configs(each.operator)
        assert sorted(map(tuple, each.vectors.tolist())) == sorted(map(each.space.encode, configs))
        problem = TuningProblem(each.operator, each.device, each.space, budget=Budget(trials=None))
        np.testing.assert_array_equal(each.tree.vectors, each.vectors)
        for vector, reward in list(zip(each.vectors.tolist(), each.rewards))[::50]:
            assert problem.measure([vector])[0].reward == reward


def test_operators_and_families_can_be_left_out() -> None:
    assert remaining(NAMES, []) == ["small_depthwise", "small_gemm"]
    assert remaining(NAMES, ["small_gemm"]) == remaining(NAMES, ["family/gemm"]) == ["small_depthwise"]
    with pytest.raises(UserError, match=r"unknown operator or family to exclude 'gemm'.*family/gemm"):
        remaining(NAMES, ["gemm"])
    with pytest.raises(UserError, match="no recorded operator is left"):
        remaining(NAMES, ["family/gemm", "small_depthwise"])


def test_imitation_learns_where_the_good_configs_are() -> None:
    one = medium()
    policy = pretrained(one, recipe=Recipe(imitation=300, batch=256, hidden=32, noise=0.0)).policy()
    assert _mean_quantile(one, policy) > 0.95
    untrained = Pretraining([one], QUICK, seed=0).policy()
    assert _mean_quantile(one, untrained) < 0.8


def test_ppo_learns_too(tables) -> None:
    chosen = landscapes(str(tables))
    recipe = Recipe(imitation=0, steps=16_000, hidden=16, ppo_learning_rate=3e-3)
    training = Pretraining(chosen, recipe, seed=0)
    reports = list(training.run())
    assert len(reports) == training.length
    first, last = (np.mean([float(each.rsplit(" ", 1)[1]) for each in part]) for part in (reports[:3], reports[-3:]))
    assert last > first + 0.1
    assert training.policy().facts["done"] == {"imitation": 0, "steps": 16_384}


def _mean_quantile(landscape, policy) -> float:
    """How good the configs are that a policy proposes first."""
    problem = TuningProblem(landscape.operator, landscape.device, landscape.space, budget=Budget(trials=64))
    agent = Transfer(ranked=0, zero_shot=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.transfer.load", lambda *_: policy)
        agent.tune(problem, seed=0)
    return float(np.mean(np.searchsorted(np.sort(landscape.rewards), problem.rewards) / len(landscape.rewards)))


def test_training_repeats_itself_with_the_same_seed_only() -> None:
    first, again, other = (pretrained(medium(), seed=seed).policy().weights for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["action_net.weight"], other["action_net.weight"])


def test_nothing_of_what_is_held_out_is_learnt(tables, tmp_path) -> None:
    """Another landscape of the operator that is held out changes nothing."""
    changed = make_folder(tmp_path, error_rate=0.5)
    shutil.copy(tables / "small_depthwise.parquet", changed)
    learnt = []
    for folder in (tables, changed):
        names = remaining(NAMES, ["family/gemm"])
        learnt.append(pretrained(*(each for each in landscapes(str(folder)) if each.name in names)).policy())
    first, second = learnt
    assert first.names == tuple(first.facts["tables"]) == ("small_depthwise",)
    assert all(np.array_equal(first.weights[name], second.weights[name]) for name in first.weights)
    np.testing.assert_array_equal(first.ranking, second.ranking)


def test_the_ranking_is_by_the_mean_fraction_of_the_optimum() -> None:
    one, other = medium(28, seed=0), medium(14, seed=1)
    order = [tuple(vector) for vector in ranked([one, other]).tolist()]
    losses = (one.rewards - one.rewards.max() + other.rewards - other.rewards.max()) / 2
    assert order[0] == tuple(one.vectors[losses.argmax()].tolist())
    assert order[-1] == tuple(one.vectors[losses.argmin()].tolist())
    assert len(order) == len(set(order)) == len(one.vectors)


def test_recipes_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="temperature must be greater than 0, not 0"):
        Recipe(temperature=0).check()
    with pytest.raises(UserError, match="imitation and steps are both 0"):
        Recipe(imitation=0).check()
