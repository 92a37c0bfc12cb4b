"""The end-to-end picture: what everybody takes of each model, relative to the fastest peer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.end_to_end import PLAN, ModelRow
from experiments.known import Ratio
from experiments.peers import label_of
from experiments.plot import CURVE, INK
from wpk_envs.files import write_whole

LONGEST = 3.0
"""Longer bars are cut off there, with an arrow beside their number."""

BAR_INCHES = 0.24


def save(path: Path, rows: Sequence[ModelRow], subtitle: str) -> None:
    """Draw a group of bars per model as a PNG with a transparent background, for light and dark pages.

    Args:
        path: The file.
        rows: The models, one at least.
        subtitle: Device, date and versions.
    """
    from matplotlib.figure import Figure

    names = [list(row.samples.latencies_us) for row in rows]
    heights = [len(each) + 1.5 for each in names]
    figure = Figure(figsize=(8, BAR_INCHES * sum(heights) + 1.2), layout="constrained")
    grid = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, row, each in zip(grid[:, 0], rows, names):
        _draw(axes, row, each)
    grid[-1, 0].set_xlabel(f"latency / latency of {'the fastest peer' if _any_peer(rows) else 'the plan'}", color=INK)
    figure.suptitle(f"Latency of one inference, with 95% intervals\n{subtitle}", color=INK, fontsize=9, wrap=True)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150, transparent=True)
    write_whole(path, image.getvalue())


def _any_peer(rows: Sequence[ModelRow]) -> bool:
    return any(row.peers for row in rows)


def _draw(axes: Any, row: ModelRow, names: Sequence[str]) -> None:
    fastest = row.fastest_peer or PLAN
    for place, name in enumerate(names):
        ratio = row.samples.ratio(name, fastest)
        cut = ratio.value > LONGEST
        axes.barh(place, min(ratio.value, LONGEST), height=0.7, color=CURVE if name == PLAN else INK, alpha=0.7)
        if not cut and name != fastest:
            axes.errorbar(ratio.value, place, xerr=_bars(ratio), color=INK, capsize=2.5, linewidth=1)
        end = LONGEST if cut else ratio.high or ratio.value
        text = f"{ratio.value:.2f}" if not cut else f"{_digits(ratio.value)} →"
        axes.text(end + 0.03, place, f"{text}  ({_digits(row.samples.latency_us(name) / 1e3)} ms)",
                  va="center", fontsize=7.5, color=INK)  # fmt: skip
    axes.axvline(1, color=INK, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(names)), [label_of(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, LONGEST + 0.6)
    axes.set_title(row.model, fontsize=9, color=INK, loc="left")
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def _digits(value: float) -> str:
    """Three digits that count, more of what is large."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _bars(ratio: Ratio) -> list[list[float]]:
    """The interval as what is below and above the value."""
    low, high = ratio.low or ratio.value, ratio.high or ratio.value
    return [[max(0.0, ratio.value - low)], [max(0.0, high - ratio.value)]]
