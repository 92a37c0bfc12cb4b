"""``python -m experiments.compare`` from start to end, on recorded tables that are made up."""

import contextlib
import csv
import json
import logging
import re
import shutil

import pytest

import agents
from agents.random_search import RandomSearch
from experiments.compare import compare
from experiments.comparison import plots
from experiments.comparison.cells import Run, unpacked
from experiments.comparison.places import Place
from experiments.comparison.settings import EXPERIENCED, entrants_of, points_of, settings_of
from experiments.launcher import INTERRUPTED, USER_ERROR, run_program
from tests.recorded_tables import NAMES, make_folder
from tests.synthetic import SyntheticDevice
from wpk_envs import devices
from wpk_envs.errors import UserError

AGENTS = "algos=[random,{name: ga, label: small_ga, population: 4, offspring: 4}]"
ARGUMENTS = (AGENTS, "seeds=3", "budget.trials=8", "budgets=[4,100]", "jobs=1")
ALL = 2 * len(NAMES) * 3


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder of recorded tables of two small operators."""
    return make_folder(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def finished(tables, tmp_path_factory):
    """A folder with a finished comparison in it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch, quiet_root():
        patch.chdir(folder)
        assert start(*ARGUMENTS, f"device.tables={tables}", "out=copy.json") == 0
    return folder


@contextlib.contextmanager
def quiet_root():
    """Take Hydra's logging down again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def place(tmp_path, monkeypatch, tables):
    """A folder to run in, with the tables at hand; nothing is drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setattr(plots, "save_all", lambda *given: [])
    (tmp_path / "tables").symlink_to(tables)
    with quiet_root():
        yield tmp_path


def start(*arguments, folder="run"):
    where = () if any(each.startswith("resume=") for each in arguments) else (f"hydra.run.dir={folder}",)
    return run_program("compare", compare, settings_of, [*arguments, *where])


def compared(*arguments, folder="run"):
    """Start with the tables that the test has at hand."""
    return start(*ARGUMENTS, "device.tables=tables", *arguments, folder=folder)


def summary_of(folder="run"):
    with open(f"{folder}/summary.json") as file:
        return json.load(file)


def lines_of(folder="run"):
    with open(f"{folder}/runs.jsonl") as file:
        return [json.loads(line) for line in file]


def steady(folder="run"):
    """The runs of a folder without their clocks."""
    runs = [Run.from_dict(line) for line in lines_of(folder)[1:]]
    return {run.cell: ([(step.trial, step.gain) for step in run.improvements], run.best, run.tried) for run in runs}


def vectors_of(run, space):
    return unpacked(run.tried, run.trials, space.length)


class TestFolder:
    def test_summary(self, finished):
        summary = summary_of(finished / "run")
        assert summary == json.loads((finished / "copy.json").read_text())
        assert set(summary["agents"]) == {"random", "small_ga"}
        for figures in summary["agents"].values():
            assert list(figures) == ["4", "8"]
            for figure in figures.values():
                assert 0 < figure["low"] <= figure["iqm"] <= figure["high"] <= 1
                assert figure["trials_to_95"] is None or 1 <= figure["trials_to_95"] <= 8
        assert (summary["seeds"], list(summary["operators"])) == (3, list(NAMES))
        assert (summary["best_known_from"], summary["noise"]) == ("the recorded tables", False)
        assert summary["runs"]["random"]["trials"] == len(NAMES) * 3 * 8
        assert summary["algos"]["small_ga"]["population"] == 4
        assert summary["device_name"] == "synthetic landscape"
        assert summary["versions"]["synthetic"] == "1"

    def test_pictures(self, finished):
        for name in ("curves", "profiles", "improvement", "operators"):
            assert (finished / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
            assert b"<svg" in (finished / "run" / f"{name}.svg").read_bytes()

    def test_tables(self, finished):
        table = (finished / "run" / "table.md").read_text()
        assert "| agent | 4 trials | 8 trials | trials to 95% |" in table
        assert "`python -m experiments.compare 'algos=[random," in table
        with (finished / "run" / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == ALL * 2
        best = {op: entry["best_known_speedup"] for op, entry in summary_of(finished / "run")["operators"].items()}
        for row in rows:
            assert float(row["fraction"]) == pytest.approx(float(row["speedup"]) / best[row["operator"]], rel=1e-5)

    def test_what_was_tried_gave_what_is_said(self, finished, tables):
        place = Place(devices.open_device("recorded", tables=tables), None)
        for line in lines_of(finished / "run")[1:]:
            run = Run.from_dict(line)
            space = place.space(run.cell.op)
            vectors = vectors_of(run, space)
            assert len(set(vectors)) == run.trials == 8
            gains = [answer.gain or 0.0 for answer in place.device.measure([space.candidate(each) for each in vectors])]
            assert max(gains) == run.gain
            assert gains.index(max(gains)) + 1 == run.improvements[-1].trial
            assert space.encode(run.best) == vectors[run.improvements[-1].trial - 1]

    def test_the_last_line_is_the_summary(self, place, capsys):
        assert compared() == 0
        out = capsys.readouterr().out
        assert out.splitlines()[-1] == str(place / "run" / "summary.json")
        assert re.search(r"small_ga +│ .*\d\d\.\d \(\d", out)
        assert "does not tell them apart" in " ".join(out.split())


class TestRuns:
    def test_side_by_side_they_are_the_same(self, place, finished):
        assert compared("jobs=2") == 0
        assert steady() == steady(finished / "run")

    def test_with_noise_the_recorded_speedup_is_scored(self, place, tables, finished):
        assert compared("device.noise=true") == 0
        assert summary_of()["noise"] is True
        assert steady() != steady(finished / "run")
        device = devices.open_device("recorded", tables=tables)
        recorded = Place(device, None)
        for run in map(Run.from_dict, lines_of()[1:]):
            space = recorded.space(run.cell.op)
            best = vectors_of(run, space)[run.improvements[-1].trial - 1]
            assert device.measure([space.candidate(best)])[0].gain == run.gain
            assert space.encode(run.best) == best

    def test_who_knows_something_before_is_marked(self, place):
        known = "algos=[random,{name: ranking, tables: tables}]"
        assert compared(known, "seeds=2", "ops=[small_gemm]") == 0
        runs = summary_of()["runs"]
        assert (runs["random"]["knowledge"], runs["ranking"]["knowledge"]) == ("none", "other operators")
        assert "| ranking (knows other operators) |" in (place / "run" / "table.md").read_text()

    def test_where_it_is_measured_the_best_run_is_the_best_known(self, place, monkeypatch):
        monkeypatch.setattr(devices, "open_device", lambda **settings: SyntheticDevice(error_rate=0.2))
        given = [each for each in ARGUMENTS if each != "jobs=1"]
        assert start(*given, "device=cpu", "ops=[gemv]") == 0
        summary = summary_of()
        assert summary["best_known_from"] == "the best of these runs"
        best = max(Run.from_dict(line).gain for line in lines_of()[1:])
        assert summary["operators"]["gemv"]["best_known_speedup"] == best


class TestResume:
    @pytest.fixture
    def interrupted(self, place, monkeypatch, capsys):
        """A comparison that Ctrl-C ended in its fifth run."""
        with monkeypatch.context() as patch:
            searches, search = [], RandomSearch.search

            def counting(agent, problem, seed):
                searches.append(seed)
                if len(searches) == 3:
                    raise KeyboardInterrupt
                search(agent, problem, seed)

            patch.setattr(RandomSearch, "search", counting)
            assert compared() == INTERRUPTED
        assert "resume=FOLDER" in capsys.readouterr().err
        return place

    @pytest.fixture
    def whole(self, place, finished):
        """A copy of the finished comparison."""
        shutil.copytree(finished / "run", place / "run")
        return place

    def test_goes_on_where_it_was(self, interrupted, monkeypatch, finished):
        before = lines_of()
        assert len(before) == 1 + 4
        made = []
        tune = agents.Agent.tune
        monkeypatch.setattr(agents.Agent, "tune", lambda *given: (made.append(given), tune(*given))[1])
        assert start("resume=run") == 0
        assert lines_of()[: len(before)] == before
        assert len(made) == ALL - 4
        assert steady() == steady(finished / "run")
        for figures in summary_of()["runs"].values():
            assert (figures["finished"], figures["missing"]) == (ALL // 2, 0)

    def test_a_line_that_was_cut_off_is_made_again(self, interrupted):
        path = interrupted / "run" / "runs.jsonl"
        path.write_bytes(path.read_bytes()[:-20])
        assert start("resume=run") == 0
        assert len(lines_of()) == 1 + ALL

    def test_takes_more_seeds_and_agents(self, whole):
        before = lines_of()
        assert start("resume=run", "seeds=4", f"{AGENTS[:-1]},local_search]") == 0
        assert lines_of()[: len(before)] == before
        assert len(lines_of()) == 1 + 3 * len(NAMES) * 4
        assert set(summary_of()["agents"]) == {"random", "small_ga", "local_search"}

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ("budget.trials=9", "budget"),
            ("algos=[{name: random, batch: 3}]", "algo random"),
            ("device.noise=true", "device"),
        ],
    )
    def test_refuses_what_would_make_other_runs(self, whole, capsys, change, what):
        assert start("resume=run", change) == USER_ERROR
        error = capsys.readouterr().err
        assert f"its {what} would be different" in error
        assert error.count("\n") == 1

    def test_refuses_tables_that_have_changed(self, place, capsys):
        (place / "tables").unlink()
        make_folder(place / "tables", every=4)
        assert compared("ops=[small_gemm]") == 0
        make_folder(place / "tables", every=5)
        assert start("resume=run") == USER_ERROR
        assert "on other tables of small_gemm than there are now" in capsys.readouterr().err

    def test_a_folder_in_use_is_not_overwritten(self, whole, capsys):
        before = lines_of()
        assert compared() == USER_ERROR
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
            assert compared() == USER_ERROR
        out, err = capsys.readouterr()
        assert "random on small_gemm, seed 1 failed: RuntimeError: out of luck" in out
        assert "2 runs broke down" in err
        assert "Traceback" in (place / "run" / "compare.log").read_text()
        summary = summary_of()
        assert summary["failed"][0] == {
            "run": "random on small_depthwise, seed 1",
            "reason": "RuntimeError: out of luck",
        }
        assert (summary["runs"]["random"]["missing"], summary["runs"]["small_ga"]["missing"]) == (2, 0)
        assert "random (2 runs missing)" in (place / "run" / "table.md").read_text()
        assert start("resume=run") == 0
        assert summary_of()["failed"] == []
        assert len(lines_of()) == 1 + ALL

    def test_an_operator_on_which_nothing_works_is_named(self, place, capsys):
        (place / "tables").unlink()
        make_folder(place / "tables", error_rate=1.0)
        assert compared("seeds=1") == USER_ERROR
        assert (
            "no run found a working schedule with a speedup for small_depthwise, small_gemm" in capsys.readouterr().err
        )


MISTAKES = {
    "algos=[gaa]": "unknown algo 'gaa'; did you mean ga",
    "algos=[ga,ga]": r"algos has 'ga' twice; .*\{name: ga, label: ga_2\}",
    "algos=[]": "algos is empty",
    "algos=[metaschedule]": "algo metaschedule searches a space of its own",
    "algos=ga": r"algos must be a list, such as algos=\[ga\]",
    "algos=[{label: mine}]": "unknown algo 'None'",
    "algos=[{name: ga, poplation: 3}]": "unknown setting of algo ga 'poplation'; did you mean population",
    "algos=[{name: ga, population: many}]": "algos: ga is given a value that cannot be: .*'many'",
    "algos=[{name: ga, population: 1}]": "population",
    "device=cpu;ops=[conv3x4]": "unknown operator 'conv3x4'",
    "device=cpu": r"device=cpu has no recorded operators to choose; .*ops=\[conv3x3,gemm\]",
    "seeds=0": "seeds must be a whole number of at least 1, not 0",
    "device=cpu;ops=[gemm];jobs=2": "one run goes at a time",
    "device=p100": "device=p100 only predicts",
    "budgets=[0,32]": "budgets must be numbers of trials of at least 1, not 0",
    "budget.trials=0": "budget.trials must be greater than 0",
    "experiment=quick": r"unknown experiment 'quick'.*\(allowed: recorded, recorded_quick\)",
    "algo=ga": "unknown key 'algo'; did you mean algos",
}


class TestSettings:
    @pytest.mark.parametrize("argument", MISTAKES)
    def test_mistakes_are_told_in_a_sentence(self, place, capsys, argument):
        assert start(*argument.split(";")) == USER_ERROR
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert re.search(MISTAKES[argument], err)
        assert not (place / "run").exists()

    def test_everyone_is_who_starts_from_nothing(self):
        everyone = set(entrants_of(None))
        assert {"ppo", "ga", "surrogate", "random"} <= everyone
        assert set(agents.names()) - everyone == {*EXPERIENCED, "metaschedule"}

    def test_points_end_at_the_budget(self):
        assert points_of([32, 64, 128], 100) == (32, 64, 100)
        assert points_of([512], 64) == (64,)
        assert points_of([128, 32], None) == (32, 128)
        with pytest.raises(UserError, match=r"budgets is empty and budget\.trials null"):
            points_of([], None)
