"""A comparison's results for people: a table on the terminal, the same in Markdown, and every run in CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from experiments.comparison.cells import Cell
from experiments.comparison.scores import Scores
from experiments.comparison.standings import last_point, ordered

EXPLANATION = (
    "Percent of the best known speedup: interquartile mean over operators and seeds with its 95% bootstrap interval, "
    "operators as strata. * marks the best of a column and those whose interval reaches into its own: this comparison "
    "does not tell them apart."
)


def terminal_table(result: Mapping[str, Any]) -> Table:
    """The table of IQMs."""
    table = Table(title=title(result))
    heads, rows = columns(result), list(_rows(result))
    for head in heads:
        first = head == heads[0]
        table.add_column(head, justify="left" if first else "right", no_wrap=first)
    for row in rows:
        table.add_row(*row)
    return table


def markdown(result: Mapping[str, Any], command: str) -> str:
    """The tables of IQMs, over trials and over seconds, and of the single operators.

    Args:
        result: The summary.
        command: The command line that made it.
    """
    parts = [f"# {title(result)}", "", f"`{command}`, {result['date'][:10]}, {_size(result)}.", ""]
    parts += [*_grid(columns(result), _rows(result)), "", EXPLANATION.replace("*", r"\*"), ""]
    if result["over_seconds"]:
        parts += ["## Over seconds of search", "", *_grid(columns(result, "over_seconds"), _rows(result, True)), ""]
    point = last_point(result["agents"])
    parts += [f"## By operator, after {point} trials", "", *_grid(*_by_operator(result, _reached)), ""]
    parts += ["## By operator, trials to 95%", "", *_grid(*_by_operator(result, _times)), ""]
    parts += [f"- {each['run']} failed: {each['reason']}" for each in result["failed"]]
    return "\n".join(parts).rstrip() + "\n"


def title(result: Mapping[str, Any]) -> str:
    """What was compared, where."""
    recorded = ", recorded" if result["recorded"] else ""
    return f"{len(result['agents'])} agents on {result['device_name']}{recorded}"


def _size(result: Mapping[str, Any]) -> str:
    missing = sum(each["missing"] for each in result["runs"].values())
    left_out = f"; {missing} runs are missing" if missing else ""
    return f"{len(result['operators'])} operators, {result['seeds']} seeds{left_out}"


def columns(result: Mapping[str, Any], over: str = "agents") -> list[str]:
    """Headings: the agent, the points, and when 95% was reached."""
    unit = "s" if over == "over_seconds" else "trials"
    points = next(iter(result[over].values()))
    return ["agent", *(f"{point} {unit}" for point in points), f"{unit} to 95%"]


def _rows(result: Mapping[str, Any], over_seconds: bool = False) -> Iterator[list[str]]:
    agents = result["over_seconds" if over_seconds else "agents"]
    last = last_point(agents)
    time = "seconds_to_95" if over_seconds else "trials_to_95"
    for algo in ordered(agents):
        figures = agents[algo]
        yield [_name(algo, result["runs"][algo]), *map(cell_text, figures.values()), _time_text(figures[last][time])]


def _name(algo: str, runs: Mapping[str, Any]) -> str:
    """An agent's label, with what must be known beside its figures."""
    remarks = [] if runs["knowledge"] == "none" else [f"knows {runs['knowledge']}"]
    remarks += [f"{runs['missing']} runs missing"] if runs["missing"] else []
    return f"{algo} ({', '.join(remarks)})" if remarks else algo


def cell_text(figure: Mapping[str, Any]) -> str:
    """An IQM with its interval, marked if it is tied with the best."""
    if figure["iqm"] is None:
        return "none"
    return percents(figure["iqm"], figure["low"], figure["high"]) + ("*" if figure["tied_with_best"] else "")


def percents(value: float, low: float | None, high: float | None) -> str:
    """A fraction with its interval, in percent."""
    interval = "" if low is None or high is None else f" ({_percent(low)}-{_percent(high)})"
    return f"{_percent(value)}{interval}"


def _percent(fraction: float | None) -> str:
    return "none" if fraction is None else f"{100 * fraction:.1f}"


def _time_text(time: float | None) -> str:
    return "not reached" if time is None else f"{time:.0f}"


def _by_operator(
    result: Mapping[str, Any], cell: Callable[[Mapping[str, Any]], str]
) -> tuple[list[str], Iterator[list[str]]]:
    """Headings and rows, a row for every operator."""
    algos = ordered(result["agents"])
    rows = (
        [op, f"{entry['best_known_speedup']:.2f}x", *(cell(entry["agents"][algo]) for algo in algos)]
        for op, entry in result["operators"].items()
    )
    return ["operator", "best known", *algos], rows


def _reached(figures: Mapping[str, Any]) -> str:
    return _percent(list(figures["iqm"].values())[-1])


def _times(figures: Mapping[str, Any]) -> str:
    return _time_text(figures["trials_to_95"])


def _grid(heads: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return ["| " + " | ".join(cell.replace("*", r"\*") for cell in line) + " |" for line in lines]


def results_csv(scores: Scores, points: Sequence[int]) -> str:
    """Every run at every point: what it had reached."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["agent", "operator", "seed", "trials", "fraction", "speedup", "trials_to_95", "stop_reason"])
    reached, trials_to = scores.at_trials(points), scores.trials_to()
    for a, algo in enumerate(scores.algos):
        for o, op in enumerate(scores.ops):
            for seed in range(scores.seeds):
                run = scores.runs.get(Cell(algo, op, seed))
                if run is None:
                    continue
                time = trials_to[a, o, seed]
                for point, fraction in zip(points, reached[a, o, seed]):
                    figures = [f"{fraction:.6g}", f"{fraction * scores.best_known[op]:.6g}"]
                    late = "" if time > point else f"{time:.0f}"
                    writer.writerow([algo, op, seed, point, *figures, late, run.stop_reason])
    return file.getvalue()
