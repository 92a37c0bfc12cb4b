"""The figures that the suite promises: what each means, its target, and how it reads in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from experiments.naming import Naming


@dataclass(frozen=True)
class Target:
    """What a figure should reach.

    Attributes:
        what: The figure in words.
        unit: Of its value and samples.
        value: The bar.
        at_least: Whether more is better.
    """

    what: str
    unit: str
    value: float
    at_least: bool

    def met(self, value: float) -> bool:
        """Whether a value reaches the bar."""
        return value >= self.value if self.at_least else value <= self.value


TARGETS: dict[str, Target] = {
    "conv3x3_speedup": Target("conv3x3: best found over the vendor's best", "x", 2.3, True),
    "named_speedup": Target("least speedup of all named operators", "x", 0.9, True),
    "resnet18_speedup": Target("geometric mean over the distinct convolutions of ResNet-18", "x", 1.3, True),
    "direct_conv_rate": Target("direct convolution, end to end", "trials/min", 200, True),
    "gemm_rate": Target("matrix product, end to end", "trials/min", 200, True),
    "winograd_conv_rate": Target("Winograd convolution, end to end", "trials/min", 60, True),
    "construct_step": Target("step of construct with its mask, nothing measured", "us", 50, False),
    "recorded_steps": Target("recorded environment, batch 1024, through Gymnasium", "steps/s", 1e6, True),
    "recorded_sb3_steps": Target("the same through Stable-Baselines3", "steps/s", 3e5, True),
    "plan_call": Target("a call of a plan, its kernel's own time included", "us", 1, False),
    "plan_load": Target("loading the plan of ResNet-18 in a new process", "s", 0.5, False),
    "startup": Target("start of experiments.run to its first trial", "s", 15, False),
    "import": Target("import wpk_envs", "s", 1, False),
}

PREDICTED_TARGETS: dict[str, Target] = {
    **TARGETS,
    "conv3x3_speedup": Target("conv3x3: best predicted over the default schedule (predicted)", "x", 1, True),
    "named_speedup": Target("least predicted speedup of all named operators", "x", 1, True),
    "resnet18_speedup": Target("geometric mean, predicted, over the convolutions of ResNet-18", "x", 1, True),
    "direct_conv_rate": Target("direct convolution, built and predicted", "trials/min", 60, True),
    "gemm_rate": Target("matrix product, built and predicted", "trials/min", 60, True),
    "winograd_conv_rate": Target("Winograd convolution, built and predicted", "trials/min", 60, True),
}
"""The same on a device that predicts."""


@dataclass(frozen=True)
class Figure:
    """A figure as measured, or as predicted.

    Attributes:
        name: One of `TARGETS`.
        value: The figure; none if there is none.
        samples: What it was computed from, by what it is of.
        note: What went wrong, or else matters.
        predicted: Whether it is of a device that predicts.
    """

    name: str
    value: float | None
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    note: str = ""
    predicted: bool = False

    @property
    def title(self) -> str:
        """Its name; that of a speedup that is predicted says so."""
        return Naming(self.predicted and self.name.endswith("speedup")).key(self.name)

    @property
    def target(self) -> Target:
        """What it should reach."""
        return (PREDICTED_TARGETS if self.predicted else TARGETS)[self.name]

    @property
    def met(self) -> bool:
        """Whether it reaches its target."""
        return self.value is not None and self.target.met(self.value)

    def to_dict(self) -> dict[str, Any]:
        """The entry in ``summary.json``."""
        target = self.target
        return {
            "figure": self.title,
            "what": target.what,
            "value": self.value,
            "unit": target.unit,
            "target": target.value,
            "better": "more" if target.at_least else "less",
            "met": self.met,
            "samples": {name: list(values) for name, values in self.samples.items()},
            "note": self.note,
        }


def table(figures: Sequence[Figure], title: str) -> Table:
    """The figures for people."""
    table = Table(title=title)
    for column in ("figure", "what", "value", "target", "met"):
        table.add_column(column, justify="right" if column in ("value", "target") else "left")
    for figure in figures:
        target = figure.target
        value = "none" if figure.value is None else f"{figure.value:.3g} {target.unit}"
        bar = f"{'at least' if target.at_least else 'at most'} {target.value:g} {target.unit}"
        table.add_row(figure.title, target.what, value, bar, "yes" if figure.met else "no")
    return table
