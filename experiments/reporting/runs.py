"""Tuned operators: their results, best-so-far curves and winning schedules, as the page shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.naming import MEASURED, PREDICTED, Naming
from experiments.reporting.charts import Axis, Chart, Line, Styles
from experiments.reporting.collect import Result, understood
from wpk_envs import operators
from wpk_envs.core import Knob
from wpk_envs.errors import UserError
from wpk_envs.schedules import encoding_for

SCRIPT_BYTES = 1_200_000
"""Of all measured scripts together, and of all predicted ones; others are named and left out, to keep pages small."""


@dataclass(frozen=True)
class Tuned:
    """One operator that one run tuned.

    Attributes:
        result: The run, or one operator of a network's.
        place: Its number on the page.
    """

    result: Result
    place: int

    @property
    def summary(self) -> Mapping[str, Any]:
        """Its figures."""
        return self.result.summary

    @property
    def naming(self) -> Naming:
        """What the figures are called."""
        return PREDICTED if self.summary["predicted"] else MEASURED

    @property
    def label(self) -> str:
        """The operator's shape; empty if the summary does not say it, or in a way that is not understood."""
        try:
            return operators.from_dict(self.summary.get("operator") or {}).label
        except UserError:
            return ""

    def figure(self, name: str) -> Any:
        """A figure by its measured name, such as ``speedup``; none if there is none."""
        return self.summary.get(self.naming.key(name))

    @property
    def config(self) -> Mapping[str, Any]:
        """The winner's knobs; none if nothing worked."""
        return self.summary.get("best_config") or {}


def tuned_of(results: Sequence[Result]) -> list[Tuned]:
    """The tuned operators among results."""
    return [Tuned(result, place) for place, result in enumerate(results, 1)]


def speedup_axis(tuned: Sequence[Tuned]) -> Axis:
    """One axis for all speedups and their intervals."""
    return Axis.around_one(each.figure(key) for each in tuned for key in ("speedup", "speedup_low", "speedup_high"))


@dataclass(frozen=True)
class Curves:
    """The best so far of every run on one operator.

    Attributes:
        op: The operator.
        label: Its shape.
        naming: What the figures are called.
        charts: Over trials and over seconds.
        commands: The command lines that make the runs again.
    """

    op: str
    label: str
    naming: Naming
    charts: tuple[Chart, ...]
    commands: tuple[str, ...]


def curves_of(tuned: Sequence[Tuned], styles: Styles) -> tuple[list[Curves], list[str]]:
    """A figure for each operator, and the folders whose runs have no curve."""
    by_operator: dict[str, list[Tuned]] = {}
    for each in tuned:
        by_operator.setdefault(each.summary["op"], []).append(each)
    figures: list[Curves] = []
    without: list[str] = []
    for op, runs in by_operator.items():
        trials = {each.place: each.result.lines("trials.jsonl") for each in runs}
        key, best = _height(runs, trials)
        lines = {}
        for each in runs:
            with understood(each.result):
                lines[each.place] = _steps(trials[each.place], key, best)
        drawn = [each for each in runs if lines[each.place]]
        without += [str(each.result.folder) for each in runs if not lines[each.place]]
        if drawn:
            charts = tuple(_chart(op, drawn, lines, key, over, styles) for over in ("trials", "seconds"))
            commands = tuple(dict.fromkeys(each.result.command for each in drawn if each.result.command))
            figures.append(Curves(op, drawn[0].label, drawn[0].naming, charts, commands))
    return figures, without


def _height(runs: Sequence[Tuned], trials: Mapping[int, Sequence[Mapping[str, Any]]]) -> tuple[str, Any]:
    """What is drawn and whether more or less of it is better: speedups, or latencies where there is no baseline."""
    speedup, latency = runs[0].naming.key("speedup"), runs[0].naming.key("latency_us")
    compared = any(trial.get(speedup) for lines in trials.values() for trial in lines)
    return (speedup, max) if compared else (latency, min)


_Step = tuple[float, float, float]


def _steps(trials: Sequence[Mapping[str, Any]], key: str, best: Any) -> list[_Step]:
    """Trial, seconds and best so far, wherever it changes and at the end."""
    steps: list[_Step] = []
    for trial in trials:
        value = trial.get(key)
        if value and (not steps or best(value, steps[-1][2]) != steps[-1][2]):
            steps.append((trial["number"], trial["seconds"], value))
    if steps:
        steps.append((trials[-1]["number"], trials[-1]["seconds"], steps[-1][2]))
    return steps


def _chart(
    op: str, runs: Sequence[Tuned], steps: Mapping[int, Sequence[_Step]], key: str, over: str, styles: Styles
) -> Chart:
    naming, place = runs[0].naming, 0 if over == "trials" else 1
    compared = "speedup" in key
    what = naming.text(f"speedup over {naming.baseline}" if compared else "latency, us")
    lines = [
        Line(
            each.summary["algo"],
            styles[each.summary["algo"]],
            [(step[place], step[2]) for step in steps[each.place]],
            steps=True,
        )
        for each in runs
    ]
    return Chart(
        title=f"{op}: best {naming.text('speedup' if compared else 'latency')} so far, over {over}",
        x_label="trials" if over == "trials" else "seconds of search",
        y_label=what,
        lines=lines,
        x_low=0.0,
        y_unit="x" if compared else "",
        reference=(1.0, naming.baseline) if compared else None,
    )


@dataclass(frozen=True)
class Winner:
    """A winning schedule.

    Attributes:
        tuned: Whose.
        knobs: Knob, value and what the knob is, in the encoding's order.
        script: Its TensorIR; none if there is no file, or no room.
        remark: Why there is no script; empty if there is one.
    """

    tuned: Tuned
    knobs: tuple[tuple[str, str, str], ...]
    script: str | None
    remark: str


def winners_of(tuned: Sequence[Tuned]) -> list[Winner]:
    """The winning schedules of all that have one, with scripts as long as there is room for them."""
    winners, room = [], SCRIPT_BYTES
    for each in tuned:
        if not each.config:
            continue
        script = each.result.text("best_schedule.py")
        remark = "" if script is not None else f"{each.result.folder} has no best_schedule.py"
        if script is not None and len(script) > room:
            remark = f"left out to keep the page small; it is in {Path(each.result.folder) / 'best_schedule.py'}"
            script = None
        room -= len(script or "")
        winners.append(Winner(each, tuple(_knobs(each)), script, remark))
    return winners


def _knobs(tuned: Tuned) -> Iterator[tuple[str, str, str]]:
    known = _documented(tuned)
    order = [*(name for name in known if name in tuned.config), *(name for name in tuned.config if name not in known)]
    for name in order:
        yield name, str(tuned.config[name]), known[name].doc if name in known else ""


def _documented(tuned: Tuned) -> dict[str, Knob]:
    """The knobs of the encoding that the device's kind has; a GPU whose times are predicted is a GPU."""
    kind = {"predicted": "cuda"}.get(tuned.summary.get("device", ""), tuned.summary.get("device", ""))
    return {knob.name: knob for knob in encoding_for(kind).knobs} if kind in ("cpu", "cuda") else {}
