"""What was measured of bundles elsewhere, taken into the store and into recorded tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wpk_envs import operators
from wpk_envs.core import DeviceInfo, Measurement, stable_hash
from wpk_envs.devices.cuda import descriptions, timings
from wpk_envs.devices.cuda.gpu import GpuInfo
from wpk_envs.errors import UserError
from wpk_envs.files import read_lines
from wpk_envs.records.record import Record
from wpk_envs.records.store import TRANSIENT_ERRORS, Store
from wpk_envs.records.table import read_table, write_table


@dataclass(frozen=True)
class Merged:
    """What came of a merge.

    Attributes:
        files: Files that were read.
        lines: Measurements in them.
        new: How many of them the store did not have.
        cut_off: Files whose last line was cut off, and left out.
        tables: The tables that were written, with their datasheets.
    """

    files: int
    lines: int
    new: int
    cut_off: tuple[Path, ...]
    tables: Mapping[Path, Mapping[str, Any]]


@dataclass(frozen=True)
class _File:
    """One file of timings: what its header says, and its records."""

    device: DeviceInfo
    protocol: Mapping[str, Any]
    source: Mapping[str, Any]
    records: tuple[Record, ...]


def merge(source: Path, store: Store, out: Path) -> Merged:
    """Take the timings in a folder into the store, and write a table per device and way of timing.

    Merging twice, or copies of the same files, changes nothing. A table that is in ``out`` already keeps its rows.

    Args:
        source: The folder that ``time_bundle --out`` wrote, or one with several of them.
        store: Gets every measurement.
        out: The folder of the tables, ``MODEL_PROTOCOL_FINGERPRINT.parquet``.

    Raises:
        UserError: If there are no timings in the folder or one of them is damaged, and nothing is then changed; or
            if the disk refuses.
    """
    paths = sorted(source.rglob("timings_*.jsonl"))
    files = [file for path in paths if (file := _read(path)) is not None]
    if not files:
        raise UserError(f"there are no timings in '{source}': name a folder that time_bundle --out wrote")
    by_device: dict[str, list[_File]] = {}
    for file in files:
        by_device.setdefault(file.device.fingerprint, []).append(file)
    records = [record for file in files for record in file.records]
    new = store.add(records)
    return Merged(
        files=len(files),
        lines=len(records),
        new=new,
        cut_off=tuple(path for path in paths if not path.read_bytes().endswith(b"\n")),
        tables=dict(_write(out, some) for some in by_device.values() if any(file.records for file in some)),
    )


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per candidate, in the order of the candidates' first: the latest that a busy machine did not cause."""
    chosen: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: record.created):
        lasting = record.measurement.error not in TRANSIENT_ERRORS
        if lasting or record.candidate not in chosen or chosen[record.candidate].measurement.error in TRANSIENT_ERRORS:
            chosen[record.candidate] = record
    return list(chosen.values())


def _write(out: Path, files: list[_File]) -> tuple[Path, dict[str, Any]]:
    device, protocol = files[0].device, files[0].protocol
    slug = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
    path = out / f"{slug}_{protocol['protocol']}_{device.fingerprint[:8]}.parquet"
    earlier = read_table(path) if path.exists() else None
    records = [*(earlier.records if earlier else ()), *(record for file in files for record in file.records)]
    sources = {stable_hash(dict(each)): each for each in [*(earlier.datasheet["sources"] if earlier else ())]}
    sources |= {stable_hash(dict(file.source)): file.source for file in files}
    return path, write_table(path, latest(records), protocol, list(sources.values()))


def _read(path: Path) -> _File | None:
    """A file of timings; none if it was cut off before its first line ended.

    Raises:
        UserError: If it is damaged or of another version.
    """
    try:
        lines = read_lines(path)
        if not lines:
            return None
        version = lines[0].get("timings")
        if version == timings.VERSION:
            return _file(lines[0], lines[1:])
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"'{path}' is damaged ({error}); copy it again, or move it out of the folder") from error
    raise UserError(
        f"'{path}' has timings of version {version}, this version reads {timings.VERSION}; "
        "use the version of wpk-envs that wrote it"
    )


def _file(header: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> _File:
    gpu = GpuInfo(**{field.name: header["gpu"][field.name] for field in fields(GpuInfo) if field.name in header["gpu"]})
    built_with = {name: header["bundle"]["versions"][name] for name in ("tvm", "nvrtc")}
    device = descriptions.present(gpu, header["protocol"], built_with)
    return _File(
        device=device,
        protocol={"protocol": header["protocol"], "tf32": header["tf32"]},
        source={"bundle_sha256": header["bundle"]["sha256"], "wpk_envs": header["bundle"]["versions"].get("wpk_envs")},
        records=tuple(_records(lines, device)),
    )


def _records(lines: Iterable[Mapping[str, Any]], device: DeviceInfo) -> Iterator[Record]:
    for number, line in enumerate(lines, 2):
        operator = operators.from_dict(line["operator"])
        version = [line["template"], line["template_version"]]
        if stable_hash([operator.to_dict(), version, line["config"]]) != line["candidate"]:
            raise ValueError(f"line {number} is of another candidate than it says")
        values: dict[str, Any] = {
            key: tuple(each) if isinstance(each, list) else each for key, each in line["measurement"].items()
        }
        yield Record(
            id=number,
            created=line["created"],
            candidate=line["candidate"],
            operator=operator,
            template=line["template"],
            template_version=line["template_version"],
            config=line["config"],
            device=device,
            measurement=Measurement(**values),
        )
