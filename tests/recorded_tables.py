"""Small tables for tests, made up: real spaces, answers of a synthetic device, whose name the datasheets have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from tests.synthetic import INFO, SyntheticDevice
from wpk_envs import operators
from wpk_envs.core import Candidate, Measurement, Operator
from wpk_envs.records import Record, write_table
from wpk_envs.records.table import as_elite
from wpk_envs.schedules import build_space

OPERATOR = operators.override("depthwise3x3", channels=32, height=14, width=14)
GEMM = operators.override("gemm", m=16, n=64, k=64)
NAMES: dict[str, Operator] = {"small_depthwise": OPERATOR, "small_gemm": GEMM}


class UnsteadyDevice(SyntheticDevice):
    """The synthetic landscape with samples that differ, so that noise can be replayed."""

    def _answer(self, candidate: Candidate) -> Measurement:
        answer = super()._answer(candidate)
        samples = tuple(sample * (1 + place / 50) for place, sample in enumerate(answer.samples_us))
        return dataclasses.replace(answer, samples_us=samples)


def make_folder(folder: Path, elites: int = 0, every: int = 3, error_rate: float = 0.1) -> Path:
    """A table per operator, of every so manieth config; the last ``elites`` rows are flagged as such."""
    device = UnsteadyDevice(error_rate=error_rate, seconds=0.5)
    for name, operator in NAMES.items():
        rows = list(records(operator, device, every))
        rows[len(rows) - elites :] = map(as_elite, rows[len(rows) - elites :])
        protocol = {"workers": 2, "peak_gflops": 100.0}
        write_table(folder / f"{name}.parquet", rows, protocol, names={name: operator})
    return folder


def records(operator: Operator, device: SyntheticDevice, every: int) -> Iterator[Record]:
    """Records of every so manieth config of an operator."""
    space = build_space(operator, INFO)
    for number, vector in enumerate(list(space)[::every], start=1):
        candidate = space.candidate(vector)
        yield Record(
            id=number,
            created="2026-01-01T00:00:00.000+00:00",
            candidate=candidate.key,
            operator=operator,
            template=candidate.template.name,
            template_version=candidate.template.version,
            config=dict(candidate.config),
            device=INFO,
            measurement=device.measure([candidate])[0],
        )
