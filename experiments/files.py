"""A run's `summary.json`, and what a disk may say to it."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from wpk_envs.errors import UserError
from wpk_envs.files import write_whole

_DISK_ERRORS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def disk_error(error: OSError) -> UserError | None:
    """The sentence for a full, read-only or otherwise refused disk; none if the error is of another sort."""
    if error.errno not in _DISK_ERRORS:
        return None
    where = f" '{error.filename}'" if error.filename else ""
    return UserError(
        f"cannot write{where}: {error.strerror}; free some space there, or name a folder you may write to "
        "(hydra.run.dir=FOLDER for the run, store.path=FILE or WPK_STORE for the records, out=FILE for the summary)"
    )


def write_json(path: Path, value: Any) -> None:
    """Write plain data (NumPy numbers too) as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=lambda number: number.item())
    write_whole(path, (text + "\n").encode())


def out_file(out: str | None) -> Path | None:
    """Where ``out=FILE`` wants the summary: the file itself, or ``FILE.<job number>`` in a multirun."""
    if out is None:
        return None
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is not None and hydra.mode == RunMode.MULTIRUN:
        out = f"{out}.{hydra.job.num}"
    return Path(out).expanduser().absolute()


def check_writable(out: str | None) -> None:
    """Find out before the work, not after it, that ``out=FILE`` cannot be written.

    Raises:
        UserError: If it cannot.
    """
    target = out_file(out)
    if target is None:
        return
    if target.is_dir():
        raise UserError(f"out='{out}' is a folder; give the name of a file, such as out={out}/summary.json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UserError(f"out='{out}' cannot be written: {error.strerror}; name a file in a folder of yours") from error


def publish(summary: Mapping[str, Any], folder: Path, out: str | None) -> Path:
    """Write ``summary.json`` into the run's folder, copy it to ``out=FILE`` and print its path, as the last line.

    Args:
        summary: Plain data.
        folder: The run's folder.
        out: The program's ``out=`` setting.

    Returns:
        The path of ``summary.json``.
    """
    path = folder / "summary.json"
    write_json(path, summary)
    target = out_file(out)
    if target is not None:
        write_json(target, summary)
    print(path, flush=True)
    return path
