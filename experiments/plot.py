"""The run's picture: the best speedup so far (the latency where there is no baseline), over trials and seconds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.naming import Naming
from wpk_envs.files import write_whole
from wpk_envs.tuning import Trial

INK = "#7f8794"
CURVE = "#2f81f7"
FAILED = "#d1495b"


def save(path: Path, trials: Sequence[Trial], title: str, subtitle: str, naming: Naming) -> None:
    """Draw the curve as a PNG with a transparent background and mid-tone ink, for light and dark pages.

    Args:
        path: The file.
        trials: The run's trials, in order.
        title: What was tuned, by whom.
        subtitle: Device and date.
        naming: What the axes are called.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, [trial.number for trial in trials], trials, "trials", naming)
    _draw(right, [trial.seconds for trial in trials], trials, "seconds", naming)
    left.set_ylabel(_label(naming, _has_speedups(trials)), color=INK)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, labelcolor=INK, loc="outside lower center", ncols=len(labels))
    figure.suptitle(f"{title}\n{subtitle}", color=INK, fontsize=10)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150, transparent=True)
    write_whole(path, image.getvalue())


def _label(naming: Naming, speedups: bool) -> str:
    over = naming.baseline.removesuffix(" (predicted)")  # the label's first word says so
    return naming.text(f"speedup over the {over} (x)" if speedups else "latency (us)")


def _has_speedups(trials: Sequence[Trial]) -> bool:
    """Whether there is a baseline, as far as the trials tell."""
    return any(trial.measurement.gain for trial in trials) or not any(trial.measurement.cost_us for trial in trials)


def _draw(axes: Any, places: Sequence[float], trials: Sequence[Trial], label: str, naming: Naming) -> None:
    if _has_speedups(trials):
        values = np.array([trial.measurement.gain or np.nan for trial in trials])
        best = np.fmax.accumulate(values)
        axes.axhline(1, color=INK, linewidth=1, linestyle="--", label=naming.baseline)
    else:
        values = np.array([trial.measurement.cost_us or np.nan for trial in trials])
        best = np.fmin.accumulate(values)
    failed = [place for place, trial in zip(places, trials) if trial.measurement.error is not None]
    axes.scatter(places, values, s=12, color=INK, alpha=0.6, linewidths=0, label=naming.text("trial"))
    axes.step(places, best, where="post", color=CURVE, linewidth=2, label=naming.text("best so far"))
    if failed:
        axes.scatter(failed, [0] * len(failed), s=18, marker="x", color=FAILED, label="failed")
    axes.set_xlabel(label, color=INK)
    axes.set_ylim(bottom=-0.05)
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
