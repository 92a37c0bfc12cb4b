"""The picture of a plan: what each of its steps takes, who computes it, and what the second best would have taken."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.plot import CURVE, FAILED, INK
from wpk_envs.files import write_whole
from wpk_envs.planner.assembly import CONVERT

MOST_BARS = 32
"""A plan of more steps has one bar for all steps of a case."""

FARTHEST = 1.3
"""Runners-up beyond so many times the longest bar are cut off there, with an arrow."""

ROW_INCHES = 0.215
LONGEST_NAME = 34

KINDS = {
    "kernels": ("our kernels", CURVE),
    "cuda_kernels": ("our kernels", CURVE),
    "onednn": ("oneDNN", "#d98e2b"),
    "torch": ("the framework", FAILED),
    "torch_cuda": ("cuDNN, cuBLAS and torch", "#d98e2b"),
    "tvm": ("TVM's default schedule", "#4f9d69"),
    "conversions": ("conversions of layouts", "#9a6fd0"),
}
"""Label and colour of the steps of a provider; conversions are one kind whoever makes them."""


@dataclass(frozen=True)
class Bar:
    """Steps that are drawn as one bar.

    Attributes:
        name: Of the first step.
        count: How many they are.
        kind: One of `KINDS`.
        choice: The implementation.
        us: What one of them takes.
        second_us: What the runner-up takes for it; none without one.
    """

    name: str
    count: int
    kind: str
    choice: str
    us: float
    second_us: float | None

    @property
    def total_us(self) -> float:
        """What all of them take."""
        return self.count * self.us

    @property
    def label(self) -> str:
        """The name, and how many there are of it."""
        name = self.name if len(self.name) <= LONGEST_NAME else f"…{self.name[1 - LONGEST_NAME :]}"
        return f"{name}  x{self.count}" if self.count > 1 else name


def bars(found: Mapping[str, Any]) -> list[Bar]:
    """One bar per step in the order of execution; one per case, in the order of their first steps, if steps are many.

    Args:
        found: The plan's figures, with ``steps`` and ``operators``.
    """
    cases = {step: case for case in found["operators"] for step in case["steps"]}
    apart = [_bar(name, 1, cases[name]) for name in found["steps"]]
    if len(apart) <= MOST_BARS:
        return apart
    return [_bar(case["steps"][0], len(case["steps"]), case) for case in found["operators"]]


def _bar(name: str, count: int, case: Mapping[str, Any]) -> Bar:
    kind = "conversions" if case["operation"] == CONVERT else case["provider"]
    return Bar(name, count, kind, case["choice"], case["latency_us"], case["runner_up_us"])


def save(path: Path, model: str, found: Mapping[str, Any], subtitle: str) -> None:
    """Draw a plan as a PNG with a transparent background, for light and dark pages.

    Args:
        path: The file.
        model: Its name.
        found: The plan's figures.
        subtitle: Device and date.
    """
    from matplotlib.figure import Figure

    drawn = bars(found)
    figure = Figure(figsize=(9, ROW_INCHES * len(drawn) + 1.9), layout="constrained")
    strip, axes = figure.subplots(2, 1, height_ratios=[1.5, len(drawn) + 1.5])
    cases = {step: case for case in found["operators"] for step in case["steps"]}
    _draw_strip(strip, [_bar(name, 1, cases[name]) for name in found["steps"]])
    _draw_bars(axes, drawn)
    figure.suptitle(f"What the plan of {model} takes, step by step\n{subtitle}", color=INK, fontsize=9.5)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150, transparent=True)
    write_whole(path, image.getvalue())


def _draw_strip(axes: Any, steps: Sequence[Bar]) -> None:
    """All steps side by side, in the order of execution, and what each kind takes of it."""
    total = sum(step.us for step in steps)
    start = 0.0
    for step in steps:
        axes.barh(0, step.us, left=start, height=1, color=KINDS[step.kind][1], edgecolor="none")
        axes.axvline(start, color="white", linewidth=min(0.6, 40 / len(steps)), alpha=0.7)
        start += step.us
    taken = {kind: sum(step.us for step in steps if step.kind == kind) for kind in KINDS}
    for kind, us in taken.items():
        if us:
            label, colour = KINDS[kind]
            axes.barh(0, 0, color=colour, label=f"{label}: {_time(us)}, {_share(us / total)}")
    axes.set_xlim(0, total)
    axes.set_ylim(-0.5, 0.5)
    axes.set_axis_off()
    axes.set_title(f"{len(steps)} steps in order, {_time(total)} timed one by one", fontsize=8.5, color=INK, loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=4, frameon=False, labelcolor=INK, fontsize=8)


def _draw_bars(axes: Any, drawn: Sequence[Bar]) -> None:
    longest = max(bar.total_us for bar in drawn)
    unit, scale = ("ms", 1e3) if longest >= 1e4 else ("us", 1.0)
    farthest = FARTHEST * longest / scale
    for place, bar in enumerate(drawn):
        end = bar.total_us / scale
        axes.barh(place, end, height=0.68, color=KINDS[bar.kind][1])
        if bar.second_us is not None:
            second = bar.count * bar.second_us / scale
            axes.plot([end, min(second, farthest)], [place, place], color=INK, linewidth=0.8)
            style = {"marker": ">", "markersize": 5} if second > farthest else {"marker": "|", "markersize": 8}
            axes.plot([min(second, farthest)], [place], color=INK, markeredgewidth=1.6, **style)
            end = max(end, min(second, farthest))
        axes.annotate(f"{_time(bar.total_us)}  {bar.choice}", (end, place), xytext=(5, 0), textcoords="offset points",
                      va="center", fontsize=7, color=INK)  # fmt: skip
    axes.set_yticks(range(len(drawn)), [bar.label for bar in drawn], fontsize=7.5)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlim(0, (FARTHEST + 0.3) * longest / scale)
    together = "all steps of a bar together; " if any(bar.count > 1 for bar in drawn) else ""
    axes.set_xlabel(f"{unit}, {together}the stroke is the runner-up's time", color=INK, fontsize=8)
    axes.tick_params(colors=INK, labelsize=7.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def _time(us: float) -> str:
    return f"{us / 1e3:.3g} ms" if us >= 1e3 else f"{us:.3g} us"


def _share(part: float) -> str:
    return f"{100 * part:.0f}%" if part >= 0.01 else "below 1%"
