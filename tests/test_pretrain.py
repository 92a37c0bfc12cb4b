"""``python -m experiments.pretrain`` from start to end, on recorded tables that are made up."""

from __future__ import annotations

import json
import logging
import re

import pytest

from agents import policies
from agents.pretraining import Pretraining
from experiments.launcher import INTERRUPTED, USER_ERROR, run_program
from experiments.pretrain import check, pretrain
from tests.recorded_tables import GEMM, NAMES, make_folder

QUICK = ("tables=tables", "imitation=60", "batch=32", "hidden=8", "jobs=1")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tables"))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, tables):
    """A folder to run in, with the tables at hand, and Hydra's logging taken down again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").symlink_to(tables)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


def start(*arguments, folder="run"):
    return run_program("pretrain", pretrain, check, [*QUICK, f"hydra.run.dir={folder}", *arguments])


def test_a_policy_and_what_it_was_made_of(place, capsys) -> None:
    assert start("exclude=[family/gemm]", "seed=3") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == str(place / "run" / "summary.json")
    assert re.match(r"pretraining: 2 of 2, imitation, cross-entropy \d+\.\d+, \d+ a minute", out[0])
    summary = json.loads((place / "run" / "summary.json").read_text())
    policy = policies.load(summary["policy"])
    assert policy.names == ("small_depthwise",)
    assert not policy.has_seen(GEMM)
    assert (policy.facts["seed"], policy.hidden) == (3, 8)
    assert summary["policies"] == {"policy.safetensors": {"operators": ["small_depthwise"]}}
    assert summary["recipe"]["imitation"] == policy.facts["done"]["imitation"] == 60


def test_a_set_of_policies_that_each_know_all_but_one(place) -> None:
    assert start("held_out=operator", "policy=mine") == 0
    found = {path.name: policies.load(path).names for path in (place / "mine").iterdir()}
    assert found == {
        "all.safetensors": tuple(NAMES),
        "without_small_gemm.safetensors": ("small_depthwise",),
        "without_small_depthwise.safetensors": ("small_gemm",),
    }
    before = {path: path.stat().st_mtime_ns for path in (place / "mine").iterdir()}
    assert start("held_out=operator", "policy=mine", folder="again") == 0
    assert {path: path.stat().st_mtime_ns for path in (place / "mine").iterdir()} == before


def test_what_another_recipe_has_made_is_not_overwritten(capsys) -> None:
    assert start("policy=mine.safetensors") == 0
    assert start("policy=mine.safetensors", "seed=1", folder="again") == USER_ERROR
    assert "'mine.safetensors' is another policy already" in capsys.readouterr().err


def test_interrupted_it_keeps_what_was_learnt(place, monkeypatch, capsys) -> None:
    def run(self):
        yield from list(whole(self))[:1]
        raise KeyboardInterrupt

    whole = Pretraining._imitate
    monkeypatch.setattr(Pretraining, "_imitate", run)
    assert start() == INTERRUPTED
    assert f"what was learnt until now is in {place / 'run' / 'policy.safetensors'}" in capsys.readouterr().err
    assert policies.load(place / "run" / "policy.safetensors").names == tuple(NAMES)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("operators=[gemm]", r"unknown recorded operator 'gemm' \(allowed: small_depthwise, small_gemm\)"),
        ("exclude=[gemm]", "unknown operator or family to exclude 'gemm'"),
        ("exclude=[small_gemm,family/depthwise]", "no recorded operator is left to learn from"),
        ("held_out=kernel", r"unknown held_out 'kernel' \(allowed: family, operator\)"),
        ("temperature=0", "temperature must be greater than 0, not 0"),
        ("imitation=0", "imitation and steps are both 0"),
        ("policy=mine.zip", "must end in .safetensors"),
        ("tables=nowhere", "'nowhere' has no tables"),
        ("seed=-1", "seed must be at least 0"),
    ],
)
def test_mistakes_are_told_in_a_sentence(place, capsys, given, sentence) -> None:
    assert start(given) == USER_ERROR
    assert re.search(sentence, capsys.readouterr().err)
    assert not (place / "run").exists()
