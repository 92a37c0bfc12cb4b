"""Runs of a comparison: side by side in processes on a device that replays, one at a time on one that measures.

``runs.jsonl`` gets a line for every run as soon as it has ended; those that it has already are not made again.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.comparison.cells import Cell, Run, run_cell
from experiments.comparison.places import Place, recorded_place
from experiments.comparison.settings import Entrant, Settings
from experiments.parallel import side_by_side
from experiments.progress import Steps
from wpk_envs.errors import UserError
from wpk_envs.files import JsonLines, read_lines
from wpk_envs.tuning import Budget

FORMAT = 1
"""Version of ``runs.jsonl``."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A run that broke down.

    Attributes:
        cell: Which run.
        reason: The error in a line.
        details: Its traceback.
    """

    cell: Cell
    reason: str
    details: str


class Runs:
    """The finished runs, in the file as soon as they are known.

    Args:
        path: The file; made if it is missing.
        place: Where they are made.
        resume: Whether the file may hold runs already.

    Raises:
        UserError: If it holds runs without ``resume``, or those of another device, space or table.
    """

    def __init__(self, path: Path, place: Place, resume: bool) -> None:
        lines = read_lines(path)
        header = _header(place)
        if lines and not resume:
            raise UserError(
                f"'{path.parent}' holds a comparison already; go on with it (resume={path.parent}) or name another"
            )
        if lines:
            _check_same(lines[0], header, path)
        self.finished = {run.cell: run for run in map(Run.from_dict, lines[1:])}
        _check_tables(self.finished.values(), place, path)
        self._file = JsonLines(path)
        if not lines:
            self._file.append(header)

    def add(self, run: Run) -> None:
        """Keep a run."""
        self.finished[run.cell] = run
        self._file.append(run.to_dict())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _header(place: Place) -> dict[str, Any]:
    space = place.space(next(iter(place.operators)))
    return {
        "runs": FORMAT,
        "device": place.device.info.fingerprint,
        "encoding": [space.encoding.device_kind, space.encoding.version],
    }


def _check_same(found: dict[str, Any], expected: dict[str, Any], path: Path) -> None:
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing:
        raise UserError(
            f"the runs in '{path}' were made with another {' and '.join(differing)} than there is now; "
            "start a new comparison without resume="
        )


def _check_tables(runs: Iterable[Run], place: Place, path: Path) -> None:
    changed = {run.cell.op for run in runs if run.cell.op in place.operators and run.table != place.table(run.cell.op)}
    if changed:
        raise UserError(
            f"the runs in '{path}' were made on other tables of {', '.join(sorted(changed))} than there are now; "
            "start a new comparison without resume="
        )


def cells_of(settings: Settings, names: Sequence[str]) -> list[Cell]:
    """All runs that are asked for, seed by seed, so that what an interrupted comparison has is balanced."""
    order = itertools.product(range(settings.seeds), names, settings.entrants)
    return [Cell(algo, op, seed) for seed, op, algo in order]


def run_all(settings: Settings, place: Place, runs: Runs, console: Console) -> list[Failure]:
    """Make every run that is missing, and show how it goes.

    Returns:
        Those that broke down; they end nothing else, and are tried again by ``resume=``.

    Raises:
        KeyboardInterrupt: After Ctrl-C; runs that ended before are in the file.
        UserError: If a process died.
    """
    wanted = cells_of(settings, list(place.operators))
    missing = [cell for cell in wanted if cell not in runs.finished]
    if len(missing) < len(wanted):
        console.print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are there already", highlight=False)
    failures: list[Failure] = []
    with Steps(console, "runs", len(missing)) as steps:
        for outcome in _outcomes(settings, place, missing):
            if isinstance(outcome, Run):
                runs.add(outcome)
            else:
                failures.append(outcome)
                log.error("%s: %s\n%s", outcome.cell, outcome.reason, outcome.details)
                console.print(f"{outcome.cell} failed: {outcome.reason}", highlight=False, markup=False)
            steps.step(steps.pace)
    return failures


def _outcomes(settings: Settings, place: Place, cells: Sequence[Cell]) -> Iterator[Run | Failure]:
    tasks = [(settings.entrants[cell.algo], cell, settings.budget) for cell in cells]
    if not place.device.replays or settings.jobs == 1:
        return (_attempt(place, *task) for task in tasks)
    work = functools.partial(_in_worker, json.dumps(settings.device.settings), tuple(place.operators))
    return side_by_side(work, tasks, settings.jobs)


def _in_worker(device: str, names: tuple[str, ...], task: tuple[Entrant, Cell, Budget]) -> Run | Failure:
    return _attempt(recorded_place(device, names), *task)


def _attempt(place: Place, entrant: Entrant, cell: Cell, budget: Budget) -> Run | Failure:
    """A run, or why it broke down."""
    try:
        return run_cell(place, entrant, cell, budget)
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return Failure(cell, reason, traceback.format_exc())
