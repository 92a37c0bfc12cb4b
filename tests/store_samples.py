"""Candidates and measurements for the store's tests, and a writer that runs as a process of its own.

``python -m tests.store_samples FILE WORKER COUNT`` keeps COUNT records, printing each one's number as soon
as it is kept.
"""

import sys
from types import SimpleNamespace
from typing import Any

from wpk_envs import operators
from wpk_envs.core import Candidate, DeviceInfo, Measurement
from wpk_envs.records import Store

DEVICE = DeviceInfo(
    kind="cpu",
    name="Test CPU",
    target={"kind": "llvm", "mcpu": "native"},
    limits={"vector_lanes": 16},
    versions={"tvm": "0.27"},
)


def candidate(op: str = "conv3x3", version: int = 1, template: str = "cpu/direct_conv", **config: Any) -> Candidate:
    """A candidate of a template that is only a name; the store needs no more."""
    name: Any = SimpleNamespace(name=template, version=version)
    return Candidate(operators.get(op), name, {"template": template.partition("/")[2], **config})


def measured(latency: float, baseline: float | None = 8.0, samples: int = 3) -> Measurement:
    """A measurement whose median is the latency."""
    spread = tuple(latency * (1 + (number - samples // 2) / 128) for number in range(samples))
    return Measurement(
        samples_us=spread,
        baseline_us=() if baseline is None else (baseline,) * samples,
        baseline_name="onednn blocked",
        max_error=1e-6,
        layouts={"x": "NCHW16c", "output": "NCHW16c"},
        build_seconds=0.5,
        measure_seconds=0.25,
    )


if __name__ == "__main__":
    path, worker, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with Store(path) as store:
        for number in range(count):
            store.put(candidate(worker=worker, number=number), DEVICE, measured(number + 1.0, samples=9))
            print(number, flush=True)
