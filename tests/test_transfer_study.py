"""``python -m experiments.transfer`` from start to end, on recorded tables that are made up."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from experiments.comparison import plots
from experiments.held_out import COMMON, TRANSFER, settings_of
from experiments.launcher import USER_ERROR, run_program
from experiments.transfer import study
from tests.recorded_tables import NAMES, UnsteadyDevice, make_folder, records
from wpk_envs import operators
from wpk_envs.records import write_table

OTHER = operators.override("gemm", m=32, n=32, k=64)
NAMES_HERE = [*NAMES, "other_gemm"]
QUICK = ("device.tables=tables", "imitation=20", "batch=32", "hidden=8", "seeds=2", "train_seeds=2", "jobs=1")
SMALL = ("budget.trials=6", "budgets=[3]")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Three operators of two families."""
    folder = make_folder(tmp_path_factory.mktemp("tables"))
    rows = list(records(OTHER, UnsteadyDevice(error_rate=0.1, seconds=0.5), every=4))
    names = {"other_gemm": OTHER}
    write_table(folder / "other_gemm.parquet", rows, {"workers": 2, "peak_gflops": 100.0}, names=names)
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, tables):
    """A folder to run in, with the tables at hand, and Hydra's logging taken down again; nothing is drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "save_all", lambda *given: [])
    (tmp_path / "tables").symlink_to(tables)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


def start(*arguments, quick=(*QUICK, *SMALL)):
    where = () if any(each.startswith("resume=") for each in arguments) else ("hydra.run.dir=run",)
    return run_program("transfer", study, lambda cfg: settings_of(cfg, Path()), [*quick, *where, *arguments])


def summary_of(place):
    return json.loads((place / "run" / "summary.json").read_text())


def test_every_operator_is_held_out_alone_and_with_its_family(place, capsys) -> None:
    assert start() == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(place / "run" / "summary.json")
    summary = summary_of(place)
    assert list(summary["splits"]) == ["operator", "family"]
    for split, result in summary["splits"].items():
        assert list(result["agents"]) == [*TRANSFER, "ranking", "ranking_ga", *COMMON]
        assert list(result["operators"]) == sorted(NAMES_HERE)
        assert all(run["missing"] == 0 for run in result["runs"].values())
        figures = result["headline"]
        assert figures["operators"]["other_gemm"]["family"] == "gemm"
        ga, transfer = figures["median"]["ga"], figures["median"]["transfer"]
        assert figures["of_ga"]["transfer"] == (transfer / ga if ga and transfer else None)
        assert (place / "run" / split / "headline.md").read_text().count("\n| ") == 3 + len(NAMES_HERE)
        assert {"table.md", "results.csv"} <= {path.name for path in (place / "run" / split).iterdir()}
    known = {path.removeprefix("policies/") for path in summary["policies"]}
    assert known == {
        *(f"operator/seed{seed}/without_{name}.safetensors" for seed in (0, 1) for name in NAMES_HERE),
        *(f"family/seed{seed}/without_family-{name}.safetensors" for seed in (0, 1) for name in ("gemm", "depthwise")),
    }


def test_no_policy_has_seen_what_it_tunes(place, monkeypatch) -> None:
    from agents.transfer import Transfer

    seen = []
    search = Transfer.search

    def noted(self, problem, seed):
        search(self, problem, seed)
        seen.append((problem.operator, self.knowledge))

    monkeypatch.setattr(Transfer, "search", noted)
    assert start() == 0
    assert len(seen) == 2 * len(TRANSFER) * len(NAMES_HERE) * 2
    assert not any(knowledge["has_seen_operator"] for _, knowledge in seen)
    for operator, knowledge in seen:
        if "/family/" in knowledge["policy"]:
            families = {"small_depthwise": "depthwise", "small_gemm": "gemm", "other_gemm": "gemm"}
            assert operator.family not in {families[name] for name in knowledge["operators"]}


def test_it_goes_on_where_it_was(place) -> None:
    assert start("split=operator", "seeds=1") == 0
    before = {path: path.stat().st_mtime_ns for path in (place / "run").glob("policies/*/*/*")}
    first = (place / "run" / "runs_common.jsonl").read_text()
    assert start("resume=run", "seeds=2") == 0
    assert {path: path.stat().st_mtime_ns for path in (place / "run").glob("policies/*/*/*")} == before
    assert (place / "run" / "runs_common.jsonl").read_text().startswith(first)
    assert summary_of(place)["seeds"] == 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("split=kernel", r"unknown split 'kernel' \(allowed: family, operator\)"),
        ("device=cpu", "device=recorded"),
        ("ops=[gemm]", "unknown recorded operator 'gemm'"),
        ("train_seeds=0", "train_seeds must be a whole number of at least 1, not 0"),
        ("noise=-1", "noise must be 0 or more, not -1"),
    ],
)
def test_mistakes_are_told_in_a_sentence(capsys, given, sentence) -> None:
    assert start(given, quick=() if given == "device=cpu" else QUICK) == USER_ERROR
    assert re.search(sentence, capsys.readouterr().err)


def test_another_recipe_does_not_go_on(place, capsys) -> None:
    assert start("split=operator", "seeds=1", "ops=[small_gemm]") == 0
    assert start("resume=run", "imitation=30") == USER_ERROR
    assert "its imitation would be different" in capsys.readouterr().err
