"""Recording a landscape: every config of a space measured, some of them again, and what is known put into a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments import progress
from experiments.config import DeviceConfig
from wpk_envs.core import Candidate, Device, Measurement, Operator
from wpk_envs.records import Record, Store, write_table
from wpk_envs.records.store import TRANSIENT_ERRORS
from wpk_envs.records.table import as_elite
from wpk_envs.schedules import ScheduleSpace, build_space
from wpk_envs.schedules.reductions import REDUCTIONS

PASSES = 3
"""How often the best are measured in all."""

AGAIN = 64
"""Configs in the order of measuring that are measured a second time, to tell how noisy the device is."""


@dataclass(frozen=True)
class MeasureSettings:
    """What a recording was asked to do.

    Attributes:
        device: Where.
        operators: By name; a table each.
        space: The named space, a key of `REDUCTIONS`.
        configs: How many, drawn uniformly; all of the space if none.
        repeats: Pairs of samples of a config; the device's own number if none.
        confirm: How many of the best are measured again, until each has been `PASSES` times.
        elites: Best records from outside the space that are added, flagged.
        seed: Of the choice and the order of configs.
    """

    device: DeviceConfig
    operators: Mapping[str, Operator]
    space: str = "full"
    configs: int | None = None
    repeats: int | None = None
    confirm: int = 0
    elites: int = 0
    seed: int = 0


class Recording:
    """Measures the configs of operators and writes them into tables.

    Args:
        settings: What was asked for.
        device: Where.
        store: Keeps every measurement; what it has is not measured again.
        console: For progress.
    """

    def __init__(self, settings: MeasureSettings, device: Device, store: Store, console: Console) -> None:
        self.settings = settings
        self.device = device
        self.store = store
        self.console = console

    def record(self, name: str, operator: Operator, path: Path) -> dict[str, Any]:
        """Measure what is not known yet and write the table; its datasheet."""
        space = build_space(operator, self.device.info, reduction=self.settings.space)
        candidates = {candidate.key: candidate for candidate in map(space.candidate, self._chosen(space))}
        known = self._known(operator)
        self._measure(name, self.device, [each for key, each in candidates.items() if _is_open(known.get(key, []))])
        for number in range(2, PASSES + 1):
            self._measure_again(f"{name}, again", operator, candidates, number)
        known = self._known(operator)
        elites = self._elites(operator, set(candidates))
        protocol = {**self._protocol(space), "elites": len(elites), **_noise_again([known[key] for key in candidates])}
        rows = [joined(known[key]) for key in candidates]
        return write_table(path, [*rows, *elites], protocol, names={name: operator})

    def _chosen(self, space: ScheduleSpace) -> list[tuple[int, ...]]:
        """The configs in random order, so that a drift of the machine is no feature of the landscape."""
        rng = np.random.default_rng(self.settings.seed)
        if self._whole(space):
            every = list(space)
            return [every[rank] for rank in rng.permutation(space.size)]
        chosen: dict[tuple[int, ...], None] = {}
        while len(chosen) < (self.settings.configs or 0):
            chosen[space.sample(rng)] = None
        return list(chosen)

    def _whole(self, space: ScheduleSpace) -> bool:
        return self.settings.configs is None or self.settings.configs >= space.size

    def _measure(self, title: str, device: Device, candidates: Sequence[Candidate]) -> None:
        failed = 0
        with progress.Steps(self.console, f"{title}: measured", len(candidates)) as steps:

            def keep(position: int, measurement: Measurement) -> None:
                nonlocal failed
                self.store.put(candidates[position], self.device.info, measurement)
                failed += measurement.error is not None
                steps.step(f"{failed} failed, {steps.pace}")

            device.measure(candidates, keep, self.settings.repeats)

    def _measure_again(self, title: str, operator: Operator, candidates: Mapping[str, Candidate], number: int) -> None:
        """Measure in new processes what was measured less than ``number`` times and is to be confirmed."""
        known = self._known(operator)
        rewards = {key: joined(known[key]).measurement.reward for key in candidates}
        wanted = dict.fromkeys(sorted(rewards, key=lambda key: -rewards[key])[: self.settings.confirm])
        if number == 2:
            wanted |= dict.fromkeys(list(candidates)[:AGAIN])
        missing = [candidates[key] for key in wanted if len(known[key]) < number]
        device = self.device.fresh()
        try:
            self._measure(title, device, missing)
        finally:
            if device is not self.device:
                device.close()

    def _known(self, operator: Operator) -> dict[str, list[Record]]:
        """The records of every config of an operator, by its candidate's key, the first one first.

        Those of `TRANSIENT_ERRORS` are left out where there are others.
        """
        found: dict[str, list[Record]] = {}
        for record in self.store.records(operators=[operator], devices=[self.device.info.fingerprint]):
            found.setdefault(record.candidate, []).append(record)
        return {key: [each for each in records if not _is_open([each])] or records for key, records in found.items()}

    def _elites(self, operator: Operator, inside: set[str]) -> list[Record]:
        """The best records from outside of the space, flagged."""
        wanted = self.settings.elites
        versions = {t.name: t.version for t in build_space(operator, self.device.info).templates.values()}
        best = self.store.best(operator, self.device.info.fingerprint, wanted + len(inside), versions)
        outside = [record for record in best if record.candidate not in inside]
        return [as_elite(record) for record in outside[:wanted]]

    def _protocol(self, space: ScheduleSpace) -> dict[str, Any]:
        """How it was chosen and timed, as the datasheet says it."""
        settings = self.settings
        return {
            "space": settings.space,
            "whole": self._whole(space),
            "reduction": {knob: list(kept) for knob, kept in REDUCTIONS[settings.space].items()},
            "repeats": settings.repeats,
            "confirmed": settings.confirm,
            "seed": settings.seed,
            "workers": self.device.workers,
            "peak_gflops": self.device.peak_gflops(),
            "timing": "thread CPU time, config and baseline in turns" if self.device.info.threads == 1 else "wall time",
        }


def _is_open(records: Sequence[Record]) -> bool:
    """Whether nothing lasting is known of a config."""
    return all(record.measurement.error in TRANSIENT_ERRORS for record in records)


def joined(records: Sequence[Record]) -> Record:
    """One record of a config that was measured several times: all samples, the cost of the first measurement.

    If it ever failed, the record of the failure: a kernel that is right at times is wrong.
    """
    failed = [record for record in records if record.measurement.error is not None]
    if failed or len(records) == 1:
        return (failed or records)[-1]
    samples, baseline = (
        tuple(sample for record in records for sample in getattr(record.measurement, name))
        for name in ("samples_us", "baseline_us")
    )
    paired = baseline if len(baseline) == len(samples) else ()
    return replace(records[0], measurement=replace(records[0].measurement, samples_us=samples, baseline_us=paired))


def _noise_again(known: Sequence[Sequence[Record]]) -> dict[str, Any]:
    """How far second measurements are from first ones: noise that the samples of one go do not show."""
    gains = [(records[0].measurement.gain, records[1].measurement.gain) for records in known[:AGAIN] if records[1:]]
    apart = [abs(math.log(one / other)) for one, other in gains if one and other]
    return {"measured_again": len(apart), "noise_again": statistics.median(apart) if apart else None}
