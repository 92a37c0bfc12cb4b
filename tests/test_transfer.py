"""Agents that know something before they start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import agents
from agents.landscapes import landscapes
from agents.policies import load, save
from agents.ranking import ranked
from tests.conformance.agent import AgentConformance
from tests.recorded_tables import NAMES, make_folder
from tests.synthetic import medium_problem
from tests.synthetic_landscapes import QUICK, medium, pretrained, tiny
from wpk_envs.devices.recorded import RecordedDevice
from wpk_envs.errors import UserError
from wpk_envs.schedules import build_space
from wpk_envs.tuning import Budget, TuningProblem


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Policies for the spaces of the conformance suite."""
    place = tmp_path_factory.mktemp("policies")
    save(pretrained(tiny()).policy(), place / "tiny.safetensors")
    save(pretrained(medium()).policy(), place / "medium.safetensors")
    return str(place)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return str(make_folder(tmp_path_factory.mktemp("tables")))


class TestTransfer(AgentConformance):
    name = "transfer"

    @pytest.fixture(autouse=True)
    def _policy(self, folder) -> None:
        type(self).settings = {"policy": folder}


class TestZeroShot(AgentConformance):
    name = "transfer"

    @pytest.fixture(autouse=True)
    def _policy(self, folder) -> None:
        type(self).settings = {"policy": folder, "zero_shot": True, "ranked": 0}


class KnowsLandscapes:
    """Agents that read tables, which here are of synthetic spaces."""

    @pytest.fixture(autouse=True)
    def _tables(self, monkeypatch) -> None:
        monkeypatch.setattr("agents.ranking.landscapes", lambda tables: (tiny(), medium()))


class TestRankingGA(KnowsLandscapes, AgentConformance):
    name = "ranking_ga"


class TestRanking(KnowsLandscapes, AgentConformance):
    name = "ranking"

    def test_repeats_itself_with_the_same_seed_only(self) -> None:
        """A ranking is the same for all seeds."""
        assert self.vectors(self.tune(medium_problem(30), 3)) == self.vectors(self.tune(medium_problem(30), 4))


def tuned(name: str, seed: int = 0, trials: int = 40, **settings: Any) -> list[tuple[int, ...]]:
    return [trial.vector for trial in agents.get(name, **settings).tune(medium_problem(trials), seed).trials]


class TestAgent:
    def test_the_ranking_comes_first_then_the_policy(self, folder) -> None:
        policy = load(f"{folder}/medium.safetensors")
        best = [tuple(vector) for vector in policy.ranking[:8].tolist()]
        assert tuned("transfer", policy=folder)[:8] == best
        assert tuned("transfer", policy=folder, ranked=0)[:8] != best

    def test_zero_shot_depends_on_the_seed_alone_and_never_on_what_it_is_told(self, folder, monkeypatch) -> None:
        given = {"policy": folder, "zero_shot": True, "ranked": 0}
        first = tuned("transfer", 3, **given)
        assert first == tuned("transfer", 3, **given)
        assert first != tuned("transfer", 4, **given)
        assert tuned("transfer", 3, policy=folder) != tuned("transfer", 3, policy=folder, zero_shot=True)
        monkeypatch.setattr("tests.synthetic.SyntheticDevice.best_speedup", {"winograd_conv": 0.1})
        assert first == tuned("transfer", 3, **given)

    def test_says_what_it_knew(self, folder) -> None:
        agent = agents.get("transfer", policy=folder)
        agent.tune(medium_problem(4), 0)
        assert agent.knowledge == {"policy": folder, "operators": ["conv28"], "has_seen_operator": False}

    def test_a_policy_of_another_encoding_is_refused(self, folder) -> None:
        with pytest.raises(UserError, match="observations of other fields"):
            agents.get("transfer", policy=f"{folder}/tiny.safetensors").tune(medium_problem(4), 0)


def problem_on(tables: str, name: str, trials: int = 30) -> TuningProblem:
    device = RecordedDevice(tables)
    operator = device.operators[name]
    space = build_space(operator, device.info, among=device.configs(operator))
    return TuningProblem(operator, device, space, budget=Budget(trials=trials))


@pytest.mark.parametrize("name", ["ranking", "ranking_ga"])
def test_the_operator_that_is_tuned_is_never_known(tables, name) -> None:
    agent = agents.get(name, tables=tables)
    agent.tune(problem_on(tables, "small_gemm"), 0)
    assert agent.knowledge == {"tables": tables, "operators": ["small_depthwise"], "has_seen_operator": False}
    with pytest.raises(UserError, match="no recorded operator is left to learn from"):
        agents.get(name, tables=tables, exclude=("small_depthwise",)).tune(problem_on(tables, "small_gemm"), 0)


def test_its_family_can_be_left_out_too(tables) -> None:
    agent = agents.get("ranking", tables=tables, unknown="family")
    assert agent.known(problem_on(tables, "small_gemm")) == []  # no template of one is one of the other
    with pytest.raises(UserError, match=r"unknown algo.unknown 'kind' .allowed: family, operator"):
        agents.get("ranking", tables=tables, unknown="kind").tune(problem_on(tables, "small_gemm"), 0)


def test_the_ranking_is_tried_in_order(monkeypatch) -> None:
    elsewhere = [medium(28, seed=0), medium(14, seed=0)]
    monkeypatch.setattr("agents.ranking.landscapes", lambda tables: tuple(elsewhere))
    order = [tuple(vector) for vector in ranked(elsewhere).tolist()]
    assert tuned("ranking") == order[:40]
    assert tuned("ranking_ga")[:10] == order[:10]


def test_landscapes_are_read_once(tables) -> None:
    assert landscapes(tables) is landscapes(tables)
    assert [each.name for each in landscapes(tables)] == list(NAMES)


def test_a_policy_can_be_trained_on_tables_and_used_on_another_of_them(tables, tmp_path) -> None:
    chosen = [each for each in landscapes(tables) if each.name == "small_depthwise"]
    save(pretrained(*chosen, recipe=QUICK).policy(), tmp_path / "policy.safetensors")
    problem = problem_on(tables, "small_gemm", trials=20)
    agents.get("transfer", policy=str(tmp_path / "policy.safetensors")).tune(problem, 0)
    assert len(problem.trials) == 20
    assert np.isfinite(problem.rewards).all()
