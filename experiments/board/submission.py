"""The file that claims results: what one agent found on every operator with every seed, and how it may be checked.

JSON, with a version and a checksum over everything else. It comes from anywhere, so it is read as a stranger's: nothing
in it is used before all of it has the right form.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from wpk_envs.core import KnobValue
from wpk_envs.errors import UserError
from wpk_envs.files import write_whole

FORMAT = 1


@dataclass(frozen=True)
class Claim:
    """What one run is said to have found.

    Attributes:
        seed: Of the agent.
        config: The best config; none if nothing worked.
        trial: The trial at which it was found, from 1; 0 if nothing worked.
        trials: Trials that were made.
        speedup: Of the best config over the baseline; 0 if nothing worked.
        tried: All configs in order, as `experiments.comparison.cells.packed`; none if they are not given.
    """

    seed: int
    config: dict[str, KnobValue] | None
    trial: int
    trials: int
    speedup: float
    tried: str | None = None


@dataclass(frozen=True)
class Entry:
    """What is claimed of one operator.

    Attributes:
        operator: The operator as plain data.
        table: Checksum of the recorded table; empty if it was measured.
        runs: A claim for every seed.
    """

    operator: dict[str, Any]
    table: str
    runs: list[Claim]


@dataclass(frozen=True)
class Submission:
    """A claim of results.

    Attributes:
        title: What it is called in the table.
        author: Who made it.
        notes: Anything else.
        algo: Name of the agent.
        settings: Its settings.
        device_name: Where the results were measured.
        fingerprint: Of that device and its versions.
        recorded: Whether recorded tables answered.
        trials: Budget of every run.
        operators: What is claimed, by operator.
        date: When it was made.
        versions: Of what made it.
    """

    title: str
    author: str
    notes: str
    algo: str
    settings: dict[str, Any]
    device_name: str
    fingerprint: str
    recorded: bool
    trials: int
    operators: dict[str, Entry]
    date: str
    versions: dict[str, str]

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        content = dataclasses.asdict(self)
        whole = {"leaderboard": FORMAT, "sha256": checksum(content), **content}
        write_whole(path, (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode())

    @property
    def checksum(self) -> str:
        """Of everything in it."""
        return checksum(dataclasses.asdict(self))


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read(path: Path) -> Submission:
    """Read a submission, checked whole before anything in it is used.

    Raises:
        UserError: If there is no such file, or it is none, damaged, or of another version.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"there is no file '{path}'") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read as JSON: it is damaged, or no submission") from error
    if not isinstance(content, dict) or "leaderboard" not in content:
        raise UserError(f"'{path}' is no submission; python -m experiments.leaderboard submit=FOLDER makes one")
    version, digest = content.pop("leaderboard"), content.pop("sha256", None)
    if version != FORMAT:
        raise UserError(f"'{path}' has format {version}, this version reads {FORMAT}; make it with this version")
    if digest != checksum(content):
        raise UserError(f"'{path}' is damaged: its checksum differs; get or make it again")
    try:
        submission: Submission = _typed(content, Submission, "")
    except ValueError as error:
        raise UserError(f"'{path}' is no submission: {error}") from error
    return submission


def _typed(value: Any, wanted: Any, place: str) -> Any:
    """Plain data as an object of a type, if it has its form.

    Raises:
        ValueError: If it has not.
    """
    origin = get_origin(wanted)
    if wanted is Any:
        return value
    if origin is types.UnionType:
        return _one_of(value, get_args(wanted), place)
    if dataclasses.is_dataclass(wanted):
        return _object(value, wanted, place)
    if origin is list and isinstance(value, list):
        return [_typed(each, get_args(wanted)[0], f"{place}[{number}]") for number, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _typed(each, get_args(wanted)[1], f"{place}.{key}") for key, each in value.items()}
    if wanted is float and type(value) is int:
        return float(value)
    if isinstance(wanted, type) and type(value) is wanted:
        return value
    raise ValueError(f"{place.lstrip('.')} has a value of a wrong kind")


def _one_of(value: Any, wanted: tuple[Any, ...], place: str) -> Any:
    for each in wanted:
        try:
            return _typed(value, each, place)
        except ValueError:
            continue
    raise ValueError(f"{place.lstrip('.')} has a value of a wrong kind")


def _object(value: Any, wanted: Any, place: str) -> Any:
    hints = get_type_hints(wanted)
    if not isinstance(value, dict) or set(value) != set(hints):
        what = place.lstrip(".") or "the file"
        raise ValueError(f"{what} must have exactly {', '.join(hints)}")
    return wanted(**{key: _typed(value[key], hint, f"{place}.{key}") for key, hint in hints.items()})
