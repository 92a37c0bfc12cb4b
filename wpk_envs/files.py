"""Files that stay whole whatever happens: written at once, or line by line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new file beside ``target`` that takes its place if the block ends well; parents are made.

    Raises:
        OSError: If the disk refuses; the target is then as it was before.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        yield Path(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; parents are made.

    Raises:
        OSError: If the disk refuses; the file is then as it was before.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines; none if there is no file. A last one cut off is left out."""
    return [json.loads(line) for line in _whole_lines(path)]


class JsonLines:
    """A file that lines are appended to, each whole or not at all; a last line cut off by a kill is removed.

    Args:
        path: The file; made with its parents if it is missing.
        mode: ``"a"`` goes on with a file that exists, ``"x"`` refuses to.

    Attributes:
        size: Bytes of the file.

    Raises:
        OSError: If the disk refuses, or with mode ``"x"`` the file exists.
    """

    def __init__(self, path: Path, mode: Literal["a", "x"] = "a") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.size = sum(len(line) for line in _whole_lines(path))
        self._file = path.open(f"{mode}b", buffering=0)
        if mode == "a":
            self._file.truncate(self.size)

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line.

        Raises:
            OSError: If the disk is full; the file is then as it was before.
        """
        content = encoded(line)
        try:
            if self._file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(self.size)
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self.size += len(content)

    def sync(self) -> None:
        """Make sure that a loss of power loses no line."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


def encoded(line: Mapping[str, Any]) -> bytes:
    """A line as the bytes of a file of JSON lines."""
    return (json.dumps(line, separators=(",", ":")) + "\n").encode()


def _whole_lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
