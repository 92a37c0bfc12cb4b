"""The store's SQLite file: its tables, how it is opened, and what can go wrong with a file, in sentences."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from wpk_envs.errors import UserError

SCHEMA_VERSION = 3
APPLICATION_ID = 0x57504B45
"""``WPKE``, kept in the file's header: tells a store from any other program's database."""

BUSY_SECONDS = 60.0
"""How long a writer waits for the other processes' transactions, each of which takes milliseconds."""

TABLES = (
    """CREATE TABLE operators (
        key TEXT PRIMARY KEY,
        label TEXT NOT NULL,
        fields TEXT NOT NULL  -- JSON, Operator.to_dict()
    )""",
    """CREATE TABLE devices (
        fingerprint TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        info TEXT NOT NULL  -- JSON, every field of DeviceInfo: kind, target, limits, threads, versions
    )""",
    """CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        created TEXT NOT NULL,  -- UTC, ISO 8601
        candidate TEXT NOT NULL,  -- Candidate.key: operator, template, its version, config
        operator TEXT NOT NULL REFERENCES operators (key),
        device TEXT NOT NULL REFERENCES devices (fingerprint),
        template TEXT NOT NULL,
        template_version INTEGER NOT NULL,
        config TEXT NOT NULL,  -- JSON
        samples_us TEXT NOT NULL,  -- JSON, every sample
        baseline_us TEXT NOT NULL,  -- JSON, the baseline's sample beside each
        baseline_name TEXT NOT NULL,
        latency_us REAL,  -- median of the samples; null if nothing was measured
        speedup REAL,  -- median over the pairs; null without a baseline
        predicted_latency_us REAL,  -- a model's latency, never in the columns above
        confidence TEXT NOT NULL,
        error TEXT,
        message TEXT NOT NULL,
        max_error REAL,
        layouts TEXT NOT NULL,  -- JSON
        build_seconds REAL NOT NULL,
        measure_seconds REAL NOT NULL,
        details TEXT NOT NULL DEFAULT '{}',  -- JSON; since version 2
        predicted_baseline_us REAL,  -- the baseline's latency by the same model; since version 3
        predicted_speedup REAL  -- of the two predicted latencies, never in the column speedup; since version 3
    )""",
    "CREATE INDEX records_by_candidate ON records (candidate, device)",
    "CREATE INDEX records_by_operator ON records (operator, device)",
)

UPGRADES = {
    1: ("ALTER TABLE records ADD COLUMN details TEXT NOT NULL DEFAULT '{}'",),
    2: (
        "ALTER TABLE records ADD COLUMN predicted_baseline_us REAL",
        "ALTER TABLE records ADD COLUMN predicted_speedup REAL",
    ),
}
"""What makes a store of a version one of the next."""

_WRONG = {
    "readonly": "is read-only",
    "disk is full": "cannot grow because the disk is full",
    "unable to open": "cannot be opened",
    "locked": f"has been locked by another process for {BUSY_SECONDS:.0f} seconds",
    "disk I/O error": "cannot be read or written (disk error)",
    "not a database": "is no SQLite file",
    "malformed": "is damaged",
}


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the disk or the file can do wrong into a `UserError`; defects stay what they are."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        for part, what in _WRONG.items():
            if part in str(error):
                raise refusal(path, what) from error
        raise
    except OSError as error:
        raise refusal(path, f"cannot be made ({error.strerror})") from error


def refusal(path: Path, what: str, advice: str = "put that right") -> UserError:
    """The sentence for a store that cannot be used."""
    return UserError(f"the store '{path}' {what}; {advice}, or name another store with store.path=FILE or WPK_STORE")


def connect(path: Path) -> sqlite3.Connection:
    """Open a store, making it if there is none yet.

    Any thread may use the connection, one at a time. Transactions are explicit, see `transaction`.

    Raises:
        UserError: If the file cannot be opened or made, is no store, is damaged, or is of a newer version
            (which is then left as it is).
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    connection.row_factory = sqlite3.Row
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all that happens inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if _is_empty(connection):
        _create(connection)
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise refusal(path, "is a database of another program", "leave it to that program")
    version = _pragma(connection, "user_version")
    if version > SCHEMA_VERSION:
        raise refusal(path, f"has version {version}, and this wpk-envs reads up to {SCHEMA_VERSION}", "update wpk-envs")
    if version < SCHEMA_VERSION:
        _upgrade(connection)
    _use_write_ahead_log(connection)
    # A killed process loses nothing that was committed; a power cut may lose the last commits, no more.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return tables == 0 and _pragma(connection, "user_version") == 0 and _pragma(connection, "application_id") == 0


def _create(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        if not _is_empty(connection):  # another process was faster
            return
        for statement in TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _upgrade(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        for version in range(_pragma(connection, "user_version"), SCHEMA_VERSION):  # another process may be faster
            for statement in UPGRADES[version]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side; SQLite's own waiting does not cover this switch."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)
