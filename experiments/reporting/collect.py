"""Results in folders: which there are, what they hold, and the command lines that made them."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from wpk_envs.errors import UserError
from wpk_envs.files import read_lines

OUTPUTS = Path("outputs")
"""Where programs put their folders unless told otherwise."""

KINDS = {
    "run": ("op", "algo", "trials", "predicted"),
    "compare": ("agents", "seeds"),
    "transfer": ("splits", "seeds"),
    "tables": ("groups", "paper", "operators"),
}
"""Programs whose results a report shows, and keys by which their summaries are known."""

_PLACES = ("resume", "out", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
"""Settings that say where results go, not which ones."""


@dataclass(frozen=True)
class Result:
    """What a program left in a folder.

    Attributes:
        kind: The program, one of `KINDS`.
        folder: Where.
        summary: Its ``summary.json``.
        command: The command line that makes it again; none if the folder does not say.
    """

    kind: str
    folder: Path
    summary: Mapping[str, Any]
    command: str | None

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of one of the folder's files without the first, which says whose they are; none without a file.

        Raises:
            UserError: If the file is damaged.
        """
        try:
            return read_lines(self.folder / name)[1:]
        except ValueError as error:
            raise UserError(f"'{self.folder / name}' is damaged: {error}; leave its folder out of from=") from error

    def text(self, name: str) -> str | None:
        """One of the folder's files as text; none if there is no such file."""
        path = self.folder / name
        return path.read_text(errors="replace") if path.is_file() else None


@dataclass(frozen=True)
class Found:
    """The results that a report is made of.

    Attributes:
        results: In the order in which folders were given, each folder's by name.
        notes: What was chosen or left out, in sentences.
    """

    results: tuple[Result, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def of(self, kind: str) -> list[Result]:
        """The results of one program; the operators of a network and the splits of a transfer study each by itself.

        Raises:
            UserError: If a summary is damaged.
        """
        parts: list[Result] = []
        for result in self.results:
            if result.kind == kind:
                with understood(result):
                    parts += _parts(result)
        return parts


@contextlib.contextmanager
def understood(result: Result) -> Iterator[None]:
    """Turn what a result raises whose files are not what its program writes into a sentence."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(
            f"what experiments.{result.kind} wrote into '{result.folder}' is damaged or of another version "
            f"({type(error).__name__}: {error}); leave it out of from="
        ) from error


def collect(folders: Sequence[Path] | None) -> Found:
    """Read the results in folders, and in the folders in them.

    Args:
        folders: Where to look; none for the newest of each program in `OUTPUTS`.

    Raises:
        UserError: If a folder does not exist or has no result, or a summary is damaged.
    """
    if folders is None:
        return _newest()
    results, notes = [], []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"from='{folder}' is not a folder; name one that a program of experiments wrote")
        here, others = _below(folder)
        if not here:
            programs = " or ".join(f"experiments.{kind}" for kind in KINDS)
            raise UserError(f"from='{folder}' has no result of {programs}; name a folder that has")
        results += here
        notes += others
    return Found(tuple(results), tuple(notes))


def _newest() -> Found:
    """The last folder of each program that has a result; their names are times."""
    results, notes = [], []
    for kind in KINDS:
        for folder in sorted(OUTPUTS.glob(f"{kind}/*/"), reverse=True):
            here = [result for result in _below(folder)[0] if result.kind == kind]
            if here:
                results += here
                notes.append(f"{folder} was taken, the newest result of experiments.{kind}")
                break
    return Found(tuple(results), tuple(notes))


def _below(folder: Path) -> tuple[list[Result], list[str]]:
    """The results in a folder, and sentences on summaries that are of another sort."""
    results, notes = [], []
    for path in _summaries(folder):
        summary = _read(path)
        kind = next((kind for kind, keys in KINDS.items() if all(key in summary for key in keys)), None)
        if kind is None:
            notes.append(f"{path.parent} was left out: its summary.json is of another program")
        else:
            results.append(Result(kind, path.parent, summary, command(path.parent, kind)))
    return results, notes


def _summaries(folder: Path) -> Iterator[Path]:
    """Every ``summary.json`` that is not below another one."""
    own = folder / "summary.json"
    if own.is_file():
        yield own
        return
    for child in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):
        if child.is_dir() and not child.is_symlink():
            yield from _summaries(child)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        summary = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"'{path}' is damaged: {error}; leave its folder out of from=") from error
    return summary if isinstance(summary, Mapping) else {}


def command(folder: Path, program: str) -> str | None:
    """The command line that a folder was made with, without where it went; none if the folder does not say."""
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return None
    overrides: Any = OmegaConf.to_container(OmegaConf.load(path))
    given = [str(each) for each in overrides if str(each).partition("=")[0].lstrip("+") not in _PLACES]
    return shlex.join(["python", "-m", f"experiments.{program}", *given])


def _parts(result: Result) -> Iterator[Result]:
    """The operators of a network's run, each with its own subfolder; the splits of a study; any other result itself."""
    if result.kind == "run" and "operators" in result.summary:
        for entry in result.summary["operators"]:
            yield Result(result.kind, result.folder / str(entry["op"]).rpartition("/")[2], entry, result.command)
    elif result.kind == "transfer":
        for split in result.summary["splits"].values():
            yield Result(result.kind, result.folder, split, result.command)
    else:
        yield result
