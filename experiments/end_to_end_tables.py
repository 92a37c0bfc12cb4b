"""The end-to-end table: what whole models take as plans and with their peers, on the terminal, as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import end_to_end_plot, table_files
from experiments.end_to_end import PASSES, PLAN, ModelRow
from experiments.peers import label_of
from experiments.speedups import PAPER
from experiments.table_files import NOT_MEASURED, PAPER_COLUMNS, PAPER_NOTE, Column, Figures, Sheet
from wpk_envs.files import write_whole

TITLE = "End to end"
FAILED = "failed"


def write(folder: Path, rows: Sequence[ModelRow], where: str, console: Console) -> None:
    """Show the table and write ``end_to_end.md``, ``end_to_end.csv`` and ``end_to_end.png`` into a folder.

    Args:
        folder: Where the files go.
        rows: The models, one at least.
        where: Device, date and versions, in a sentence.
        console: The terminal.
    """
    figures = [row.figures() for row in rows]
    found, beside = sheets(figures), notes(figures, where)
    table_files.show(console, found)
    for note in beside:
        console.print(note, highlight=False, markup=False)
    write_whole(folder / "end_to_end.md", table_files.markdown(found, beside, TITLE).encode())
    write_whole(folder / "end_to_end.csv", table_files.comma_separated(flat(figures)).encode())
    end_to_end_plot.save(folder / "end_to_end.png", rows, where)


def sheets(figures: Sequence[Figures]) -> list[Sheet]:
    """The plans beside the fastest peers, everybody's latencies, and the paper's figure by itself."""
    plans = (
        Column("model", table_files.plain("model")),
        Column("plan, us", table_files.number("plan_us", 0)),
        Column("fastest peer", lambda row: NOT_MEASURED if row["fastest_peer"] is None else _fastest(row)),
        Column("ratio to it (95%)", table_files.interval("ratio_to_fastest_peer", bounds="ratio")),
        Column("error", lambda row: f"{row['max_abs_error']:.1e}"),
    )
    everybody = (plans[0], Column("plan", plans[1].text), *(_latency(name) for name in _peers(figures)))
    shown = [Sheet("the plan and its fastest peer", plans, figures)]
    if len(everybody) > 2:
        shown.append(Sheet("latency of one inference, us", everybody, figures))
    return [*shown, Sheet("beside the paper", PAPER_COLUMNS, [_beside_the_paper(figures)])]


def _peers(figures: Sequence[Figures]) -> list[str]:
    """Every peer that some model was tried with, in the order in which they were."""
    return list(dict.fromkeys(name for row in figures for name in (*row["peers"], *row["failed_peers"])))


def _fastest(row: Figures) -> str:
    return f"{label_of(row['fastest_peer'])}, {row['peers'][row['fastest_peer']]['latency_us']:.0f} us"


def _latency(name: str) -> Column:
    def text(row: Figures) -> str:
        if name in row["peers"]:
            return f"{row['peers'][name]['latency_us']:.0f}"
        return FAILED if name in row["failed_peers"] else NOT_MEASURED

    return Column(label_of(name), text)


def _beside_the_paper(figures: Sequence[Figures]) -> dict[str, Any]:
    (paper,) = (figure for figure in PAPER if figure.over == "TensorRT")
    measured = [row for row in figures if row["ratio_to_fastest_peer"] is not None]
    best = max(measured, key=lambda row: row["ratio_to_fastest_peer"], default=None)
    return {
        **vars(paper),
        "measured": best and best["ratio_to_fastest_peer"],
        "here": best and label_of(best["fastest_peer"]),
        "operator": best and best["model"],
    }


def notes(figures: Sequence[Figures], where: str) -> list[str]:
    """What else there is to know: where and how it was measured, how the peers were set, and which failed."""
    clocks = ", ".join(dict.fromkeys(row["clock"] for row in figures))
    rule = (
        "The ratio is the fastest peer's latency over the plan's: above 1 the plan is faster. It is the median over "
        f"rounds in which all were timed in turns in one process ({clocks}), in {PASSES} passes for which the model "
        "was made ready anew, with its 95% bootstrap interval over passes and rounds."
    )
    about = {name: peer["about"] for row in figures for name, peer in row["peers"].items()}
    failures = dict.fromkeys(reason for row in figures for reason in row["failed_peers"].values())
    settings = [f"{label_of(name)}: {text}." for name, text in about.items()]
    return [where, rule, *settings, *(f"{reason}." for reason in failures), PAPER_NOTE]


def flat(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """A line per model: its numbers, and a column for the latency and one for the error of every peer."""
    names = _peers(figures)
    single = ("model", "plan_us", "fastest_peer", "ratio_to_fastest_peer", "ratio_low", "ratio_high", "max_abs_error")
    return [
        {key: row[key] for key in single}
        | {f"{name}_us": row["peers"].get(name, {}).get("latency_us") for name in names}
        | {f"{name}_max_abs_error": row["peers"].get(name, {}).get("max_abs_error") for name in names}
        | {"rounds": sum(len(latencies[PLAN]) for latencies in row["samples_us"]), "clock": row["clock"]}
        for row in figures
    ]
