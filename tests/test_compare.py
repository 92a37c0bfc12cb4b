"""``python -m experiments.compare`` from start to end, on synthetic devices."""

import csv
import json
import logging
import re

import pytest

import agents
from agents.random_search import RandomSearch
from experiments.compare import compare
from experiments.comparison import places
from experiments.comparison.cells import Run
from experiments.comparison.settings import points_of, settings_of
from experiments.launcher import INTERRUPTED, USER_ERROR, run_program
from tests.synthetic import SyntheticDevice, tiny_space
from wpk_envs import devices
from wpk_envs.errors import UserError

AGENTS = "algos=[random,{name: ga, label: small_ga, population: 4, offspring: 4}]"
ARGUMENTS = (AGENTS, "ops=[conv3x3,gemm]", "seeds=3", "budget.trials=8", "budgets=[4,100]", "device=cpu")


class Interrupted(Exception):
    pass


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a store of its own, where the tiny space stands for every operator's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setattr(places, "space_on", lambda device, operator: tiny_space())
    monkeypatch.setattr(devices, "open_device", lambda **settings: SyntheticDevice(error_rate=0.2, seconds=9.0))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


def start(*arguments, folder="run"):
    where = () if any(each.startswith("resume=") for each in arguments) else (f"hydra.run.dir={folder}",)
    return run_program("compare", compare, settings_of, [*arguments, *where])


def summary_of(folder="run"):
    with open(f"{folder}/summary.json") as file:
        return json.load(file)


def lines_of(folder="run"):
    with open(f"{folder}/runs.jsonl") as file:
        return [json.loads(line) for line in file]


def steady(folder="run"):
    """The runs of a folder without their clocks."""
    runs = [Run.from_dict(line) for line in lines_of(folder)[1:]]
    return {run.cell: ([(step.trial, step.gain) for step in run.improvements], run.vectors()) for run in runs}


class TestFolder:
    def test_holds_everything(self, place, capsys):
        assert start(*ARGUMENTS, "out=copy.json") == 0
        out = capsys.readouterr().out
        assert out.splitlines()[-1] == str(place / "run" / "summary.json")
        assert re.search(r"small_ga +│ .*\d\d\.\d \(\d", out)
        summary = summary_of()
        assert summary == json.loads((place / "copy.json").read_text())
        assert set(summary["agents"]) == {"random", "small_ga"}
        for figures in summary["agents"].values():
            assert list(figures) == ["4", "8"]
            for figure in figures.values():
                assert 0 < figure["low"] <= figure["iqm"] <= figure["high"] <= 1
                assert figure["trials_to_95"] is None or 1 <= figure["trials_to_95"] <= 8
        assert (summary["seeds"], list(summary["operators"])) == (3, ["conv3x3", "gemm"])
        assert summary["best_known_from"] == "the best of these runs"
        assert summary["runs"]["random"]["trials"] == 2 * 3 * 8
        assert summary["algos"]["small_ga"]["population"] == 4
        assert summary["versions"]["synthetic"] == "1"

    def test_has_pictures_and_tables(self, place):
        assert start(*ARGUMENTS) == 0
        for name in ("curves", "profiles", "improvement", "operators"):
            assert (place / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
            assert b"<svg" in (place / "run" / f"{name}.svg").read_bytes()
        table = (place / "run" / "table.md").read_text()
        assert "| agent | 4 trials | 8 trials | trials to 95% |" in table
        assert "`python -m experiments.compare 'algos=[random," in table
        with open("run/results.csv") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2 * 2 * 3 * 2
        assert max(float(row["fraction"]) for row in rows) == 1

    def test_keeps_what_was_tried(self, place):
        assert start(*ARGUMENTS) == 0
        space, device = tiny_space(), SyntheticDevice(error_rate=0.2, seconds=9.0)
        for line in lines_of()[1:]:
            run = Run.from_dict(line)
            assert len(set(run.vectors())) == run.trials == 8
            best = max(device.measure([space.candidate(each)])[0].gain or 0 for each in run.vectors())
            assert best == run.gain

    def test_the_same_seed_makes_the_same_run(self, place):
        assert start(*ARGUMENTS) == 0
        assert start(*ARGUMENTS, folder="again") == 0
        assert steady() == steady("again")


class TestResume:
    @pytest.fixture
    def interrupted(self, place, monkeypatch, capsys):
        """A comparison that Ctrl-C ended in its fourth run."""
        with monkeypatch.context() as patch:
            searches, search = [], RandomSearch.search

            def counting(agent, problem, seed):
                searches.append(seed)
                if len(searches) == 3:
                    raise KeyboardInterrupt
                search(agent, problem, seed)

            patch.setattr(RandomSearch, "search", counting)
            assert start(*ARGUMENTS) == INTERRUPTED
        assert "resume=FOLDER" in capsys.readouterr().err
        return place

    def test_goes_on_where_it_was(self, interrupted, monkeypatch):
        before = lines_of()
        assert len(before) == 1 + 4
        made = []
        tune = agents.Agent.tune
        monkeypatch.setattr(agents.Agent, "tune", lambda *args: (made.append(args), tune(*args))[1])
        assert start("resume=run") == 0
        assert lines_of()[: len(before)] == before
        assert len(made) == 12 - 4
        assert summary_of()["runs"]["random"] | {"wall_seconds": 0} == {
            **{"finished": 6, "missing": 0, "trials": 48, "requests_invalid": 0},
            **{"stop_reasons": {"trials": 6}, "wall_seconds": 0},
        }
        assert start(*ARGUMENTS, folder="whole") == 0
        assert steady() == steady("whole")

    def test_a_line_that_was_cut_off_is_made_again(self, interrupted):
        path = interrupted / "run" / "runs.jsonl"
        path.write_bytes(path.read_bytes()[:-20])
        assert start("resume=run") == 0
        assert len(lines_of()) == 1 + 12

    def test_takes_more_seeds_operators_and_agents(self, place):
        assert start(*ARGUMENTS) == 0
        before = lines_of()
        more = ("seeds=4", "ops=[conv3x3,gemm,conv1x1]", f"{AGENTS[:-1]},local_search]")
        assert start("resume=run", *more) == 0
        assert lines_of()[: len(before)] == before
        assert len(lines_of()) == 1 + 3 * 3 * 4
        assert set(summary_of()["agents"]) == {"random", "small_ga", "local_search"}

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ("budget.trials=9", "budget"),
            ("algos=[{name: random, batch: 3}]", "algo random"),
            ("device.threads=2", "device"),
        ],
    )
    def test_refuses_what_would_make_other_runs(self, place, capsys, change, what):
        assert start(*ARGUMENTS) == 0
        capsys.readouterr()
        assert start("resume=run", change) == USER_ERROR
        error = capsys.readouterr().err
        assert f"its {what} would be different" in error
        assert error.count("\n") == 1

    def test_refuses_another_device(self, place, monkeypatch, capsys):
        assert start(*ARGUMENTS) == 0
        other = SyntheticDevice()
        other.info = places.devices.open_device().info.__class__(**{**vars(other.info), "name": "another"})
        monkeypatch.setattr(devices, "open_device", lambda **settings: other)
        assert start("resume=run") == USER_ERROR
        assert "made with another device than there is now" in capsys.readouterr().err

    def test_a_folder_in_use_is_not_overwritten(self, place, capsys):
        assert start(*ARGUMENTS) == 0
        before = lines_of()
        assert start(*ARGUMENTS) == USER_ERROR
        assert "holds a comparison already" in capsys.readouterr().err
        assert lines_of() == before


class TestFailures:
    def test_a_run_that_breaks_down_ends_no_other(self, place, monkeypatch, capsys):
        search = RandomSearch.search

        def fails(agent, problem, seed):
            if seed == 1:
                raise RuntimeError("out of luck")
            search(agent, problem, seed)

        with monkeypatch.context() as patch:
            patch.setattr(RandomSearch, "search", fails)
            assert start(*ARGUMENTS) == USER_ERROR
        out, err = capsys.readouterr()
        assert "random on gemm, seed 1 failed: RuntimeError: out of luck" in out
        assert "2 runs broke down" in err
        assert "Traceback" in (place / "run" / "compare.log").read_text()
        summary = summary_of()
        assert summary["failed"][0] == {"run": "random on conv3x3, seed 1", "reason": "RuntimeError: out of luck"}
        assert (summary["runs"]["random"]["missing"], summary["runs"]["small_ga"]["missing"]) == (2, 0)
        assert "random (2 runs missing)" in (place / "run" / "table.md").read_text()
        assert start("resume=run") == 0
        assert summary_of()["failed"] == []
        assert len(lines_of()) == 1 + 12

    def test_an_operator_on_which_nothing_works_is_named(self, place, monkeypatch, capsys):
        monkeypatch.setattr(devices, "open_device", lambda **settings: SyntheticDevice(error_rate=1.0))
        assert start(*ARGUMENTS) == USER_ERROR
        assert "no run found a working schedule with a speedup for conv3x3, gemm" in capsys.readouterr().err


MISTAKES = {
    "algos=[gaa]": "unknown algo 'gaa'; did you mean ga",
    "algos=[ga,ga]": r"algos has 'ga' twice; .*\{name: ga, label: ga_2\}",
    "algos=[]": "algos is empty",
    "algos=ga": r"algos must be a list, such as algos=\[ga\]",
    "algos=[{label: mine}]": "unknown algo 'None'",
    "algos=[{name: ga, poplation: 3}]": "unknown setting of algo ga 'poplation'; did you mean population",
    "algos=[{name: ga, population: many}]": "algos: ga is given a value that cannot be: .*'many'",
    "algos=[{name: ga, population: 1}]": "population",
    "ops=[conv3x4]": "unknown operator 'conv3x4'",
    "ops=null": r"device=cpu has no recorded operators to choose; .*ops=\[conv3x3,gemm\]",
    "seeds=0": "seeds must be a whole number of at least 1, not 0",
    "jobs=2": "one run goes at a time",
    "device=p100": "device=p100 only predicts",
    "budgets=[0,32]": "budgets must be numbers of trials of at least 1, not 0",
    "budget.trials=0": "budget.trials must be greater than 0",
    "experiment=quick": r"unknown experiment 'quick'.*\(allowed: recorded, recorded_quick\)",
    "algo=ga": "unknown key 'algo'; did you mean algos",
}


class TestSettings:
    @pytest.mark.parametrize("argument", MISTAKES)
    def test_mistakes_are_told_in_a_sentence(self, place, capsys, argument):
        base = [each for each in ARGUMENTS if each.partition("=")[0] != argument.partition("=")[0]]
        assert start(*base, argument) == USER_ERROR
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert re.search(MISTAKES[argument], err)
        assert not (place / "run").exists()

    def test_points_end_at_the_budget(self):
        assert points_of([32, 64, 128], 100) == (32, 64, 100)
        assert points_of([512], 64) == (64,)
        assert points_of([128, 32], None) == (32, 128)
        with pytest.raises(UserError, match=r"budgets is empty and budget\.trials null"):
            points_of([], None)
