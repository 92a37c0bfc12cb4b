"""A comparison's pictures, as PNG and SVG on white: curves, profiles, who beats whom, and the single operators."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparison import statistics
from experiments.comparison.scores import Scores
from experiments.comparison.standings import last_point, ordered
from experiments.comparison.tables import title
from wpk_envs.files import write_whole

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart by colour-blind readers too; agents beyond them get other strokes."""

STROKES = ("-", (0, (4, 1.5)), (0, (1, 1)))
INK = "#444444"
CURVE_POINTS = 40
CURVE_RESAMPLES = 500
PERCENT = "% of the best known speedup"


def save_all(folder: Path, scores: Scores, result: Mapping[str, Any]) -> list[Path]:
    """Draw everything.

    Args:
        folder: Where the files go.
        scores: The runs.
        result: The summary.

    Returns:
        The files.
    """
    pictures = {
        "curves": _curves(scores, result),
        "profiles": _profiles(scores, result),
        "improvement": _improvement(result),
        "operators": _operators(scores, result),
    }
    return [path for name, figure in pictures.items() for path in _save(folder / name, figure, result)]


def _save(stem: Path, figure: Any, result: Mapping[str, Any]) -> Iterator[Path]:
    figure.suptitle(
        f"{title(result)}\n{len(result['operators'])} operators, {result['seeds']} seeds, {result['date'][:10]}",
        fontsize=10,
        color=INK,
    )
    for kind in ("png", "svg"):
        image = io.BytesIO()
        figure.savefig(
            image, format=kind, dpi=150, facecolor="white", metadata=None if kind == "png" else {"Date": None}
        )
        path = stem.with_suffix(f".{kind}")
        write_whole(path, image.getvalue())
        yield path


def _new(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


class _Field:
    """The agents, the best at the end first, each with a colour and stroke that its place in the settings gives."""

    def __init__(self, scores: Scores, result: Mapping[str, Any]) -> None:
        self.order = [(scores.algos.index(algo), algo) for algo in ordered(result["agents"])]

    def __iter__(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        for place, algo in self.order:
            stroke = STROKES[place // len(COLOURS) % len(STROKES)]
            yield place, algo, {"color": COLOURS[place % len(COLOURS)], "linestyle": stroke, "linewidth": 1.7}

    @property
    def band(self) -> dict[str, float]:
        """How an interval is drawn: the more agents, the fainter."""
        return {"alpha": 0.14 if len(self.order) <= len(COLOURS) else 0.06, "linewidth": 0}

    def legend(self, figure: Any, axes: Any) -> None:
        """Put one legend beside the plots."""
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside right upper", fontsize=9, labelcolor=INK)


def _plain(axes: Any) -> None:
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def _curves(scores: Scores, result: Mapping[str, Any]) -> Any:
    """Best so far over trials and over seconds: IQM with 95% band."""
    seconds = scores.seconds_points()
    figure = _new(12 if seconds else 7.5, 4.8)
    panels = figure.subplots(1, 2 if seconds else 1, sharey=True, squeeze=False)[0]
    field = _Field(scores, result)
    trials = np.unique(_grid(1, int(last_point(result["agents"]))).round())
    _bands(panels[0], field, trials, scores.at_trials)
    panels[0].set_ylabel(PERCENT)
    _over(panels[0], "trials")
    if seconds:
        _bands(panels[1], field, _grid(seconds[0], seconds[-1]), scores.at_seconds)
        _over(panels[1], "seconds of search")
    panels[0].set_ylim(_floor(100 * scores.at_trials(trials)), 101)
    field.legend(figure, panels[0])
    return figure


def _over(axes: Any, label: str) -> None:
    """Make the horizontal axis logarithmic, with plain numbers."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(label)
    _plain(axes)


def _grid(start: float, end: float) -> np.ndarray:
    return np.geomspace(start, end, CURVE_POINTS)


def _bands(axes: Any, field: _Field, points: np.ndarray, reached: Any) -> None:
    scores = 100 * reached(points)
    for place, algo, stroke in field:
        curve = statistics.iqm(scores[place], CURVE_RESAMPLES)
        axes.plot(points, curve.value, label=algo, **stroke)
        axes.fill_between(points, curve.low, curve.high, color=stroke["color"], **field.band)


def _profiles(scores: Scores, result: Mapping[str, Any]) -> Any:
    """Share of the runs that reach a fraction of the best known speedup, at the end."""
    figure = _new(8, 4.8)
    axes = figure.subplots()
    point = result["profiles"]["trials"]
    reached = scores.at_trials([point])[..., 0]
    least = min(0.9, float(np.floor(20 * np.nanquantile(reached, 0.02)) / 20))
    thresholds = np.linspace(least, 1, 101)
    field = _Field(scores, result)
    for place, algo, stroke in field:
        share = statistics.share_reaching(reached[place], thresholds, CURVE_RESAMPLES)
        axes.plot(100 * thresholds, 100 * share.value, label=algo, **stroke)
        axes.fill_between(100 * thresholds, 100 * share.low, 100 * share.high, color=stroke["color"], **field.band)
    axes.set(xlabel=f"{PERCENT}, after {point} trials", ylabel="% of the runs that reach it", xlim=(100 * least, 100))
    _plain(axes)
    field.legend(figure, axes)
    return figure


def _improvement(result: Mapping[str, Any]) -> Any:
    """Who beats whom: probability that a run of the row's agent is better than one of the column's."""
    last = last_point(result["agents"])
    pairs, algos = result["improvement"][last], ordered(result["agents"])
    size = 2.6 + 0.55 * len(algos)
    figure = _new(size + 1.2, size)
    axes = figure.subplots()
    values = np.array([[_percent(pairs[row].get(column)) for column in algos] for row in algos])
    image = axes.imshow(values, cmap="PuOr", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(values):
        if not math.isnan(value):
            sure = _is_sure(pairs[algos[row]][algos[column]])
            ink = "white" if abs(value - 50) > 33 else "black"
            weight = "bold" if sure else "normal"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=ink, fontweight=weight)
    axes.set_xticks(range(len(algos)), algos, rotation=40, ha="right")
    axes.set_yticks(range(len(algos)), algos)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(
        f"% of run pairs in which the row beats the column, after {last} trials;\nbold: 95% interval excludes 50",
        color=INK,
    )
    figure.colorbar(image, ax=axes, shrink=0.7).ax.tick_params(colors=INK, labelsize=8)
    return figure


def _percent(figures: Mapping[str, float | None] | None) -> float:
    value = None if figures is None else figures["probability"]
    return math.nan if value is None else 100 * value


def _is_sure(figures: Mapping[str, float | None]) -> bool:
    low, high = figures["low"], figures["high"]
    return low is not None and high is not None and not low <= 0.5 <= high


def _operators(scores: Scores, result: Mapping[str, Any]) -> Any:
    """Best so far over trials on every operator: IQM over the seeds."""
    across = min(4, len(scores.ops))
    down = math.ceil(len(scores.ops) / across)
    figure = _new(3 * across + 1.8, 2.5 * down + 0.8)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    field = _Field(scores, result)
    points = np.unique(_grid(1, int(last_point(result["agents"]))).round())
    reached = 100 * scores.at_trials(points)
    for axes in grid.flat[len(scores.ops) :]:
        axes.set_axis_off()
    for o, (op, axes) in enumerate(zip(scores.ops, grid.flat)):
        for place, algo, stroke in field:
            axes.plot(points, statistics.iqm_of_seeds(reached[place, o]), label=algo, **{**stroke, "linewidth": 1.2})
        axes.set_title(f"{op} ({scores.best_known[op]:.2f}x)", fontsize=9, color=INK)
        axes.set_ylim(_floor(reached), 101)
        lowest = o >= len(scores.ops) - across
        _over(axes, "trials" if lowest else "")
        axes.tick_params(labelbottom=lowest)
    figure.supylabel(f"{PERCENT} (in brackets)", fontsize=9, color=INK)
    field.legend(figure, grid.flat[0])
    return figure


def _floor(reached: np.ndarray) -> float:
    """Where the axis begins: below most of what was reached after a few trials."""
    least = np.nanquantile(reached[..., reached.shape[-1] // 3 :], 0.02)
    return min(90.0, float(10 * np.floor(least / 10)))
