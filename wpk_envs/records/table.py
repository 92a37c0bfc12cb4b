"""Recorded tables: the measurements of one device as a Parquet file that says what it holds.

A row is one measured config, or on a predicted device one prediction, in columns of its own. What all rows share is
the table's *datasheet*, JSON in the file's metadata: device, versions, protocol, dates, operators, counts, noise, and a
checksum over rows and datasheet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wpk_envs import operators
from wpk_envs.core import DeviceInfo, Measurement, Operator
from wpk_envs.errors import UserError
from wpk_envs.files import replacing
from wpk_envs.records.columns import measurement_columns
from wpk_envs.records.record import Record

FORMAT = 1
KEY = b"wpk_envs_table"
"""Where the datasheet is in the file's metadata."""

ELITE = "elite"
"""The detail that flags a record from outside of the recorded space, where only the best are known."""

_JSON = ("config", "layouts", "details")
_FROM_DETAILS = ("registers", "spill_bytes")  # of a thread, on GPUs


@dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        datasheet: What the rows share.
        records: The rows; their ids count from 1.
    """

    datasheet: Mapping[str, Any]
    records: tuple[Record, ...]

    @property
    def device(self) -> DeviceInfo:
        """Where all of it was measured."""
        return device_of(self.datasheet)


def as_elite(record: Record) -> Record:
    """A record flagged as found outside of the recorded space: it counts as best known, and cannot be searched."""
    details = {**record.measurement.details, ELITE: True}
    return dataclasses.replace(record, measurement=dataclasses.replace(record.measurement, details=details))


def write_table(
    path: Path,
    records: Iterable[Record],
    protocol: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]] = (),
    names: Mapping[str, Operator] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write measurements of one device, whole or not at all.

    Args:
        path: The file; replaced if there is one.
        records: At least one, all of one device.
        protocol: How it was timed, as plain data.
        sources: What was measured, such as the checksums of bundles.
        names: What operators are called; their labels otherwise.

    Returns:
        The datasheet.

    Raises:
        UserError: If the disk refuses; the file is then as it was before.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(records)
    table = pa.Table.from_pylist([_row(record) for record in rows], schema=_schema())
    sheet = {"format": FORMAT, **_shared(rows), "protocol": dict(protocol), "sources": list(sources)}
    sheet["names"] = {operator.key: name for name, operator in names.items()}
    sheet["sha256"] = _checksum(table, sheet)
    table = table.replace_schema_metadata({KEY: json.dumps(sheet)})
    try:
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    except OSError as error:
        raise UserError(
            f"cannot write '{path}': {error.strerror or error}; name a file in a folder with room for it"
        ) from error
    return sheet


def read_table(path: Path) -> Table:
    """Read a table, checked whole before anything in it is used.

    Raises:
        UserError: If there is no such file, or it is no table, damaged or of a newer version.
    """
    import pyarrow.parquet as pq

    with _explained(path):
        table = pq.read_table(path)
    sheet = _datasheet(path, table.schema)
    if not _is_whole(table, sheet):
        raise UserError(f"'{path}' is damaged: its checksum differs; get it again")
    return Table(sheet, tuple(_records(table.to_pylist(), sheet)))


def read_datasheet(path: Path) -> dict[str, Any]:
    """What a table says of itself, without its rows, which only `read_table` checks against it.

    Raises:
        UserError: If there is no such file, or it is no table or of a newer version.
    """
    import pyarrow.parquet as pq

    with _explained(path):
        schema = pq.read_schema(path)
    return _datasheet(path, schema)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what reading a Parquet file raises into a sentence."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"there is no table '{path}'") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"'{path}' is damaged or no Parquet file; get it again") from error


def _datasheet(path: Path, schema: Any) -> dict[str, Any]:
    try:
        sheet = json.loads((schema.metadata or {})[KEY])
        version = sheet["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is no table of measurements: it has no datasheet; name another file") from error
    if version != FORMAT:
        raise UserError(f"'{path}' has format {version}, this version reads {FORMAT}; update wpk-envs")
    return sheet


def device_of(sheet: Mapping[str, Any]) -> DeviceInfo:
    """Where the rows of a datasheet were measured."""
    return DeviceInfo(**sheet["device"])


def _shared(records: Sequence[Record]) -> dict[str, Any]:
    (device,) = {record.device.fingerprint: record.device for record in records}.values()
    dates = sorted(record.created for record in records)
    measured = [record.measurement for record in records if record.measurement.samples_us]
    predictions = sum(record.measurement.predicted_latency_us is not None for record in records)
    predicted = {"predicted": predictions} if predictions else {}
    errors = Counter(record.measurement.error for record in records if record.measurement.error)
    return {
        "device": dataclasses.asdict(device),
        "fingerprint": device.fingerprint,
        "dates": [dates[0], dates[-1]],
        "operators": {record.operator.key: record.operator.to_dict() for record in records},
        "counts": {"rows": len(records), "measured": len(measured), **predicted, **errors},
        "noise": _noise(measured),
    }


def _noise(measured: Sequence[Measurement]) -> float | None:
    """Median over the rows of the samples' standard deviation relative to their mean."""
    spreads = [
        statistics.stdev(each.samples_us) / statistics.fmean(each.samples_us)
        for each in measured
        if len(each.samples_us) > 1
    ]
    return statistics.median(spreads) if spreads else None


def _row(record: Record) -> dict[str, Any]:
    plain = record.to_dict()
    details = dict(plain["details"])
    own = {name: details.pop(name, None) for name in _FROM_DETAILS}
    texts = {name: json.dumps({**plain, "details": details}[name]) for name in _JSON}
    return {**plain, **own, **texts, "operator": record.operator.key, "label": record.operator.label}


def _records(rows: Sequence[Mapping[str, Any]], sheet: Mapping[str, Any]) -> Iterable[Record]:
    device = device_of(sheet)
    shapes = {key: operators.from_dict(fields) for key, fields in sheet["operators"].items()}
    for number, row in enumerate(rows, 1):
        plain = {**row, **{name: json.loads(row[name]) for name in _JSON}}
        plain["details"] |= {name: row[name] for name in _FROM_DETAILS if row[name] is not None}
        values = {field.name: plain[field.name] for field in dataclasses.fields(Measurement) if field.name in plain}
        values |= {name: tuple(row[name]) for name in ("samples_us", "baseline_us")}
        yield Record(
            id=number,
            created=row["created"],
            candidate=row["candidate"],
            operator=shapes[row["operator"]],
            template=row["template"],
            template_version=row["template_version"],
            config=plain["config"],
            device=device,
            measurement=Measurement(**values),
        )


def _is_whole(table: Any, sheet: Mapping[str, Any]) -> bool:
    try:
        return _checksum(table, sheet) == sheet.get("sha256")
    except (ValueError, TypeError):  # damage has made text of what was none, or no text of what was
        return False


def _checksum(table: Any, sheet: Mapping[str, Any]) -> str:
    content = [{key: value for key, value in sheet.items() if key != "sha256"}, table.to_pydict()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _schema() -> Any:
    import pyarrow as pa

    columns = {
        "operator": pa.string(),  # its key; the datasheet has the fields
        "label": pa.string(),
        "template": pa.string(),
        "template_version": pa.int64(),
        "config": pa.string(),  # JSON
        "candidate": pa.string(),
        "created": pa.string(),
        **measurement_columns(own=_FROM_DETAILS),
    }
    return pa.schema(list(columns.items()))
