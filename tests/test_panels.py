"""What W&B is told and what the dashboards ask for: the same names, in specs that W&B's library reads back."""

import json
import re

import hydra
import pytest
import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2 import internal as report_model
from wandb_workspaces.workspaces import internal as workspace_model

import agents
from experiments import config, loggers
from experiments.dashboards import boards, panels
from experiments.loggers import Tracked, WandbConfig, wandb_run
from experiments.loggers.summaries import comparison_digest, log_summary, plans_digest, speedups_digest
from experiments.naming import MEASURED, PREDICTED
from tests.test_loggers import MEASURED_TRIALS, PREDICTED_TRIALS, log
from wpk_envs import operators
from wpk_envs.planner.models import MODELS

MINE = WandbConfig(mode="offline", project="mine", entity="me")
RESULT = {"iqm": 0.9, "low": 0.85, "high": 0.95, "trials_to_95": 40.0}
COMPARISON = {
    "agents": {name: {"128": RESULT, "32": {**RESULT, "iqm": 0.7, "trials_to_95": None}} for name in agents.names()},
    "seeds": 20,
}
ROW = {"ours_us": 2.0, "vendor_us": 4.0, "speedup": 2.0, "low": 1.9, "high": 2.1, "speedup_over_metaschedule": 1.5}
SPEEDUPS = [{"op": f"{suite}/1", "suite": suite, **ROW} for suite in operators.suites()]
PLANS = [{"model": model, "plan_us": 900.0, "ratio_to_fastest_peer": 1.1} for model in MODELS]
DIGESTS = {
    "compare": comparison_digest(COMPARISON),
    "tables": speedups_digest(SPEEDUPS),
    "plan": plans_digest(PLANS),
}


class Recorder:
    """A W&B run that remembers what it was told."""

    id = "recorded"

    def __init__(self):
        self.history: list[dict] = []
        self.summary: dict = {}
        self.steps: dict[str, str] = {}

    def log(self, row):
        self.history.append(row)

    def define_metric(self, name, step_metric):
        self.steps[name] = step_metric

    def log_artifact(self, artifact):
        """Not looked at."""

    def finish(self):
        """Nothing to end."""

    @property
    def keys(self):
        return {key for row in self.history for key in row} | self.summary.keys()


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """What a program's run tells W&B, by job and naming; the loggers are the real ones."""

    def recorded(job, naming=MEASURED):
        run = Recorder()
        monkeypatch.setattr(wandb_run, "_open", lambda *given: run)
        tracked = Tracked(job, job, {}, naming=naming, job=job)
        if job == "run":
            log(loggers.open_logger(MINE, tracked, tmp_path), PREDICTED_TRIALS if naming.predicted else MEASURED_TRIALS)
        else:
            log_summary(MINE, tracked, DIGESTS[job], tmp_path)
        return run

    return recorded


def asked(panel):
    """Names of the figures and tables that a panel asks for, by its spec; a pattern is asked for as it is."""
    spec = json.loads(panel._to_model().model_dump_json(by_alias=True, exclude_none=True))
    plain = spec["config"]
    names = [*plain.get("metrics", []), *([plain["xAxis"]] if "xAxis" in plain else [])]
    text = json.dumps(plain)
    names += re.findall(r'"key": \{"nodeType": "const", "type": "string", "val": "(\w+)"', text)  # a table
    names += re.findall(r'"name": "tableKey", "value": "(\w+)"', text)  # a chart of a table
    return names, plain.get("metricRegex")


class TestPanels:
    def test_ask_for_what_the_loggers_write(self, recorded):
        for group in panels.groups():
            naming = PREDICTED if "predicted" in group.name else MEASURED
            written = recorded(group.job, naming).keys
            for panel in group.panels:
                names, pattern = asked(panel)
                assert names, "a panel of nothing"
                assert set(names) <= written, group.name
                assert pattern is None or sum(bool(re.match(pattern, key)) for key in written) == len(agents.names())

    def test_of_a_table_ask_for_its_columns(self, recorded):
        (group,) = (group for group in panels.groups() if group.name == "Speedup tables")
        (chart,) = (panel for panel in group.panels if isinstance(panel, wr.CustomChart))
        (table,) = (row["speedups"] for row in recorded("tables").history if "speedups" in row)
        assert set(chart.chart_fields.values()) <= set(table.columns)

    def test_group_by_what_a_run_is_told(self):
        config.register()
        with hydra.initialize_config_module("conf", version_base="1.3"):
            node = hydra.compose("run")
        for key in panels.ALGORITHM.split("."):
            node = node[key]
        assert node == "ppo"

    def test_never_mix_what_is_measured_and_predicted(self):
        names = {True: set(), False: set()}
        for group in panels.groups():
            if group.name != "Errors":
                names["predicted" in group.name] |= {name for panel in group.panels for name in asked(panel)[0]}
        assert names[True] & names[False] == {"trial", "seconds"}
        assert all("predicted" in name for name in names[True] - names[False])


class TestDigests:
    def test_a_comparison_is_curves_over_budgets_and_a_table(self, recorded):
        run = recorded("compare")
        assert [row["budget_trials"] for row in run.history[:2]] == [32, 128]
        assert [row["fraction_of_best_known/ga"] for row in run.history[:2]] == [0.7, 0.9]
        assert run.steps == {"fraction_of_best_known/*": "budget_trials"}
        assert (run.summary["trials_to_95/ga"], run.summary["seeds"]) == (40.0, 20)
        table = run.history[2]["comparison"]
        assert table.columns[:2] == ["agent", "budget_trials"]
        assert table.data[:2] == [
            [agents.names()[0], 32, 0.7, 0.85, 0.95, None],
            [agents.names()[0], 128, *RESULT.values()],
        ]

    def test_what_is_not_known_is_left_out(self, recorded, monkeypatch):
        rows = [
            {"op": "net/1", "suite": "net", **ROW, "speedup_over_metaschedule": None},
            {"op": "net/2", "suite": "net", **dict.fromkeys(ROW)},
            {"op": "net/3", "suite": "net", **ROW, "speedup": 8.0, "speedup_over_metaschedule": None},
        ]
        monkeypatch.setitem(DIGESTS, "tables", speedups_digest(rows))
        unknown = dict.fromkeys(RESULT)
        monkeypatch.setitem(DIGESTS, "compare", comparison_digest({"agents": {"ga": {"8": unknown}}, "seeds": 1}))
        assert recorded("compare").history[0] == {"budget_trials": 8}
        run = recorded("tables")
        assert run.summary == {"geomean_speedup/net": pytest.approx(4.0)}
        assert run.history[0]["speedups"].data[1] == ["net/2", "net", *[None] * len(ROW)]

    def test_with_another_logger_nothing_is_done(self, monkeypatch, tmp_path):
        monkeypatch.setattr(wandb_run, "_open", lambda *given: pytest.fail("W&B was opened"))
        for other in (loggers.LoggerConfig("csv"), WandbConfig(mode="disabled")):
            log_summary(other, Tracked("n", "g", {}), comparison_digest(COMPARISON), tmp_path)

    def test_as_an_offline_run(self, tmp_path, monkeypatch):
        warnings: list[str] = []
        monkeypatch.setattr(wandb_run, "CLOSE_SECONDS", 300.0)  # this machine may be busy
        tracked = Tracked("compare-20", "gpus", {"seeds": 20}, job="compare")
        log_summary(MINE, tracked, comparison_digest(COMPARISON), tmp_path, warnings.append)
        assert warnings == []
        wandb.teardown()  # waits for the file, as the end of a program does
        (offline,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
        content = offline.read_bytes()
        for word in (b"compare-20", b"fraction_of_best_known/ga", b"trials_to_95/ga", b"budget_trials", b"mine"):
            assert word in content


class TestBoards:
    def test_the_workspace_is_read_back_by_the_library(self):
        spec = boards.spec(boards.workspace(MINE, "me"))
        view = workspace_model.View.model_validate(spec)
        read = ws.Workspace._from_model(view)
        groups = panels.groups()
        assert (read.entity, read.project, read.name) == ("me", "mine", boards.TITLE)
        assert [section.name for section in read.sections] == [group.name for group in groups]
        for section, group in zip(read.sections, groups):
            assert [type(panel) for panel in section.panels] == [type(panel) for panel in group.panels]
            assert [asked(panel) for panel in section.panels] == [asked(panel) for panel in group.panels]
            assert section.is_open is ("predicted" not in section.name)

    def test_the_report_has_the_same_panels_and_says_how_to_make_it_again(self):
        spec = boards.spec(boards.report(MINE, "me"))
        read = wr.Report._from_model(report_model.ReportViewspec.model_validate(spec))
        grids = [block for block in read.blocks if isinstance(block, wr.PanelGrid)]
        groups = panels.groups()
        for grid, group in zip(grids, groups, strict=True):
            assert [asked(panel) for panel in grid.panels] == [asked(panel) for panel in group.panels]
            assert grid.runsets[0].filters == f"Metric(\"JobType\") == '{group.job}'"
        headings = [block.text for block in read.blocks if isinstance(block, wr.H2)]
        assert headings == [*(group.name for group in groups), "How to read this", "How to reproduce this"]
        assert boards.COMMANDS in json.dumps(spec).replace("\\n", "\n")

    def test_only_the_runs_of_a_group(self):
        of_a_group = WandbConfig(mode="offline", group="resnet18/all")
        assert boards.workspace(of_a_group, "me").runset_settings.filters == "Metric(\"Group\") == 'resnet18/all'"
        grid = next(block for block in boards.report(of_a_group, "me").blocks if isinstance(block, wr.PanelGrid))
        assert grid.runsets[0].filters == "Metric(\"JobType\") == 'run' and Metric(\"Group\") == 'resnet18/all'"

    def test_panels_of_a_report_do_not_overlap(self):
        for group in panels.groups():
            places = {(panel.layout.x, panel.layout.y) for panel in group.panels}
            assert len(places) == len(group.panels)
            assert {x for x, _ in places} <= {0, 12}

    def test_the_commands_are_programs_with_these_settings(self):
        config.register()
        found = re.findall(r"python -m experiments\.(\w+)([^#\n]*)", boards.COMMANDS)
        assert {program for program, _ in found} == {"run", "dashboard"}
        with hydra.initialize_config_module("conf", version_base="1.3"):
            for program, overrides in found:
                hydra.compose(program, [each.split(",")[0] for each in overrides.split() if each != "-m"])
