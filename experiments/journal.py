"""``trials.jsonl``: every trial of a run, in the file as soon as it is known, and read again by ``resume=``.

The first line says what the trials belong to. A line that a killed process left unfinished is dropped.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.naming import MEASURED, Naming
from wpk_envs.core import Measurement
from wpk_envs.errors import UserError
from wpk_envs.files import JsonLines, read_lines
from wpk_envs.schedules.space import ScheduleSpace
from wpk_envs.tuning import Trial

VERSION = 1


class Journal:
    """Appends trials to a file that may hold those of an earlier, interrupted run.

    Args:
        path: The file; made if it is missing.
        space: What the trials belong to: its operator, device, encoding and template versions.
        naming: What the trials' figures are called.

    Attributes:
        earlier: The trials that the file held, in order.

    Raises:
        UserError: If the file's trials belong to something else.
    """

    def __init__(self, path: Path, space: ScheduleSpace, naming: Naming = MEASURED) -> None:
        self._path = path
        self._naming = naming
        header = {**_header(space), **({"predicted": True} if naming.predicted else {})}
        lines = read_lines(path)
        if lines:
            self._check(lines[0], header)
        self.earlier = [_to_trial(line) for line in lines[1:]]
        self._written = {trial.vector for trial in self.earlier}
        self._file = JsonLines(path)
        if not lines:
            self._file.append(header)

    def _check(self, found: dict[str, Any], expected: dict[str, Any]) -> None:
        differing = [key for key in expected if found.get(key) != expected[key]]
        if differing:
            raise UserError(
                f"the trials in '{self._path}' are of another {' and '.join(differing)} than this run's; "
                "resume with the settings of that run, or start a new one without resume="
            )

    def add(self, trial: Trial) -> None:
        """Append a trial; one that came from this file is there already."""
        if trial.vector not in self._written:
            self._written.add(trial.vector)
            self._file.append(to_dict(trial, self._naming))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_EMPTY: tuple[Any, ...] = (None, "", (), {})


def to_dict(trial: Trial, naming: Naming = MEASURED) -> dict[str, Any]:
    """A trial as plain data: its own fields, its figures, and the measurement without what is empty in it."""
    measured = {key: value for key, value in dataclasses.asdict(trial.measurement).items() if value not in _EMPTY}
    return {**vars(trial), **naming.figures(trial.measurement), "measurement": measured}


def _to_trial(line: dict[str, Any]) -> Trial:
    measured: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in line["measurement"].items()
    }
    fields = {field.name: line[field.name] for field in dataclasses.fields(Trial)}
    return Trial(**{**fields, "vector": tuple(line["vector"]), "measurement": Measurement(**measured)})


def _header(space: ScheduleSpace) -> dict[str, Any]:
    return {
        "journal": VERSION,
        "operator": space.operator.to_dict(),
        "device": space.device.fingerprint,
        "encoding": [space.encoding.device_kind, space.encoding.version],
        "templates": {template.name: template.version for template in space.templates.values()},
    }
