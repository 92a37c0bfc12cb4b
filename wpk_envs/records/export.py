"""Records as files for other programs: JSON lines and Parquet."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wpk_envs.errors import UserError
from wpk_envs.files import replacing
from wpk_envs.records.columns import measurement_columns
from wpk_envs.records.record import Record

_ROW_GROUP = 5000
_NESTED = ("operator", "config", "device", "layouts", "details")


def export(records: Iterable[Record], path: str | os.PathLike[str]) -> int:
    """Write records into a file, whole or not at all.

    Both formats have the keys of `Record.to_dict`. In JSON lines (``.jsonl``) each line is one record. In
    Parquet samples are lists of float64 and the nested values (operator, config, device, layouts, details) are
    JSON texts.

    Args:
        records: What to write, such as ``store.records(outcome="measured")``.
        path: The file; its suffix chooses the format.

    Returns:
        How many records were written.

    Raises:
        UserError: For another suffix, and if the disk refuses; the file is then as it was before.
    """
    target = Path(path).expanduser()
    write = writer(target)
    try:
        with replacing(target) as temporary:
            return write(records, temporary)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write '{target}': {reason}; name a file in a folder with room for it") from error


def writer(path: str | os.PathLike[str]) -> Callable[[Iterable[Record], Path], int]:
    """The format that a file's suffix asks for.

    Raises:
        UserError: If it is none of the known ones.
    """
    formats = {".jsonl": _write_json_lines, ".parquet": _write_parquet}
    if Path(path).suffix not in formats:
        raise UserError(f"cannot export to '{path}'; end the file's name in .jsonl or .parquet")
    return formats[Path(path).suffix]


def _write_json_lines(records: Iterable[Record], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _write_parquet(records: Iterable[Record], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    remaining = iter(records)
    with pq.ParquetWriter(path, _parquet_schema()) as file:
        while rows := [_flat(record) for record in itertools.islice(remaining, _ROW_GROUP)]:
            file.write_table(pa.Table.from_pylist(rows, schema=file.schema))
            count += len(rows)
    return count


def _flat(record: Record) -> dict[str, Any]:
    plain = record.to_dict()
    return {**plain, **{name: json.dumps(plain[name], ensure_ascii=False) for name in _NESTED}}


def _parquet_schema() -> Any:
    import pyarrow as pa

    columns = {
        "id": pa.int64(),
        "created": pa.string(),
        "candidate": pa.string(),
        "operator": pa.string(),
        "template": pa.string(),
        "template_version": pa.int64(),
        "config": pa.string(),
        "device": pa.string(),
        **measurement_columns(),
    }
    return pa.schema(list(columns.items()))
