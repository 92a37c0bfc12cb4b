"""Measuring what the store lacks for the speedup tables: ours first, then MetaSchedule for as long as ours took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.files import write_json
from experiments.finals import measure_finals
from experiments.known import Known, known_of, search_of
from experiments.settings import Settings
from experiments.tune import Workplace, tune
from wpk_envs.core import Candidate, Operator
from wpk_envs.devices.cpu import CpuDevice
from wpk_envs.records import Record
from wpk_envs.schedules import templates_for
from wpk_envs.schedules.cpu.metaschedule import METASCHEDULE
from wpk_envs.tuning import Budget

RIVAL = "metaschedule"
"""The algo that ours is compared with."""


@dataclass(frozen=True)
class Filling:
    """One operator whose measurements are to be complete.

    Attributes:
        place: Device, store and settings.
        name: The operator's name.
        operator: What is computed.
        folder: Where its searches put their files; what an interrupted one left there is gone on with.
    """

    place: Workplace
    name: str
    operator: Operator
    folder: Path

    @property
    def known(self) -> Known:
        """What the store knows now."""
        return known_of(self.place.store, self.operator, self.place.device.info)

    def fill(self) -> None:
        """Tune ours, then MetaSchedule for as long at least; see that both were measured beside one path of the vendor.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
        """
        settings = self.place.settings
        if self.known.ours is None:
            self._tune(settings)
        ours = self.known.ours
        if ours is None or not isinstance(self.place.device, CpuDevice):  # elsewhere there is no MetaSchedule
            return
        if self.known.tvm is None:
            self._tune_rival(search_of(ours)["search_seconds"])
        tvm = self.known.tvm
        if tvm is not None and not self.known.together:
            self._measure_together([ours, tvm])

    def _tune_rival(self, seconds: float) -> None:
        """Let MetaSchedule search for some seconds; if its first proposals took longer, for twice what they took."""
        budget = Budget(trials=None, seconds=seconds)
        found = self._tune(replace(self.place.settings, algo=RIVAL, algo_settings={}, budget=budget))
        if found["trials"] == 0 and found["stop_reason"] == "seconds":
            took = found["search_seconds"]
            self.place.console.print(
                f"{self.name}: MetaSchedule's first proposals took {took:.0f} s, it gets twice that"
            )
            self._tune_rival(2 * took)

    def _tune(self, settings: Settings) -> dict[str, Any]:
        """Search, and measure the winner; the summary."""
        folder = self.folder / settings.algo
        begun = (folder / "trials.jsonl").exists()
        place = replace(self.place, settings=replace(settings, resume=begun))
        outcome = tune(place, self.name, self.operator, folder)
        write_json(folder / "summary.json", outcome.summary)
        if outcome.interrupted:
            raise KeyboardInterrupt
        if outcome.failure and outcome.summary["trials"]:
            self.place.console.print(outcome.failure, highlight=False, markup=False)
        return outcome.summary

    def _measure_together(self, records: Sequence[Record]) -> None:
        """Measure finals again, in new processes that share a baseline."""
        device = self.place.device.fresh()
        try:
            wanted = [(_candidate(record), record.measurement.details) for record in records]
            for (candidate, _), measurement in zip(wanted, measure_finals(device, wanted)):
                self.place.store.put(candidate, device.info, measurement)
        finally:
            if device is not self.place.device:
                device.close()


def _candidate(record: Record) -> Candidate:
    """What a record of a present template is of."""
    known = {template.name: template for template in (*templates_for(record.device.kind), METASCHEDULE)}
    return Candidate(record.operator, known[record.template], record.config)
