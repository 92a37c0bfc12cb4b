"""What was measured of a bundle: JSON lines in a folder, in the file as soon as they are known.

Every file begins with a header that says where its lines were measured; each line after it is one kernel::

    {"timings": 1, "created": "...", "gpu": {"model": "NVIDIA H200", "arch": "sm_90", ...}, "versions": {...},
     "bundle": {"sha256": "...", "device": {...}, "versions": {...}}, "protocol": "cold", "tf32": false}
    {"candidate": "0f...", "image": "9a...", "name": "resnet18/2", "operator": {...}, "template": "cuda/gemm",
     "template_version": 1, "config": {...}, "created": "...", "measurement": {"samples_us": [...], ...}}

Each start of the program opens a file of its own, and the next one before a file reaches `FILE_BYTES`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wpk_envs.core import Measurement
from wpk_envs.devices.cuda.bundle import Entry
from wpk_envs.errors import UserError
from wpk_envs.files import JsonLines, encoded, read_lines

VERSION = 1
FILE_BYTES = 15_000_000
"""Files stay below 16 MB: some services take no larger ones."""

SYNC_SECONDS = 5.0
"""A machine that loses power loses no more than this."""

_EMPTY: tuple[Any, ...] = (None, "", (), {})


@dataclass(frozen=True)
class Timing:
    """One line, with the header of its file."""

    header: Mapping[str, Any]
    line: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        """What must be the same for a line to answer for a kernel."""
        return key(self.header, self.line["image"], self.line["candidate"])

    @property
    def measurement(self) -> Measurement:
        """What came of the kernel."""
        fields: dict[str, Any] = dict(self.line["measurement"])
        tuples: dict[str, Any] = {name: tuple(each) for name, each in fields.items() if isinstance(each, list)}
        return Measurement(**fields | tuples)


def key(header: Mapping[str, Any], image: str, candidate: str) -> tuple[str, ...]:
    """A kernel, the GPU it runs on and how it is timed."""
    gpu = header["gpu"]
    return gpu["model"], gpu["arch"], header["protocol"], str(header["tf32"]), image, candidate


def read(folder: Path) -> Iterator[Timing]:
    """All whole lines of a folder's files, in the order in which they were written.

    Raises:
        UserError: If a file there is of another version.
    """
    for path in sorted(folder.glob("timings_*.jsonl")):
        lines = read_lines(path)
        if not lines:
            continue
        if lines[0].get("timings") != VERSION:
            raise UserError(
                f"'{path}' has timings of version {lines[0].get('timings')}, this version reads {VERSION}; "
                "use the version of wpk-envs that wrote it, or name another folder"
            )
        yield from (Timing(lines[0], line) for line in lines[1:])


class TimingFiles:
    """Appends measurements to a folder's files.

    Args:
        folder: Made if it is missing.
        header: What every file begins with.

    Raises:
        UserError: If the folder cannot be written.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._folder = folder
        self._header = {"timings": VERSION, **header}
        self._file: JsonLines | None = None
        self._synced = time.monotonic()
        check_writable(folder)
        self._known = {timing.key for timing in read(folder)}

    def knows(self, entry: Entry) -> bool:
        """Whether a kernel was measured before, on this GPU and in this way."""
        return key(self._header, entry.image, entry.candidate) in self._known

    def mine(self) -> list[Timing]:
        """All lines of the folder that were measured on this GPU and in this way."""
        shared = key(self._header, "", "")[:-2]
        return [timing for timing in read(self._folder) if timing.key[:-2] == shared]

    def add(self, entry: Entry, measurement: Measurement) -> None:
        """Append a measurement, whole or on a full disk not at all.

        Raises:
            UserError: If the disk refuses.
        """
        line = {
            "candidate": entry.candidate,
            "image": entry.image,
            "name": entry.name,
            "operator": entry.operator.to_dict(),
            "template": entry.template,
            "template_version": entry.template_version,
            "config": dict(entry.config),
            "created": now(),
            "measurement": plain(measurement),
        }
        try:
            file = self._room_for(len(encoded(line)))
            file.append(line)
            if time.monotonic() - self._synced > SYNC_SECONDS:
                file.sync()
                self._synced = time.monotonic()
        except OSError as error:
            raise _refused(self._folder, error) from error
        self._known.add(key(self._header, entry.image, entry.candidate))

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file is not None:
            self._file.sync()
            self._file.close()
            self._file = None

    def _room_for(self, size: int) -> JsonLines:
        """The file that has room for so many more bytes: a new one if need be."""
        if self._file is None or self._file.size + size > FILE_BYTES:
            self.close()
            self._file = self._next()
            self._file.append({**self._header, "created": now()})
        return self._file

    def _next(self) -> JsonLines:
        for number in itertools.count(1 + _last_number(self._folder)):
            with contextlib.suppress(FileExistsError):  # another process, for another GPU, was quicker
                return JsonLines(self._folder / f"timings_{number:04d}.jsonl", "x")
        raise AssertionError("numbers do not end")


def plain(measurement: Measurement) -> dict[str, Any]:
    """A measurement as plain data, without what is empty in it or not finite."""
    fields = {name: each for name, each in asdict(measurement).items() if each not in _EMPTY}
    return {name: each for name, each in fields.items() if not isinstance(each, float) or math.isfinite(each)}


def check_writable(folder: Path) -> None:
    """Find out before the work that a folder cannot be written.

    Raises:
        UserError: If it cannot.
    """
    probe = folder / f".probe_{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise _refused(folder, error) from error


def now() -> str:
    """The date for lines: UTC, ISO 8601, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _last_number(folder: Path) -> int:
    numbers = (path.stem.rpartition("_")[2] for path in folder.glob("timings_*.jsonl"))
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def _refused(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"'{folder}' cannot be written: {error.strerror}; what was measured is kept, name a folder with room for more"
    )
