"""What the store knows of an operator for the speedup tables: final measurements, ours and TVM's MetaSchedule's.

A *final* measurement is the end of a search: its winner, measured once more in a new process with more repeats, with
what is known of the search in its details.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.finals import median_interval, quotient_interval, ratios
from wpk_envs.core import DeviceInfo, Operator
from wpk_envs.records import Record, Store
from wpk_envs.schedules import templates_for
from wpk_envs.schedules.cpu.metaschedule import METASCHEDULE

ENDED = ("finished", "exhausted")
"""A search that stopped for these reasons would find nothing more in any time."""


@dataclass(frozen=True)
class Ratio:
    """A speedup and its 95% bootstrap interval; the interval is missing where there are no samples."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Known:
    """Final measurements of one operator on one device.

    Attributes:
        ours: The best of this suite's templates; none if there is none.
        tvm: The best of MetaSchedule, searched for no shorter than ours was; none if there is none.
    """

    ours: Record | None = None
    tvm: Record | None = None

    @property
    def together(self) -> bool:
        """Whether both were measured beside the same path of the vendor, so that they can be compared."""
        if self.ours is None or self.tvm is None:
            return False
        name = self.ours.measurement.baseline_name
        return bool(name) and name == self.tvm.measurement.baseline_name

    @property
    def over_vendor(self) -> Ratio | None:
        """Ours over the vendor's best path: the median over the pairs of samples."""
        if self.ours is None or not self.ours.measurement.baseline_us:
            return None
        pairs = ratios(self.ours.measurement)
        return Ratio(statistics.median(pairs), *median_interval(pairs))

    @property
    def over_plain_torch(self) -> Ratio | None:
        """Ours over plain torch, by way of the vendor's best, with which torch was raced."""
        torch = {} if self.ours is None else self.ours.measurement.details.get("plain_torch", {})
        vendor = self.over_vendor
        return Ratio(vendor.value * torch["us"] / torch["baseline_us"]) if vendor and torch else None

    @property
    def over_tvm(self) -> Ratio | None:
        """Ours over MetaSchedule's, by way of the vendor's path that both were measured beside in turns."""
        if not self.together:
            return None
        assert self.ours is not None
        assert self.tvm is not None
        ours, theirs = ratios(self.ours.measurement), ratios(self.tvm.measurement)
        return Ratio(statistics.median(ours) / statistics.median(theirs), *quotient_interval(ours, theirs))


def known_of(store: Store, operator: Operator, device: DeviceInfo) -> Known:
    """Everything final of an operator on a device, by templates in their present versions."""
    versions = {template.name: template.version for template in templates_for(device.kind)}
    ours = _best(store, operator, device, versions)
    if ours is None:
        return Known()
    return Known(ours, _best(store, operator, device, {METASCHEDULE.name: METASCHEDULE.version}, search_of(ours)))


def search_of(record: Record) -> dict[str, Any]:
    """What is known of the search that a final measurement ended: algo, seed, trials, search_seconds, stop_reason."""
    return dict(record.measurement.details["search"])


def _best(
    store: Store,
    operator: Operator,
    device: DeviceInfo,
    versions: Mapping[str, int],
    rival: Mapping[str, Any] | None = None,
) -> Record | None:
    """The best final record, each config with its latest; with a rival, of searches no shorter than its."""
    chosen: dict[str, Any] = {"operators": [operator], "devices": [device.fingerprint]}
    wrong = {record.candidate: record.id for record in store.records(**chosen, outcome="wrong_result")}
    latest: dict[str, Record] = {}
    for record in store.records(**chosen, outcome="final"):
        fits = versions.get(record.template) == record.template_version and record.id > wrong.get(record.candidate, 0)
        if fits and (rival is None or _as_long(search_of(record), rival)):
            latest[record.candidate] = record
    return max(latest.values(), key=lambda record: record.measurement.reward, default=None)


def _as_long(search: Mapping[str, Any], rival: Mapping[str, Any]) -> bool:
    return search["stop_reason"] in ENDED or search["search_seconds"] >= rival["search_seconds"]
