"""``python -m experiments.bench`` on the synthetic device, and its process figures for real."""

import json
import logging
import statistics

import pytest

from experiments import bench
from experiments.bench import check
from experiments.figures import TARGETS
from experiments.launcher import INTERRUPTED, USER_ERROR, run_program
from tests.synthetic import SyntheticDevice
from wpk_envs import devices, operators


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Run the bench in tmp_path; its exit code and the figures by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPK_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setattr(devices, "open_device", lambda **settings: SyntheticDevice())
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(*arguments):
        code = run_program("bench", bench.bench, check, ["algo=random", "hydra.run.dir=bench", *arguments])
        summary = json.loads((tmp_path / "bench" / "summary.json").read_text())
        return code, {entry["figure"]: entry for entry in summary["figures"]}

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)


def test_speedups_have_the_ratios_of_every_operator(start, tmp_path):
    code, figures = start("figures=[conv3x3_speedup,named_speedup]", "budget.trials=4")
    assert code == 0
    conv, named = figures["conv3x3_speedup"], figures["named_speedup"]
    assert conv["value"] == statistics.median(conv["samples"]["conv3x3"])
    assert conv["target"] == 2.3
    assert conv["met"] is (conv["value"] >= 2.3)
    assert named["samples"].keys() == set(operators.names())
    assert named["value"] == min(statistics.median(ratios) for ratios in named["samples"].values())
    assert named["samples"]["conv3x3"] == conv["samples"]["conv3x3"], "an operator is tuned once"
    assert (tmp_path / "bench" / "operators" / "gemv" / "trials.jsonl").exists()


def test_resnet18_is_the_mean_over_its_distinct_convolutions(start):
    _, figures = start("figures=[resnet18_speedup]", "budget.trials=2")
    members = operators.suites()["resnet18"].members
    samples = figures["resnet18_speedup"]["samples"]
    assert samples.keys() == {f"resnet18/{m.number}" for m in members if m.operator.kind == "conv2d"}
    medians = [statistics.median(ratios) for ratios in samples.values()]
    assert figures["resnet18_speedup"]["value"] == pytest.approx(statistics.geometric_mean(medians))


@pytest.mark.parametrize("template", ["direct_conv", "winograd_conv", "gemm"])
def test_rates_are_of_one_template_and_measured_anew(start, tmp_path, template):
    name = f"{template}_rate"
    code, figures = start(f"figures=[{name}]", "budget.trials=6")
    assert code == 0
    assert figures[name]["value"] == figures[name]["samples"][template][0] > 0
    lines = (tmp_path / "bench" / "rates" / template / "trials.jsonl").read_text().splitlines()[1:]
    trials = [json.loads(line) for line in lines]
    assert len(trials) == 6
    assert {trial["config"]["template"] for trial in trials} == {template}
    assert not any(trial["reused"] for trial in trials)


def test_steps_and_imports_are_timed(start):
    code, figures = start("figures=[construct_step,import]")
    assert code == 0
    assert len(figures["construct_step"]["samples"]["episodes"]) == bench.STEP_EPISODES
    assert 0 < figures["construct_step"]["value"] < 5000
    assert len(figures["import"]["samples"]["processes"]) == bench.PROCESS_SAMPLES
    assert 0 < figures["import"]["value"] < 60


def test_an_operator_without_a_working_schedule_is_a_missed_target(start, monkeypatch):
    monkeypatch.setattr(devices, "open_device", lambda **settings: SyntheticDevice(error_rate=1.1))
    code, figures = start("figures=[conv3x3_speedup]", "budget.trials=2")
    assert code == 0
    entry = figures["conv3x3_speedup"]
    assert (entry["value"], entry["met"]) == (None, False)
    assert entry["note"] == "no working schedule or no baseline for conv3x3"


def test_an_interrupt_keeps_the_finished_figures(start, monkeypatch):
    def interrupted(self, name):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.Bench, "construct_step", interrupted)
    code, figures = start("figures=[direct_conv_rate,construct_step,import]", "budget.trials=2")
    assert code == INTERRUPTED
    assert list(figures) == ["direct_conv_rate"]


def test_every_figure_can_be_measured(capsys):
    measures = bench.Bench(place=None, folder=None).measures()  # type: ignore[arg-type]
    assert measures.keys() == TARGETS.keys()
    assert run_program("bench", bench.bench, check, ["figures=[nothing]"]) == USER_ERROR
    assert capsys.readouterr().err.startswith("unknown figure 'nothing'")
