"""Recorded tables as a device: what was measured earlier is played back, in microseconds instead of minutes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wpk_envs.core import Candidate, Config, Device, DeviceInfo, Measurement, Operator
from wpk_envs.errors import UserError
from wpk_envs.records.library import DEFAULT, TableFolder
from wpk_envs.records.record import Record
from wpk_envs.records.table import ELITE
from wpk_envs.schedules import templates_for


@dataclass(frozen=True)
class Recording:
    """What is recorded of one operator.

    Attributes:
        answers: Measurements by the key of their candidate: the space that can be searched.
        configs: Their configs, in the same order.
        best: The best that is known, whether it can be searched or was found elsewhere (`ELITE`).
    """

    answers: Mapping[str, Measurement]
    configs: tuple[Config, ...]
    best: Measurement


class RecordedDevice(Device):
    """Plays back the tables of a folder: the same candidates, masks, errors and costs as when they were recorded.

    A measurement costs the seconds that it cost then (`wpk_envs.tuning.TuningProblem` charges them), and the same
    candidate always gets the same answer.

    Args:
        tables: A name of `wpk_envs.records.library.shipped`, or the path of a folder of Parquet tables.
        noise: Whether to replay the noise: samples are drawn again, with replacement, from those of the record, so
            that the median differs from seed to seed as it would from one measurement to the next. Without it
            answers are as recorded.
        seed: Of the noise.

    Raises:
        UserError: If there are no such tables, one is damaged, or they are of more than one device.
    """

    replays = True

    def __init__(self, tables: str | Path = DEFAULT, noise: bool = False, seed: int = 0) -> None:
        if seed < 0:
            raise UserError(f"device.seed must be a whole number of at least 0, not {seed}")
        self._folder = TableFolder(tables)
        self._noise = noise
        self._seed = seed
        self._recordings: dict[str, Recording] = {}
        self.info: DeviceInfo = self._folder.device
        sheets = [self._folder.datasheet(operator) for operator in self.operators.values()]
        self.predicts = any("predicted" in sheet["counts"] for sheet in sheets)
        self.workers = int(sheets[0]["protocol"].get("workers", 1))
        self._peak = float(sheets[0]["protocol"].get("peak_gflops", 0.0))

    @property
    def operators(self) -> Mapping[str, Operator]:
        """The operators that are recorded, by name."""
        return self._folder.operators

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user should know, in sentences."""
        return (
            f"measurements are played back from {len(self.operators)} tables recorded on {self.info.name}; "
            "none is made now",
        )

    def configs(self, operator: Operator) -> Sequence[Config]:
        """The recorded configs of an operator; elites, which only tell what is possible, are none of them."""
        return self._of(operator).configs

    def best(self, operator: Operator) -> Measurement:
        """The best that is known of an operator, elites included."""
        return self._of(operator).best

    def datasheet(self, operator: Operator) -> Mapping[str, Any]:
        """What the table of an operator says of itself, its checksum ``sha256`` included."""
        return self._folder.datasheet(operator)

    def recorded(self, candidate: Candidate) -> Measurement:
        """The record of a candidate as it is, whatever the noise; the error ``invalid`` if there is none."""
        answer = self._of(candidate.operator).answers.get(candidate.key)
        if answer is None:
            message = f"this config of {candidate.operator.label} was not recorded"
            return Measurement(error="invalid", message=message)
        return answer

    def reseeded(self, seed: int) -> RecordedDevice:
        """The same tables under another noise, that of this device's seed plus one given; nothing is read again."""
        other = copy.copy(self)
        other._seed = self._seed + seed
        return other

    def measure(
        self,
        candidates: Sequence[Candidate],
        on_result: Callable[[int, Measurement], None] | None = None,
        repeats: int | None = None,
    ) -> list[Measurement]:
        """Answer from the tables; see `Device.measure`. ``repeats`` changes nothing.

        A candidate that was not recorded gets the error ``invalid``; the masks of its space leave it out.
        """
        answers = [self._answer(candidate) for candidate in candidates]
        for position, answer in enumerate(answers):
            if on_result is not None:
                on_result(position, answer)
        return answers

    def _answer(self, candidate: Candidate) -> Measurement:
        answer = self.recorded(candidate)
        return self._resampled(candidate, answer) if self._noise and answer.samples_us else answer

    def _resampled(self, candidate: Candidate, answer: Measurement) -> Measurement:
        """Pairs of samples drawn with replacement, the same ones for the same seed and candidate."""
        count = len(answer.samples_us)
        drawn = np.random.default_rng([self._seed, int(candidate.key, 16)]).integers(count, size=count)
        samples = tuple(answer.samples_us[place] for place in drawn)
        return replace(
            answer, samples_us=samples, baseline_us=tuple(answer.baseline_us[p] for p in drawn if answer.baseline_us)
        )

    def _of(self, operator: Operator) -> Recording:
        if operator.key not in self._recordings:
            table = self._folder.table(operator)
            records = [record for record in table.records if record.operator == operator]
            self._check_versions(records)
            self._recordings[operator.key] = _recording(records)
        return self._recordings[operator.key]

    def _check_versions(self, records: Sequence[Record]) -> None:
        """Refuse records of templates that have changed since: the same config is another kernel now."""
        now = {template.name: template.version for template in templates_for(self.info.kind)}
        for name, then in sorted({(record.template, record.template_version) for record in records}):
            if now.get(name) != then:
                here = "is gone" if name not in now else f"has version {now[name]} here"
                raise UserError(f"the tables have version {then} of template {name}, which {here}; record them anew")

    def peak_gflops(self) -> float:
        """Float32 peak of one kernel's threads as it was when the tables were recorded, in GFLOP/s.

        Raises:
            UserError: If the tables do not say.
        """
        if not self._peak:
            raise UserError(f"the tables of {self.info.name} do not say its peak; record them anew")
        return self._peak


def _recording(records: Sequence[Record]) -> Recording:
    inside = [record for record in records if not record.measurement.details.get(ELITE)]
    return Recording(
        answers={record.candidate: record.measurement for record in inside},
        configs=tuple(record.config for record in inside),
        best=max((record.measurement for record in records), key=lambda measurement: measurement.reward),
    )
