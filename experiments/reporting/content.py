"""Everything that the page shows, measured and predicted apart."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from experiments.naming import MEASURED, PREDICTED, Naming
from experiments.reporting import story
from experiments.reporting.charts import Axis, Styles
from experiments.reporting.collect import Found, understood
from experiments.reporting.comparison import Comparison, comparison_of
from experiments.reporting.landscape import Landscape, landscapes_of
from experiments.reporting.provenance import Sheet, Source, sheets_of, source_of
from experiments.reporting.runs import Curves, Tuned, Winner, curves_of, speedup_axis, tuned_of, winners_of
from experiments.reporting.speedups import Speedups, speedups_of
from wpk_envs.records.library import TableFolder


@dataclass(frozen=True)
class Part:
    """What is measured, or what is predicted: the two share no table.

    Attributes:
        naming: Which of both.
        tuned: Operators that runs tuned.
        curves: Their best so far.
        speedups: Speedup tables of networks, which are always measured.
        comparisons: Comparisons of agents.
        maps: Recorded schedule spaces.
        winners: The winning schedules.
    """

    naming: Naming
    tuned: Sequence[Tuned]
    curves: Sequence[Curves]
    speedups: Sequence[Speedups]
    comparisons: Sequence[Comparison]
    maps: Sequence[Landscape]
    winners: Sequence[Winner]

    def __bool__(self) -> bool:
        return bool(self.tuned or self.speedups or self.comparisons or self.maps)

    @property
    def key(self) -> str:
        """Its name in links."""
        return "predicted" if self.naming.predicted else "measured"

    @cached_property
    def axis(self) -> Axis:
        """Of its speedups."""
        return speedup_axis(self.tuned)

    @cached_property
    def tiles(self) -> list[story.Tile]:
        """Its large figures."""
        return list(story.tiles_of(self.naming, self.tuned, self.comparisons, self.maps))

    @cached_property
    def sentences(self) -> list[str]:
        """What it shows, in plain words."""
        return list(story.sentences_of(self.naming, self.tuned, self.speedups, self.comparisons, self.maps))


@dataclass(frozen=True)
class TableSet:
    """A folder of recorded tables.

    Attributes:
        folder: Its name or path, as it can be given.
        tables: The folder.
        sheets: Datasheets by operator.
        command: The command line of its schedule-space maps.
    """

    folder: str
    tables: TableFolder
    sheets: Sequence[Sheet]
    command: str


@dataclass(frozen=True)
class Content:
    """The whole page.

    Attributes:
        measured: What was measured.
        predicted: What was predicted.
        sources: Where the results of programs come from.
        table_sets: The recorded tables.
        taken: What the page was made of, in sentences.
        missing: What is not on it, in sentences.
        date: When it was made.
        versions: Of what made it.
        command: The command line that made it.
    """

    measured: Part
    predicted: Part
    sources: Sequence[Source]
    table_sets: Sequence[TableSet]
    taken: Sequence[str]
    missing: Sequence[str]
    date: str
    versions: dict[str, str]
    command: str

    @property
    def parts(self) -> list[Part]:
        """Those with anything in them."""
        return [part for part in (self.measured, self.predicted) if part]


def content_of(found: Found, folders: Sequence[str], date: str, versions: dict[str, str], command: str) -> Content:
    """Make the page's content.

    Args:
        found: The results.
        folders: Names or paths of folders of recorded tables.
        date: When.
        versions: Of what makes it.
        command: The command line that makes it.

    Raises:
        UserError: If a result or a table is damaged.
    """
    styles, taken, maps = Styles(), list(found.notes), []
    table_sets = [_table_set(folder) for folder in folders]
    for each in table_sets:
        drawn, notes = landscapes_of(each.tables)
        maps += drawn
        taken += notes
    comparisons, speedups = [], []
    for result in [*found.of("compare"), *found.of("transfer")]:
        with understood(result):
            comparisons.append(comparison_of(result, styles))
    for result in found.of("tables"):
        with understood(result):
            speedups.append(speedups_of(result))
    tuned = tuned_of(found.of("run"))
    measured = _part(MEASURED, tuned, speedups, comparisons, maps, styles, taken)
    predicted = _part(PREDICTED, tuned, [], comparisons, maps, styles, taken)
    return Content(
        measured=measured,
        predicted=predicted,
        sources=[source_of(result) for result in found.results],
        table_sets=table_sets,
        taken=taken,
        missing=_missing(tuned, speedups, comparisons, table_sets),
        date=date,
        versions=versions,
        command=command,
    )


def _part(
    naming: Naming,
    tuned: Sequence[Tuned],
    speedups: Sequence[Speedups],
    comparisons: Sequence[Comparison],
    maps: Sequence[Landscape],
    styles: Styles,
    notes: list[str],
) -> Part:
    mine = [each for each in tuned if each.naming == naming]
    curves, without = curves_of(mine, styles)
    notes += [f"{folder} has no trials.jsonl with a working trial, so its curve is missing" for folder in without]
    return Part(
        naming=naming,
        tuned=mine,
        curves=curves,
        speedups=speedups,
        comparisons=[each for each in comparisons if each.naming == naming],
        maps=[each for each in maps if each.naming == naming],
        winners=winners_of(mine),
    )


def _table_set(folder: str) -> TableSet:
    tables = TableFolder(folder)
    command = shlex.join(["python", "-m", "experiments.report", f"tables={folder}"])
    return TableSet(folder, tables, sheets_of(tables), command)


def _missing(
    tuned: Sequence[Tuned],
    speedups: Sequence[Speedups],
    comparisons: Sequence[Comparison],
    table_sets: Sequence[TableSet],
) -> list[str]:
    sorts: dict[str, Sequence[object]] = {
        "tuned operators (python -m experiments.run makes some)": tuned,
        "a comparison of agents (python -m experiments.compare makes one)": comparisons,
        "speedups of networks (python -m experiments.tables makes tables)": speedups,
        "recorded schedule spaces (python -m experiments.record makes tables)": table_sets,
    }
    return [sort for sort, there in sorts.items() if not there]
