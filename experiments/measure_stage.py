"""``stage=measure`` of `experiments.record`: a space of configs measured here, whole or a sample, into a table each.

Every measurement is kept in the store at once, so that an interrupted recording goes on where it was.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console

from experiments import progress, summary
from experiments.config import DeviceConfig, device_of, operators_of
from experiments.files import publish
from wpk_envs import devices
from wpk_envs.core import Candidate, Device, Measurement, Operator
from wpk_envs.errors import UserError, unknown
from wpk_envs.records import Record, Store, write_table
from wpk_envs.records.table import as_elite
from wpk_envs.schedules import ScheduleSpace, build_space
from wpk_envs.schedules.reductions import REDUCTIONS

AGAIN = 64
"""Configs that are measured a second time, to tell how noisy the device is."""


@dataclass(frozen=True)
class MeasureSettings:
    """What a recording was asked to do.

    Attributes:
        device: Where.
        operators: By name; a table each.
        space: The named space, a key of `REDUCTIONS`.
        configs: How many, drawn uniformly; all of the space if none.
        repeats: Pairs of samples of a config; the device's own number if none.
        elites: Best records from outside the space that are added, flagged.
        seed: Of the choice and the order of configs.
    """

    device: DeviceConfig
    operators: Mapping[str, Operator]
    space: str
    configs: int | None
    repeats: int | None
    elites: int
    seed: int


def settings_of(cfg: DictConfig) -> MeasureSettings:
    """The settings of a recording, checked.

    Raises:
        UserError: For a value that is missing or cannot be.
    """
    for key, example in {"device": "device=cpu", "op": "op=conv3x3"}.items():
        if cfg[key] is None:
            raise UserError(f"stage=measure needs {key}=, such as {example}")
    if cfg.space not in REDUCTIONS:
        raise unknown("space", cfg.space, REDUCTIONS)
    for key, least in {"configs": 1, "repeats": 1, "elites": 0, "seed": 0}.items():
        if cfg[key] is not None and cfg[key] < least:
            raise UserError(f"{key} must be a whole number of at least {least}, not {cfg[key]}")
    device = device_of(cfg.device)
    if device.name == "recorded":
        raise UserError("device=recorded plays back what was measured; record on the device itself, such as device=cpu")
    return MeasureSettings(device, operators_of(cfg.op), cfg.space, cfg.configs, cfg.repeats, cfg.elites or 0, cfg.seed)


def act(cfg: DictConfig, folder: Path) -> None:
    """Measure, write a table per operator and publish the summary.

    Raises:
        UserError: For what the user can mend.
        KeyboardInterrupt: After Ctrl-C; the same command goes on.
    """
    settings, console = settings_of(cfg), progress.console()
    tables = folder if cfg.tables is None else Path(cfg.tables).expanduser().absolute()
    done: dict[str, Any] = {}
    with Store(cfg.store.path) as store, devices.open_device(**settings.device.settings) as device:
        recording = _Recording(settings, device, store, console)
        for name, operator in settings.operators.items():
            path = tables / f"{re.sub(r'[^a-z0-9_]+', '-', name)}.parquet"
            try:
                sheet = recording.record(name, operator, path)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("interrupted: measurements are kept, and the same command goes on") from None
            done[name] = {"table": str(path), **{key: sheet[key] for key in ("counts", "noise", "dates", "sha256")}}
            console.print(f"{path}: {sheet['counts']['rows']} configs of {name}", highlight=False, soft_wrap=True)
        figures = summary.device_figures(device)
    publish({"stage": "measure", **figures, "tables": done, "date": summary.now()}, folder, cfg.out)


class _Recording:
    """Measures the configs of operators and writes them into tables."""

    def __init__(self, settings: MeasureSettings, device: Device, store: Store, console: Console) -> None:
        self.settings = settings
        self.device = device
        self.store = store
        self.console = console

    def record(self, name: str, operator: Operator, path: Path) -> dict[str, Any]:
        """Measure what the store does not know yet and write the table; its datasheet."""
        space = build_space(operator, self.device.info, reduction=self.settings.space)
        candidates = {candidate.key: candidate for candidate in map(space.candidate, self._chosen(space))}
        self._measure(name, [each for each in candidates.values() if not self.store.get(each, self.device.info)])
        known = self._known(operator)
        rows = [known[key] for key in candidates]
        elites = self._elites(operator, set(candidates))
        protocol = {**self._protocol(space), "elites": len(elites), **self._again(candidates, known)}
        return write_table(path, [*rows, *elites], protocol, names={name: operator})

    def _chosen(self, space: ScheduleSpace) -> list[tuple[int, ...]]:
        """The configs in random order, so that a drift of the machine is no feature of the landscape."""
        rng = np.random.default_rng(self.settings.seed)
        if self.settings.configs is None or self.settings.configs >= space.size:
            every = list(space)
            return [every[rank] for rank in rng.permutation(space.size)]
        chosen: dict[tuple[int, ...], None] = {}
        while len(chosen) < self.settings.configs:
            chosen[space.sample(rng)] = None
        return list(chosen)

    def _measure(self, name: str, missing: Sequence[Candidate]) -> None:
        failed = 0
        with progress.Steps(self.console, f"{name}: measured", len(missing)) as steps:

            def keep(position: int, measurement: Measurement) -> None:
                nonlocal failed
                self.store.put(missing[position], self.device.info, measurement)
                failed += measurement.error is not None
                steps.step(f"{failed} failed, {steps.pace}")

            self.device.measure(missing, keep, self.settings.repeats)

    def _known(self, operator: Operator) -> dict[str, Record]:
        """The latest record of every config of an operator, by its candidate's key."""
        records = self.store.records(operators=[operator], devices=[self.device.info.fingerprint])
        return {record.candidate: record for record in records}

    def _again(self, candidates: Mapping[str, Candidate], known: Mapping[str, Record]) -> dict[str, Any]:
        """How far a second measurement of some configs is from the first: noise that samples of one go do not show."""
        first = {key: known[key].measurement.gain for key in candidates if known[key].measurement.gain is not None}
        chosen = list(first)[:AGAIN]
        second = self.device.measure([candidates[key] for key in chosen], repeats=self.settings.repeats)
        gains = [(first[key], answer.gain) for key, answer in zip(chosen, second)]
        apart = [abs(math.log(one / other)) for one, other in gains if one is not None and other is not None]
        return {"measured_again": len(apart), "noise_again": statistics.median(apart) if apart else None}

    def _elites(self, operator: Operator, inside: set[str]) -> list[Record]:
        """The best records from outside of the space, flagged."""
        wanted = self.settings.elites
        versions = {t.name: t.version for t in build_space(operator, self.device.info).templates.values()}
        best = self.store.best(operator, self.device.info.fingerprint, wanted + len(inside), versions)
        outside = [record for record in best if record.candidate not in inside]
        return [as_elite(record) for record in outside[:wanted]]

    def _protocol(self, space: ScheduleSpace) -> dict[str, Any]:
        """How it was chosen and timed, as the datasheet says it."""
        whole = self.settings.configs is None or self.settings.configs >= space.size
        return {
            "space": self.settings.space,
            "whole": whole,
            "reduction": {knob: list(kept) for knob, kept in REDUCTIONS[self.settings.space].items()},
            "repeats": self.settings.repeats,
            "seed": self.settings.seed,
            "workers": self.device.workers,
            "peak_gflops": self.device.peak_gflops(),
            "timing": "thread CPU time, config and baseline in turns" if self.device.info.threads == 1 else "wall time",
        }
