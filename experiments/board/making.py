"""Submissions from the folder of a comparison, one for every agent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.board.submission import Claim, Entry, Submission
from experiments.comparison.cells import Run
from wpk_envs.errors import UserError
from wpk_envs.files import read_lines


def from_comparison(folder: Path, author: str, notes: str, with_tried: bool) -> dict[str, Submission]:
    """A submission for every agent of a comparison, by its label.

    Args:
        folder: The comparison's folder.
        author: Whose they are.
        notes: What else is to be said.
        with_tried: Whether to give every config that was tried, which lets numbers of trials be checked.

    Raises:
        UserError: If the folder holds no finished comparison, runs are missing, or it had no budget of trials.
    """
    try:
        result = json.loads((folder / "summary.json").read_text())
        runs = [Run.from_dict(line) for line in read_lines(folder / "runs.jsonl")[1:]]
        missing = {algo: figures["missing"] for algo, figures in result["runs"].items() if figures["missing"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"submit='{folder}' holds no finished comparison; name the folder of one that experiments.compare made"
        ) from error
    if missing:
        what = ", ".join(f"{count} of {algo}" for algo, count in missing.items())
        raise UserError(f"in '{folder}' runs are missing ({what}); finish it with experiments.compare resume={folder}")
    if result["budget"]["trials"] is None:
        raise UserError(f"'{folder}' was compared without a budget of trials, which a submission needs")
    return {
        label: _submission(label, result, [run for run in runs if run.cell.algo == label], author, notes, with_tried)
        for label in result["algos"]
    }


def _submission(
    label: str, result: Mapping[str, Any], runs: Sequence[Run], author: str, notes: str, with_tried: bool
) -> Submission:
    settings = dict(result["algos"][label])
    return Submission(
        title=label,
        author=author,
        notes=notes,
        algo=settings.pop("name"),
        settings=settings,
        device_name=result["device_name"],
        fingerprint=result["fingerprint"],
        recorded=result["recorded"],
        trials=result["budget"]["trials"],
        operators={
            op: Entry(
                operator=entry["operator"],
                table=entry["table"],
                runs=[_claim(run, with_tried) for run in _by_seed(runs, op, result["seeds"])],
            )
            for op, entry in result["operators"].items()
        },
        date=result["date"],
        versions=result["versions"],
    )


def _by_seed(runs: Sequence[Run], op: str, seeds: int) -> list[Run]:
    mine = [run for run in runs if run.cell.op == op and run.cell.seed < seeds]
    return sorted(mine, key=lambda run: run.cell.seed)


def _claim(run: Run, with_tried: bool) -> Claim:
    return Claim(
        seed=run.cell.seed,
        config=None if run.best is None else dict(run.best),
        trial=run.improvements[-1].trial if run.improvements else 0,
        trials=run.trials,
        speedup=run.gain,
        tried=run.tried if with_tried else None,
    )
