"""The store: every measurement ever made on this account, in one SQLite file.

Records are keyed by operator, config, template name and version, and device fingerprint (model, threads,
versions), and nothing is ever overwritten: measuring again adds a record.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import platformdirs

from wpk_envs.core import ERROR_KINDS, Candidate, DeviceInfo, Measurement, Operator
from wpk_envs.errors import unknown
from wpk_envs.operators import from_dict
from wpk_envs.records import database
from wpk_envs.records.record import Record, from_row, measurement_columns

TRANSIENT_ERRORS = ("timeout", "crash")
"""A busy machine or a full memory can cause these: they are kept, but never answer for the device."""

_LASTING = f"(error IS NULL OR error NOT IN {TRANSIENT_ERRORS})"

OUTCOMES: dict[str, str] = {
    "measured": "latency_us IS NOT NULL",
    "predicted": "predicted_latency_us IS NOT NULL",
    "final": "latency_us IS NOT NULL AND json_extract(details, '$.search') IS NOT NULL",
    "failed": "error IS NOT NULL",
    **{kind: f"error = '{kind}'" for kind in ERROR_KINDS},
}
"""What `Store.records` can select by, in SQL."""

_SELECT = """
    SELECT records.*, operators.fields AS operator_fields, devices.info AS device_info FROM records
    JOIN operators ON operators.key = records.operator
    JOIN devices ON devices.fingerprint = records.device
"""
_PAGE = 500
_MAX_ID = 2**63 - 1


def default_path() -> Path:
    """Where the store is: ``WPK_STORE`` if set, else the user's data folder."""
    given = os.environ.get("WPK_STORE")
    return Path(given).expanduser() if given else platformdirs.user_data_path("wpk-envs") / "records.sqlite"


class Store:
    """All records of one file.

    Any number of processes and threads may use one file at the same time. A store can be pickled, and used
    in a forked process: each process opens its own connection. A killed process loses nothing that `put`
    returned from, and leaves no half-written record.

    Args:
        path: The file, made on first use; `default_path` if none.

    Raises:
        UserError: If the file cannot be opened or made, is no store, is damaged or of a newer version.
            Every method raises it too when the disk refuses.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path).expanduser().absolute() if path else default_path().absolute()
        self._open()
        self._connection()

    def _open(self) -> None:
        self._lock = threading.RLock()
        self._connections: dict[int, sqlite3.Connection] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open()

    def _connection(self) -> sqlite3.Connection:
        """This process's connection. A forked child must not even close its parent's, so that one is kept."""
        process = os.getpid()
        if process not in self._connections:
            self._connections[process] = database.connect(self.path)
        return self._connections[process]

    def get(self, candidate: Candidate, device_info: DeviceInfo) -> Measurement | None:
        """What is known of exactly this candidate, template version and device.

        Args:
            candidate: Operator, template and config.
            device_info: The device, versions and threads included.

        Returns:
            The latest measurement, prediction or lasting error (``invalid``, ``compile``,
            ``wrong_result``); none if there is none. The `TRANSIENT_ERRORS` are passed over, so that
            the device is asked again.
        """
        rows = self._rows(
            f"candidate = ? AND device = ? AND {_LASTING} ORDER BY id DESC LIMIT 1",
            (candidate.key, device_info.fingerprint),
        )
        return from_row(rows[0]).measurement if rows else None

    def put(self, candidate: Candidate, device_info: DeviceInfo, measurement: Measurement) -> None:
        """Keep a measurement, whatever its outcome; it is on disk, or in the system's hands, on return."""
        record = Record(
            id=0,
            created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            candidate=candidate.key,
            operator=candidate.operator,
            template=candidate.template.name,
            template_version=candidate.template.version,
            config=dict(candidate.config),
            device=device_info,
            measurement=measurement,
        )
        with self._lock, database.explained(self.path):
            connection = self._connection()
            with database.transaction(connection):
                _insert(connection, record)

    def add(self, records: Iterable[Record]) -> int:
        """Keep what was measured elsewhere, all or nothing of it; the ids become new ones.

        Args:
            records: One that is here already (candidate, device, date and outcome are the same) is passed over.

        Returns:
            How many were new.
        """
        new = 0
        with self._lock, database.explained(self.path):
            connection = self._connection()
            with database.transaction(connection):
                for record in records:
                    if not _is_here(connection, record):
                        _insert(connection, record)
                        new += 1
        return new

    def best(
        self,
        operator: Operator,
        device_fingerprint: str | None = None,
        n: int = 1,
        templates: Mapping[str, int] | None = None,
        predicted: bool = False,
    ) -> list[Record]:
        """The fastest configs of an operator, best first: the measured ones, or else the predicted ones.

        Each config counts with its latest record (as in `get`), so that neither a lucky earlier measurement
        wins nor a config that was found wrong since. Order is by median paired speedup, then, for records
        without a baseline, by median latency; of predictions, by what is predicted of both. Errors are left out.

        Args:
            operator: What to compute.
            device_fingerprint: Only records of this device; of every device if none.
            n: How many configs.
            templates: Only records of these templates in these versions (version by name), because a
                config of another version may now mean another kernel; of any if none.
            predicted: Whether to look at predictions, and at nothing measured.
        """
        devices = None if device_fingerprint is None else [device_fingerprint]
        where, values = _condition([operator], devices)
        if templates is not None:
            pairs = " OR ".join("(template = ? AND template_version = ?)" for _ in templates)
            where += f" AND ({pairs or '0'})"
            values += [part for pair in templates.items() for part in pair]
        latest = f"SELECT max(id) FROM records WHERE {where} AND {_LASTING} GROUP BY candidate, device"
        kind, prefix = ("predicted", "predicted_") if predicted else ("measured", "")
        order = f"ORDER BY {prefix}speedup IS NULL, {prefix}speedup DESC, {prefix}latency_us LIMIT ?"
        rows = self._rows(f"id IN ({latest}) AND {OUTCOMES[kind]} {order}", (*values, n))
        return [from_row(row) for row in rows]

    def records(
        self,
        operators: Collection[Operator] | None = None,
        devices: Collection[str] | None = None,
        template: str | None = None,
        outcome: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[Record]:
        """Walk through the records in the order in which they were kept.

        Args:
            operators: Only of these operators.
            devices: Only of the devices with these fingerprints.
            template: Only of this template, by name.
            outcome: Only with this outcome, a key of `OUTCOMES`.
            newest_first: Walk from the latest record to the first.

        Raises:
            UserError: For an unknown outcome.
        """
        where, values = _condition(operators, devices, template, outcome)
        beyond, order = ("id < ?", "id DESC") if newest_first else ("id > ?", "id")
        last = _MAX_ID if newest_first else 0
        while rows := self._rows(f"{where} AND {beyond} ORDER BY {order} LIMIT {_PAGE}", (*values, last)):
            yield from (from_row(row) for row in rows)
            last = rows[-1]["id"]

    def count(
        self,
        operators: Collection[Operator] | None = None,
        devices: Collection[str] | None = None,
        template: str | None = None,
        outcome: str | None = None,
    ) -> int:
        """How many records there are; filters as in `records`."""
        where, values = _condition(operators, devices, template, outcome)
        return self._fetch(f"SELECT count(*) FROM records WHERE {where}", tuple(values))[0][0]

    def operators(self) -> list[Operator]:
        """Every operator that has a record, in the order of their first records."""
        rows = self._fetch("SELECT fields FROM operators ORDER BY rowid")
        return [from_dict(json.loads(row["fields"])) for row in rows]

    def devices(self) -> dict[str, DeviceInfo]:
        """Every device that has a record, by fingerprint, in the order of their first records."""
        rows = self._fetch("SELECT fingerprint, info FROM devices ORDER BY rowid")
        return {row["fingerprint"]: DeviceInfo(**json.loads(row["info"])) for row in rows}

    def _rows(self, where: str, values: tuple[Any, ...]) -> list[sqlite3.Row]:
        return self._fetch(f"{_SELECT} WHERE {where}", values)

    def _fetch(self, query: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with self._lock, database.explained(self.path):
            return self._connection().execute(query, values).fetchall()

    def close(self) -> None:
        """Close this process's connection; safe to call twice. Using the store again reopens it."""
        with self._lock:
            connection = self._connections.pop(os.getpid(), None)
            if connection is not None:
                connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _is_here(connection: sqlite3.Connection, record: Record) -> bool:
    columns = _columns(record)
    same = ("candidate", "device", "created", "samples_us", "predicted_latency_us", "error")
    query = f"SELECT 1 FROM records WHERE {' AND '.join(f'{name} IS :{name}' for name in same)}"
    return connection.execute(query, {name: columns[name] for name in same}).fetchone() is not None


def _insert(connection: sqlite3.Connection, record: Record) -> None:
    operator, device, columns = record.operator, record.device, _columns(record)
    connection.execute(
        "INSERT OR IGNORE INTO operators VALUES (?, ?, ?)",
        (operator.key, operator.label, json.dumps(operator.to_dict())),
    )
    connection.execute(
        "INSERT OR IGNORE INTO devices VALUES (?, ?, ?)",
        (device.fingerprint, device.name, json.dumps(dataclasses.asdict(device))),
    )
    places = ", ".join(f":{name}" for name in columns)
    connection.execute(f"INSERT INTO records ({', '.join(columns)}) VALUES ({places})", columns)


def _columns(record: Record) -> dict[str, Any]:
    return {
        "created": record.created,
        "candidate": record.candidate,
        "operator": record.operator.key,
        "device": record.device.fingerprint,
        "template": record.template,
        "template_version": record.template_version,
        "config": json.dumps(record.config),
        **measurement_columns(record.measurement),
    }


def _condition(
    operators: Collection[Operator] | None = None,
    devices: Collection[str] | None = None,
    template: str | None = None,
    outcome: str | None = None,
) -> tuple[str, list[Any]]:
    """The filters of `Store.records` as an SQL condition and its values."""
    if outcome is not None and outcome not in OUTCOMES:
        raise unknown("outcome", outcome, OUTCOMES)
    chosen = {
        "operator": None if operators is None else [operator.key for operator in operators],
        "device": devices,
        "template": None if template is None else [template],
    }
    parts = [OUTCOMES[outcome] if outcome else "1"]
    values: list[Any] = []
    for column, allowed in chosen.items():
        if allowed is not None:
            parts.append(f"{column} IN ({', '.join('?' for _ in allowed)})")
            values += allowed
    return " AND ".join(parts), values
