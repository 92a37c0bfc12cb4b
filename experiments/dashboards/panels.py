"""What the project's W&B dashboards show: groups of panels, for a workspace and a report alike.

Every figure is asked for by the name that the loggers give it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import wandb_workspaces.reports.v2 as wr

import agents
from experiments.loggers import summaries
from experiments.loggers.rows import ERRORS, SECONDS, TRIAL, Keys
from experiments.loggers.wandb_logger import best_by_seconds
from experiments.naming import MEASURED, PREDICTED, Naming
from wpk_envs import operators
from wpk_envs.planner.models import MODELS

ALGORITHM = "algo.name"
"""Where a run's config has who searched."""

WIDTH, HEIGHT, COLUMNS = 12, 8, 2
"""Size of a panel in a report, whose width is 24, and how many stand side by side."""


@dataclass(frozen=True)
class Group:
    """Panels that belong together.

    Attributes:
        name: The heading.
        text: What is seen, in a paragraph.
        job: Which program's runs have the figures.
        panels: The panels, in order.
    """

    name: str
    text: str
    job: str
    panels: list[Any]


def groups() -> list[Group]:
    """All groups, made anew: panels have identities and belong to one board."""
    found = [_searches(MEASURED), _errors(), _comparisons(), _speedups(), _plans(), _searches(PREDICTED)]
    return [replace(group, panels=_arranged(group.panels)) for group in found]


def _arranged(panels: list[Any]) -> list[Any]:
    """The panels in rows."""
    for place, panel in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        panel.layout = wr.Layout(x=WIDTH * column, y=HEIGHT * row, w=WIDTH, h=HEIGHT)
    return panels


def _searches(naming: Naming) -> Group:
    keys, speedup, latency = Keys(naming), naming.text("speedup"), naming.text("latency")
    text = (
        f"Searches of python -m experiments.run. The {speedup} is over the {naming.baseline}; a trial is a config "
        "asked for the first time in its run. One run is one sample of a noisy search: compare algorithms over "
        "several seeds."
    )
    panels = [
        _line(f"best {speedup} so far, over trials", TRIAL, [keys.best_speedup]),
        _line(f"best {speedup} so far, over seconds", SECONDS, [best_by_seconds(keys)]),
        _line(
            f"best {speedup} so far by algorithm: mean, least and most",
            TRIAL,
            [keys.best_speedup],
            groupby=wr.Config(ALGORITHM),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        ),
        _line(f"{speedup} of every trial", TRIAL, [keys.speedup]),
        _line(f"lowest {latency} so far, us", TRIAL, [keys.best_latency], log_y=True),
        wr.BarPlot(title=f"final {speedup}", metrics=[keys.speedup], title_x=speedup),
        wr.BarPlot(title=f"final {latency}, us", metrics=[keys.latency], title_x=f"{latency}, us"),
        wr.WeavePanelSummaryTable(table_name=keys.trials),
    ]
    name = "Searches, predicted" if naming.predicted else "Searches"
    return Group(name, text, "run", panels)


def _errors() -> Group:
    text = "Trials that failed, by kind: a failure costs its trial, and nothing wrong or slow to answer is ever timed."
    counts = list(ERRORS.values())
    panels = [
        _line("failed trials so far", TRIAL, counts),
        wr.BarPlot(title="failed trials", metrics=counts, title_x="trials"),
    ]
    return Group("Errors", text, "run", panels)


def _comparisons() -> Group:
    text = (
        "Comparisons of python -m experiments.compare: agents on the same operators, seeds and budgets. The "
        "fraction is an interquartile mean; the table has its 95% intervals. Trials to 95% are a median, missing "
        "where it was not reached."
    )
    every_agent = f"^{re.escape(summaries.fraction(''))}.+$"
    panels = [
        _line("fraction of the best known, at budgets", summaries.BUDGET, [], metric_regex=every_agent, log_x=True),
        wr.BarPlot(
            title="trials to 95% of the best known",
            metrics=[summaries.trials_to_95(name) for name in agents.names()],
            title_x="trials",
        ),
        wr.WeavePanelSummaryTable(table_name=summaries.COMPARISON),
    ]
    return Group("Comparisons", text, "compare", panels)


def _speedups() -> Group:
    text = (
        "Tables of python -m experiments.tables: the best record of every operator over the vendor's best, and over "
        "what TVM's MetaSchedule finds in the same time. Operators without a measurement are in no mean."
    )
    suites = list(operators.suites())
    over_metaschedule = [summaries.geomean_over_metaschedule(suite) for suite in suites]
    panels = [
        wr.BarPlot(
            title="geometric mean of the speedups", metrics=[summaries.geomean_speedup(suite) for suite in suites]
        ),
        wr.BarPlot(title="geometric mean of the speedups over MetaSchedule", metrics=over_metaschedule),
        wr.CustomChart(
            query={"summaryTable": {"tableKey": summaries.SPEEDUPS}},
            chart_name="wandb/bar/v0",
            chart_fields={"label": summaries.OPERATOR, "value": summaries.SPEEDUP},
            chart_strings={"title": "speedup by operator"},
        ),
        wr.WeavePanelSummaryTable(table_name=summaries.SPEEDUPS),
    ]
    return Group("Speedup tables", text, "tables", panels)


def _plans() -> Group:
    text = (
        "Whole models of python -m experiments.plan, beside the runtimes and compilers that were measured in the same "
        "run. The ratio is the fastest peer's latency over the plan's: above 1 the plan is faster."
    )
    panels = [
        wr.BarPlot(
            title="the fastest peer's latency over the plan's",
            metrics=[summaries.ratio_to_fastest_peer(model) for model in MODELS],
        ),
        wr.WeavePanelSummaryTable(table_name=summaries.PLANS),
    ]
    return Group("Plans", text, "plan", panels)


def _line(title: str, x: str, y: list[str], **settings: Any) -> Any:
    return wr.LinePlot(title=title, x=x, y=y, title_x=x.replace("_", " "), **settings)
