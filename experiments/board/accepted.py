"""The leaderboard: a folder of submissions, and ``accepted.json``, which says what each was found to be worth.

Submissions are only compared with those of the same device, tables, operators and budget: a board each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from experiments import summary
from experiments.board.submission import FORMAT, Submission, read
from experiments.board.verification import Verdict
from experiments.comparison import statistics
from experiments.comparison.standings import ALIKE
from experiments.comparison.tables import percents
from experiments.files import write_json
from wpk_envs.errors import UserError

INDEX = "accepted.json"
TEXT_LENGTH = 40
"""Characters that are shown of a stranger's text."""


@dataclass(frozen=True)
class Row:
    """An accepted submission.

    Attributes:
        file: Its name in the folder.
        submission: The claims.
        found: What they were found to be worth: ``speedups``, ``best_known`` and ``trials_to_95``, by operator.
    """

    file: str
    submission: Submission
    found: Mapping[str, Any]

    @property
    def board(self) -> tuple[Any, ...]:
        """What it must share with others to be compared with them."""
        made = self.submission
        tables = tuple(sorted((op, entry.table) for op, entry in made.operators.items()))
        return made.device_name, made.fingerprint, made.recorded, made.trials, tables


class Leaderboard:
    """A folder of accepted submissions.

    Args:
        folder: The folder; it need not exist yet.

    Raises:
        UserError: If its index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: dict[str, Any] = {}
        if (folder / INDEX).exists():
            self._index = _read_index(folder / INDEX)

    def add(self, submission: Submission, verdict: Verdict) -> Path:
        """Take in a submission that was accepted; the same one again replaces itself."""
        name = re.sub(r"[^a-z0-9]+", "_", submission.title.lower()).strip("_")[:TEXT_LENGTH] or "untitled"
        path = self._folder / f"{name}-{submission.checksum[:8]}.json"
        submission.write(path)
        found = {key: getattr(verdict, key) for key in ("speedups", "best_known", "trials_to_95")}
        self._index[path.name] = {"sha256": submission.checksum, "date": summary.now(), **found}
        write_json(self._folder / INDEX, {"leaderboard": FORMAT, "accepted": self._index})
        return path

    def rows(self) -> Iterator[Row]:
        """The accepted submissions.

        Raises:
            UserError: If a file is missing, damaged, or not the one that was accepted.
        """
        for name, found in self._index.items():
            submission = read(self._folder / name)
            if submission.checksum != found["sha256"]:
                raise UserError(f"'{self._folder / name}' is not what was accepted; verify it again with add=true")
            yield Row(name, submission, found)

    def boards(self) -> list[dict[str, Any]]:
        """What there is to be shown: a board for all rows that can be compared, the best first."""
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows():
            groups.setdefault(row.board, []).append(row)
        return [_board(rows) for rows in groups.values()]


def _read_index(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if content["leaderboard"] != FORMAT:
            raise UserError(f"'{path}' has format {content['leaderboard']}, this version reads {FORMAT}")
        return dict(content["accepted"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is damaged; get it again, or remove it and verify the submissions anew") from error


def _board(rows: list[Row]) -> dict[str, Any]:
    """Rows that can be compared, as plain data."""
    made = rows[0].submission
    known = {op: _best_known(op, rows) for op in made.operators}
    figures = sorted((_figures(row, known) for row in rows), key=lambda row: -row["iqm"])
    return {
        "device_name": made.device_name,
        "recorded": made.recorded,
        "trials": made.trials,
        "operators": list(made.operators),
        "best_known_speedup": known,
        "rows": figures,
    }


def _best_known(op: str, rows: list[Row]) -> float:
    """The best recorded speedup; where it was measured, that of the best row."""
    recorded = rows[0].found["best_known"][op]
    return recorded if recorded is not None else max(max(row.found["speedups"][op]) for row in rows)


def _figures(row: Row, known: Mapping[str, float]) -> dict[str, Any]:
    speedups = row.found["speedups"]
    fractions = np.array([np.array(speedups[op]) / (best or 1.0) for op, best in known.items()])
    estimate = statistics.iqm(fractions[..., None])
    times = [time for each in row.found["trials_to_95"].values() for time in each]
    low, high = float(estimate.low[0]), float(estimate.high[0])
    return {
        "title": row.submission.title,
        "author": row.submission.author,
        "algo": row.submission.algo,
        "seeds": fractions.shape[1],
        "iqm": float(estimate.value[0]),
        "low": None if np.isnan(low) else low,
        "high": None if np.isnan(high) else high,
        "trials_to_95": statistics.median(np.array([np.inf if time is None else time for time in times])),
        "counted": bool(times),
        "date": row.submission.date,
        "file": row.file,
    }


def table(board: Mapping[str, Any]) -> Table:
    """A board for people."""
    where = "recorded on" if board["recorded"] else "measured on"
    operators = len(board["operators"])
    table = Table(title=f"{operators} operators, {board['trials']} trials, {where} {shown(board['device_name'])}")
    for heading in ("", "title", "author", "agent", "seeds", "% of the best known", "trials to 95%", "date"):
        words = heading in ("title", "author", "agent", "date")
        table.add_column(heading, justify="left" if words else "right")
    best = board["rows"][0]
    for place, row in enumerate(board["rows"], start=1):
        tied = row["high"] is not None and best["low"] is not None and row["high"] >= best["low"] - ALIKE
        reached = percents(row["iqm"], row["low"], row["high"]) + ("*" if tied else "")
        time = _time_text(row["trials_to_95"], row["counted"])
        cells = [row["title"], row["author"], row["algo"], str(row["seeds"]), reached, time, row["date"][:10]]
        table.add_row(str(place), *(Text(shown(cell)) for cell in cells))
    return table


def _time_text(time: float | None, counted: bool) -> str:
    if not counted:
        return "not given"
    return "not reached" if time is None else f"{time:.0f}"


def shown(text: str, most: int = TEXT_LENGTH) -> str:
    """A stranger's text, safe to print."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."
