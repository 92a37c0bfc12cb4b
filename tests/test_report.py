"""``python -m experiments.report``: what is on the page, that it stands alone, and what it refuses."""

import contextlib
import json
import logging
import re
from html.parser import HTMLParser

import pytest

from experiments import compare, report, run
from experiments.comparison.settings import settings_of as comparison_settings
from experiments.launcher import USER_ERROR, run_program
from experiments.settings import settings_of
from tests.recorded_tables import make_folder
from tests.report_folders import (
    SCRIPT,
    comparison_folder,
    run_folder,
    speedups_folder,
    suite_folder,
    transfer_folder,
)

VOID = {"meta", "path", "line", "rect", "wbr"}


class Page(HTMLParser):
    """A page's tags, texts, headings and tables; raises if tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.text, self.open, self.ids, self.attributes, self.headings = text, [], [], [], []
        self.tables, self.words = [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])

    def handle_startendtag(self, tag, attributes):
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words += data
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings.append(data)
        if "table" in self.open and self.open[-1] == "th" and "thead" in self.open:
            self.tables[-1].append(data)

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@contextlib.contextmanager
def working_in(folder):
    """Work in a folder with a store of its own; Hydra's logging is taken down again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WPK_STORE", str(folder / "records.sqlite"))
        yield folder
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def place(tmp_path):
    with working_in(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A page of everything, made once, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    with working_in(folder):
        return page_of(*everything(folder)), folder


@pytest.fixture
def page(whole):
    return whole[0]


def start(*settings):
    return run_program("report", report.act, report.check, [*settings, "hydra.run.dir=report"])


def page_of(*settings):
    assert start(*settings) == 0
    return Page(open("report/report.html", encoding="utf-8").read())


def refused(capsys, *settings):
    assert start(*settings) == USER_ERROR
    return capsys.readouterr().err


def everything(place):
    run_folder(place / "results" / "run")
    run_folder(place / "results" / "model", 1.7, predicted=True, device_name="a GPU that is not here")
    suite_folder(place / "results" / "suite", {1: 0.9, 2: 1.0, 3: 1.4})
    comparison_folder(place / "results" / "compare")
    transfer_folder(place / "results" / "transfer")
    speedups_folder(place / "results" / "tables")
    return ["from=results", f"tables={make_folder(place / 'recorded', elites=2)}"]


class TestPage:
    def test_has_every_section(self, page):
        wanted = ["Summary", "Results by operator", "Speedups of networks", "Speedup so far", "Comparison of agents"]
        wanted += ["Schedule spaces", "Winning schedules", "Predicted", "Predicted results by operator"]
        wanted += ["Datasheets of the recorded tables", "How to reproduce"]
        assert [heading for heading in page.headings if heading in wanted] == wanted

    def test_stands_alone(self, page):
        assert "<script" not in page.text.lower()
        assert not re.search(r"https?:|url\(|@import", page.text)
        assert page.values("src") == []
        assert {tag for tag, _, _ in page.attributes} & {"link", "img", "iframe", "object"} == set()
        assert all(link.startswith("#") for link in page.values("href"))
        assert "default-src 'none'" in page.text

    def test_links_lead_somewhere_and_names_are_given_once(self, page):
        assert len(page.ids) == len(set(page.ids))
        assert {link[1:] for link in page.values("href")} <= set(page.ids)

    def test_text_is_escaped(self, page):
        assert page.words.count(SCRIPT) == 5
        assert SCRIPT not in page.text

    def test_pictures_have_words_and_colours_of_both_schemes(self, page):
        roles = [value for tag, key, value in page.attributes if tag == "svg" and key == "role"]
        labels = [value for tag, key, value in page.attributes if tag == "svg" and key == "aria-label"]
        assert len(roles) == len(labels) > 8
        assert "prefers-color-scheme: dark" in page.text
        assert not re.search(r"(?:stroke|fill)=\"#", page.text)

    def test_commands_make_it_again(self, page):
        assert "python -m experiments.run op=gemm algo=random\n" in page.words
        assert "python -m experiments.compare seeds=8" in page.words
        assert "python -m experiments.report from=results tables=" in page.words
        assert "out=copy.json" not in page.text

    def test_measured_and_predicted_share_no_table(self, page):
        figures = ("latency, us", "ours, us", "baseline, us", "speedup", "of the roofline", "around 1x")
        for heads in page.tables:
            told = {"predicted" in head for head in heads if any(figure in head for figure in figures)}
            assert len(told) <= 1, heads
        assert any("predicted speedup" in heads for heads in page.tables)

    def test_says_what_wins_and_what_does_not(self, page):
        assert "Slower than the vendor's best: resnet18/1." in page.words
        assert "Not told apart from it (the 95% interval holds 1x): resnet18/2." in page.words
        assert "After 64 trials, ga reaches 96.0% (95% interval 94.0 to 97.0) of the best known speedup" in page.words
        assert "By this figure it is not told apart from ppo." in page.words
        assert "The predicted speedup over the default schedule (predicted) is 1.70x." in page.words

    def test_tells_what_transfer_saves(self, page):
        assert any(heading.startswith("Transfer, each operator tuned without its family") for heading in page.headings)
        assert re.search(r"of the trials of ga\s*100%\s*-\s*25%", page.words)

    def test_maps_the_recorded_spaces(self, page):
        assert "small_depthwise" in page.words
        assert "Which knob matters" in page.words
        assert re.search(r"R2 0\.\d{3} held out", page.words)
        assert "tile_oc" in page.words

    def test_is_small_and_told_of(self, whole):
        folder = whole[1] / "report"
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["bytes"] == (folder / "report.html").stat().st_size < 300_000
        assert (summary["operators"], summary["comparisons"], summary["spaces"]) == (5, 2, 2)
        assert summary["missing"] == []


class TestInputs:
    def test_real_folders(self, place):
        tables = make_folder(place / "recorded")
        device = ["device=recorded", f"device.tables={tables}"]
        tuned = [*device, "logger=none", "algo=random", "budget.trials=8", "op=gemm", "op.m=16", "op.n=64", "op.k=64"]
        compared = [*device, "algos=[random,ga]", "seeds=2", "budget.trials=8", "budgets=[4,8]", "jobs=1"]
        assert run_program("run", run.run, settings_of, [*tuned, "hydra.run.dir=outputs/run/1"]) == 0
        arguments = [*compared, "hydra.run.dir=outputs/compare/1"]
        assert run_program("compare", compare.compare, comparison_settings, arguments) == 0
        page = page_of("tables=[]")
        assert "Performance profiles." in page.words
        assert "Who beats whom." in page.words
        assert "@T.prim_func" in page.words
        assert "outputs/run/1 was taken, the newest result of experiments.run" in page.words

    def test_the_newest_of_each_program_is_the_default(self, place):
        for name, speedup in (("2026-01-01", 1.1), ("2026-01-02", 3.3)):
            run_folder(place / "outputs" / "run" / name, speedup)
        (place / "outputs" / "run" / "2026-01-03").mkdir()
        page = page_of("tables=[]")
        assert "3.30x" in page.words
        assert "1.10x" not in page.words
        assert "Not on this page: a comparison of agents" in page.words

    def test_jobs_of_a_multirun_are_taken_together(self, place):
        for job, algo in enumerate(("random", "ga")):
            run_folder(place / "many" / str(job), 1.5 + job, algo=algo)
        page = page_of("from=many", "tables=[]")
        assert "1 operator was tuned on synthetic landscape, in 2 runs." in page.words
        assert page.words.count("gemm: best") == 0
        assert len([label for label in page.values("aria-label") if label.startswith("gemm: best")]) == 2

    def test_results_of_other_programs_are_named_and_left_out(self, place):
        run_folder(place / "results" / "run")
        (place / "results" / "bench").mkdir()
        (place / "results" / "bench" / "summary.json").write_text('{"figures": {}}')
        assert "results/bench was left out" in page_of("from=results", "tables=[]").words

    def test_a_run_without_a_winner(self, place):
        words = page_of(f"from={run_folder(place / 'run', None)}", "tables=[]").words
        assert "There is no working schedule for gemm." in words
        assert "its curve is missing" in words

    def test_scripts_beyond_the_room_are_named(self, place, monkeypatch):
        monkeypatch.setattr("experiments.reporting.runs.SCRIPT_BYTES", 2 * len(SCRIPT))
        page = page_of(f"from={suite_folder(place / 'suite', {1: 1.2, 2: 1.3, 3: 1.4})}", "tables=[]")
        assert page.words.count(SCRIPT) == 2
        assert "left out to keep the page small" in page.words

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            (["from=nowhere"], "from='nowhere' is not a folder"),
            (["from=empty"], "from='empty' has no result of experiments.run or"),
            (["from=3"], "from must be a folder or a list of them"),
            (["tables=nowhere"], "'nowhere' has no tables"),
            (["tables=[]"], "there is nothing to report"),
            (["from=damaged"], "is damaged"),
            (
                ["from=other", "tables=[]"],
                "what experiments.compare wrote into 'other' is damaged or of another version",
            ),
        ],
    )
    def test_bad_input_is_one_sentence(self, place, capsys, settings, sentence):
        (place / "empty").mkdir()
        (place / "damaged").mkdir()
        (place / "damaged" / "summary.json").write_text("{")
        comparison_folder(place / "other", agents={"ga": {"64": {}}})
        message = refused(capsys, *settings)
        assert sentence in message
        assert message.count("\n") == 1
