"""`Record`: one measurement as the store keeps it, with everything needed to understand it later."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from wpk_envs import operators
from wpk_envs.core import DeviceInfo, KnobValue, Measurement, Operator


@dataclass(frozen=True)
class Record:
    """One measurement and what it is of.

    Attributes:
        id: Rises with every record of one store.
        created: When it was kept, UTC, ISO 8601.
        candidate: Key of operator, template, template version and config (`Candidate.key`).
        operator: What was computed.
        template: The algorithm's name, such as ``"cpu/direct_conv"``.
        template_version: Its version then.
        config: The schedule's knobs.
        device: Where, with versions and threads.
        measurement: What came of it.
    """

    id: int
    created: str
    candidate: str
    operator: Operator
    template: str
    template_version: int
    config: dict[str, KnobValue]
    device: DeviceInfo
    measurement: Measurement

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data, fit for JSON; numbers that are not finite become null.

        Latency (``latency_us``) and ``speedup`` are the medians, derived from the samples beside them;
        ``predicted_speedup`` follows from the two predicted latencies. Measured and predicted never share a key.
        """
        measured = {name: _plain(value) for name, value in asdict(self.measurement).items()}
        return {
            "id": self.id,
            "created": self.created,
            "candidate": self.candidate,
            "operator": {"label": self.operator.label, **self.operator.to_dict()},
            "template": self.template,
            "template_version": self.template_version,
            "config": dict(self.config),
            "device": {"fingerprint": self.device.fingerprint, **asdict(self.device)},
            "latency_us": self.measurement.latency_us,
            "speedup": self.measurement.speedup,
            "predicted_speedup": self.measurement.predicted_speedup,
            **measured,
        }


_JSON_FIELDS = ("samples_us", "baseline_us", "layouts", "details")


def from_row(row: sqlite3.Row) -> Record:
    """Make a record of a row of the ``records`` table joined with its operator and device."""
    values: dict[str, Any] = {field.name: row[field.name] for field in fields(Measurement)}
    values.update({name: json.loads(values[name]) for name in _JSON_FIELDS})
    values.update({name: tuple(values[name]) for name in ("samples_us", "baseline_us")})
    return Record(
        id=row["id"],
        created=row["created"],
        candidate=row["candidate"],
        operator=operators.from_dict(json.loads(row["operator_fields"])),
        template=row["template"],
        template_version=row["template_version"],
        config=json.loads(row["config"]),
        device=DeviceInfo(**json.loads(row["device_info"])),
        measurement=Measurement(**values),
    )


def measurement_columns(measurement: Measurement) -> dict[str, Any]:
    """A measurement as columns of the ``records`` table."""
    columns = {field.name: getattr(measurement, field.name) for field in fields(Measurement)}
    columns["samples_us"] = json.dumps([float(sample) for sample in measurement.samples_us])
    columns["baseline_us"] = json.dumps([float(sample) for sample in measurement.baseline_us])
    columns["layouts"] = json.dumps(dict(measurement.layouts))
    columns["details"] = json.dumps(dict(measurement.details))
    derived = {name: getattr(measurement, name) for name in ("latency_us", "speedup", "predicted_speedup")}
    return {**columns, **derived}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
