"""The map of a recorded schedule space: how good its configs are, and which knobs decide."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.naming import MEASURED, PREDICTED, Naming
from experiments.reporting.importance import Importances, importances
from wpk_envs.core import Config, KnobValue, Operator
from wpk_envs.errors import UserError
from wpk_envs.records import Record
from wpk_envs.records.library import TableFolder
from wpk_envs.records.table import ELITE
from wpk_envs.schedules import build_space
from wpk_envs.schedules.space import Prefix, ScheduleSpace

NEAR = 0.95
"""Share of the best speedup from which a config counts as near the best."""

BINS = 44
SHADES = (0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
"""Shares of the best speedup from which a cell of a heat map has the next shade."""


@dataclass(frozen=True)
class Spread:
    """The speedups of one template's configs.

    Attributes:
        template: The template.
        configs: How many.
        best: Greatest speedup.
        median: The middle one.
        counts: Configs by bin of `Landscape.edges`.
    """

    template: str
    configs: int
    best: float
    median: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """The configs that share the values of two knobs; ``level`` is the shade, how many of `SHADES` the best reaches."""

    best: float
    median: float
    configs: int
    level: int


@dataclass(frozen=True)
class HeatMap:
    """Speedups over the two most important knobs of one template; cells without any config are none."""

    rows: str
    columns: str
    row_values: tuple[KnobValue, ...]
    column_values: tuple[KnobValue, ...]
    cells: tuple[tuple[Cell | None, ...], ...]


@dataclass(frozen=True)
class Landscape:
    """One operator's recorded space.

    Attributes:
        name: What it was recorded as.
        label: The operator's shape.
        datasheet: What its table says of itself.
        naming: What the figures are called.
        baseline: What speedups are over.
        configs: Configs with a speedup.
        failed: Configs without.
        best: Greatest speedup.
        median: The middle one.
        near: Configs with at least `NEAR` of the best.
        best_config: The config of the best.
        edges: Speedups between the bins of the histograms.
        spreads: By template, the best first.
        importances: Over all templates.
        within: Over the configs of the best one's template.
        heat: Of that template.
    """

    name: str
    label: str
    datasheet: Mapping[str, Any]
    naming: Naming
    baseline: str
    configs: int
    failed: int
    best: float
    median: float
    near: int
    best_config: Config
    edges: tuple[float, ...]
    spreads: tuple[Spread, ...]
    importances: Importances | None
    within: Importances | None
    heat: HeatMap | None

    @property
    def template(self) -> str:
        """The template of the best config."""
        return str(self.best_config["template"])

    @property
    def draws(self) -> float:
        """Uniform draws without repeats until one is near the best, on average: (n + 1) / (near + 1)."""
        return (self.configs + self.failed + 1) / (self.near + 1)


def landscapes_of(folder: TableFolder) -> tuple[list[Landscape], list[str]]:
    """The maps of a folder's operators, and sentences on those of which there is none."""
    maps: list[Landscape] = []
    notes: list[str] = []
    for name, operator in folder.operators.items():
        try:
            maps.append(_landscape(name, operator, folder))
        except UserError as error:
            notes.append(f"no map of {name}: {error}")
    return maps, notes


def _landscape(name: str, operator: Operator, folder: TableFolder) -> Landscape:
    table = folder.table(operator)
    records = [r for r in table.records if r.operator == operator and not r.measurement.details.get(ELITE)]
    known = [(record, gain) for record in records if (gain := record.measurement.gain)]
    if not known:
        raise UserError("none of its recorded configs has a speedup")
    space = build_space(operator, table.device, among=[record.config for record, _ in known])
    best, greatest = max(known, key=lambda pair: pair[1])
    gains = {space.encode(record.config): gain for record, gain in known}
    rewards = {vector: math.log(gain) for vector, gain in gains.items()}
    first = best.config["template"]
    inside = {vector: gain for vector, gain in gains.items() if space.decode(vector)["template"] == first}
    edges = np.geomspace(min(gains.values()), greatest * (1 + 1e-9), BINS + 1)
    over_all = importances(space, rewards)
    alone = len(inside) == len(gains)
    within = over_all if alone else importances(space, {vector: rewards[vector] for vector in inside})
    return Landscape(
        name=name,
        label=operator.label,
        datasheet=table.datasheet,
        naming=PREDICTED if best.measurement.speedup is None else MEASURED,
        baseline=_baselines([record for record, _ in known]),
        configs=len(known),
        failed=len(records) - len(known),
        best=greatest,
        median=statistics.median(gains.values()),
        near=sum(gain >= NEAR * greatest for gain in gains.values()),
        best_config=best.config,
        edges=tuple(edges.tolist()),
        spreads=_spreads(known, edges),
        importances=over_all,
        within=within,
        heat=None if within is None else _heat_map(space, inside, [knob.name for knob in within.knobs]),
    )


def _baselines(records: Sequence[Record]) -> str:
    """The paths that were the baseline, in words."""
    names = dict.fromkeys(record.measurement.baseline_name for record in records)
    return " and ".join(name for name in names if name)


def _spreads(known: Sequence[tuple[Record, float]], edges: np.ndarray) -> tuple[Spread, ...]:
    by_template: dict[str, list[float]] = {}
    for record, gain in known:
        by_template.setdefault(str(record.config["template"]), []).append(gain)
    spreads = [
        Spread(name, len(gains), max(gains), statistics.median(gains), tuple(np.histogram(gains, edges)[0].tolist()))
        for name, gains in by_template.items()
    ]
    return tuple(sorted(spreads, key=lambda spread: -spread.best))


def _heat_map(space: ScheduleSpace, gains: Mapping[Prefix, float], knobs: Sequence[str]) -> HeatMap | None:
    """Over the first two of the knobs; none if there are less."""
    names = [name for name in knobs if name != space.encoding.knobs[0].name]
    if len(names) < 2:
        return None
    rows, columns = (space.encoding.positions[name] for name in names[:2])
    groups: dict[tuple[int, int], list[float]] = {}
    for vector, gain in gains.items():
        groups.setdefault((vector[rows], vector[columns]), []).append(gain)
    greatest = max(gains.values())

    def cell(row: int, column: int) -> Cell | None:
        group = groups.get((row, column))
        if group is None:
            return None
        level = bisect.bisect_right(SHADES, max(group) / greatest)
        return Cell(max(group), statistics.median(group), len(group), level)

    row_options, column_options = (sorted({pair[side] for pair in groups}) for side in (0, 1))
    return HeatMap(
        rows=names[0],
        columns=names[1],
        row_values=tuple(space.encoding.knobs[rows].options[option] for option in row_options),
        column_values=tuple(space.encoding.knobs[columns].options[option] for option in column_options),
        cells=tuple(tuple(cell(row, column) for column in column_options) for row in row_options),
    )
