"""Speedup tables for people: on the terminal, as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tabulate import tabulate

from experiments.speedups import Group, Row, beside_the_paper, groups
from wpk_envs.files import write_whole

NOT_MEASURED = "not measured"
INTERVAL_WIDTH = len("1.00 (0.90 to 1.10)")
PAPER_NOTE = "The paper's figures (arXiv 2008.04567, abstract) are its best, on a Tesla P100: another device."

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the tables that people read."""

    heading: str
    text: Callable[[Figures], str]
    on_terminal: bool = True


@dataclass(frozen=True)
class Sheet:
    """A table whose cells are texts."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Figures]

    def cells(self, columns: Sequence[Column]) -> list[list[str]]:
        """The texts of some columns, row by row."""
        return [[column.text(row) for column in columns] for row in self.rows]


def plain(key: str) -> Callable[[Figures], str]:
    """The text of a figure as it is."""
    return lambda row: NOT_MEASURED if row[key] is None else str(row[key])


def number(key: str, digits: int) -> Callable[[Figures], str]:
    """The text of a number with some digits behind the point."""
    return lambda row: NOT_MEASURED if row[key] is None else f"{row[key]:.{digits}f}"


def interval(key: str, bounds: str = "") -> Callable[[Figures], str]:
    """The text of a figure with its interval, which is under ``{bounds}_low`` and ``{bounds}_high``, or the key's."""
    low, high = (f"{bounds or key}_{end}" for end in ("low", "high"))

    def text(row: Figures) -> str:
        if row[key] is None:
            return NOT_MEASURED
        return f"{row[key]:.2f} ({row[low]:.2f} to {row[high]:.2f})"

    return text


def _seconds(row: Figures) -> str:
    ours, theirs = (number(f"{owner}_search_seconds", 0)(row) for owner in ("ours", "tvm"))
    return ours if ours == NOT_MEASURED else f"{ours} / {theirs}"


def _summed(peer: str) -> Callable[[Figures], str]:
    def text(row: Figures) -> str:
        count = row[f"{peer}_measured"]
        return f"{row[f'{peer}_geomean']:.2f}x, {row[f'{peer}_max']:.2f}x ({count})" if count else NOT_MEASURED

    return text


def _reached(row: Figures) -> str:
    if row["measured"] is None:
        return NOT_MEASURED
    return f"{row['measured']:.2f}x over {row['here']} ({row['operator']})"


ROW_COLUMNS = (
    Column("operator", plain("operator")),
    Column("shape", plain("shape"), on_terminal=False),
    Column("ours, us", number("ours_us", 1)),
    Column("vendor's best, us", number("vendor_us", 1)),
    Column("plain torch, us", number("plain_torch_us", 1), on_terminal=False),
    Column("MetaSchedule, us", number("tvm_us", 1)),
    Column("speedup over the vendor (95%)", interval("over_vendor")),
    Column("over plain torch", number("over_plain_torch", 2)),
    Column("speedup over MetaSchedule (95%)", interval("over_tvm")),
    Column("search, s: ours / MetaSchedule", _seconds, on_terminal=False),
    Column("vendor's path", plain("vendor_path"), on_terminal=False),
    Column("template", plain("template"), on_terminal=False),
)
GROUP_COLUMNS = (
    Column("operators", plain("group")),
    Column("how many", plain("operators")),
    Column("over the vendor: mean, most (of)", _summed("over_vendor")),
    Column("over plain torch: mean, most (of)", _summed("over_plain_torch")),
    Column("over MetaSchedule: mean, most (of)", _summed("over_tvm")),
)
PAPER_COLUMNS = (
    Column("what", plain("what")),
    Column("the paper, on a P100", lambda row: f"up to {row['paper']:.2f}x over {row['over']}"),
    Column("the most that was measured here", _reached),
)


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """A table per suite, their summaries, and the paper's figures."""
    every = groups(rows)
    found = [
        Sheet(group.name, ROW_COLUMNS, [row.figures() for row in group.rows]) for group in every if _is_suite(group)
    ]
    means = Sheet("geometric mean and maximum of the speedups", GROUP_COLUMNS, [group.figures() for group in every])
    return [*found, means, Sheet("beside the paper", PAPER_COLUMNS, beside_the_paper(rows))]


def _is_suite(group: Group) -> bool:
    return all(row.suite == group.name for row in group.rows)


def show(console: Console, found: Sequence[Sheet]) -> None:
    """Print the tables, without the columns that a terminal has no room for."""
    for sheet in found:
        columns = [column for column in sheet.columns if column.on_terminal]
        table = Table(title=sheet.title, title_justify="left")
        for column in columns:
            table.add_column(column.heading, min_width=INTERVAL_WIDTH if "95%" in column.heading else None)
        for cells in sheet.cells(columns):
            table.add_row(*cells)
        console.print(table)


def markdown(found: Sequence[Sheet], notes: Sequence[str], title: str = "Speedups") -> str:
    """The tables as GitHub's Markdown."""
    parts = [f"# {title}", *notes]
    for sheet in found:
        parts += [f"## {sheet.title}", _tabulated(sheet, "github")]
    return "\n\n".join(parts) + "\n"


def latex(found: Sequence[Sheet], notes: Sequence[str]) -> str:
    """The tables as LaTeX with the package booktabs, ready to be included."""
    parts = [f"% {note}" for note in notes]
    for sheet in found:
        table = _tabulated(sheet, "latex_booktabs")
        parts.append(
            f"\\begin{{table}}\n\\caption{{{sheet.title.replace('_', chr(92) + '_')}}}\n{table}\n\\end{{table}}"
        )
    return "\n\n".join(parts) + "\n"


def comma_separated(figures: Sequence[Figures]) -> str:
    """A line per row with every number in full."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(figures[0]), lineterminator="\n")
    writer.writeheader()
    for each in figures:
        writer.writerow({key: NOT_MEASURED if value is None else value for key, value in each.items()})
    return text.getvalue()


def write(folder: Path, rows: Sequence[Row], found: Sequence[Sheet], notes: Sequence[str]) -> None:
    """Write ``tables.md``, ``tables.tex`` and ``tables.csv`` into a folder."""
    texts = {
        "md": markdown(found, notes),
        "tex": latex(found, notes),
        "csv": comma_separated([row.figures() for row in rows]),
    }
    for ending, text in texts.items():
        write_whole(folder / f"tables.{ending}", text.encode())


def _tabulated(sheet: Sheet, style: str) -> str:
    headings = [column.heading for column in sheet.columns]
    return tabulate(sheet.cells(sheet.columns), headings, tablefmt=style, disable_numparse=True)
