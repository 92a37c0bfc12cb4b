"""Synthetic stand-ins, so that tests of search need no compiler and no clock. Nothing here is a measurement."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from wpk_envs.core import (
    ERROR_KINDS,
    Candidate,
    Config,
    Constraint,
    Device,
    DeviceInfo,
    Kernel,
    Knob,
    Measurement,
    Operator,
    Template,
)
from wpk_envs.operators import Conv2d
from wpk_envs.schedules.space import Encoding, ScheduleSpace
from wpk_envs.tuning import Budget, TuningProblem

INFO = DeviceInfo(
    kind="cpu",
    name="synthetic landscape",
    target={"kind": "llvm"},
    limits={
        "vector_lanes": 16,
        "vector_registers": 32,
        "l1_bytes": 48 << 10,
        "l2_bytes": 2 << 20,
        "l3_bytes": 32 << 20,
    },
    versions={"synthetic": "1"},
)


def fraction(*parts: Any) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:6], "little") / 2**48


class SyntheticDevice(Device):
    """A smooth, deterministic landscape over any space: every knob has a best option, pairs interact.

    The best config of the template `winograd_conv` is 2.7 times as fast as the baseline, of any other 1.1
    times; half of them are slower than a third of that.

    Args:
        seed: Selects the landscape.
        error_rate: Share of configs that fail, with a typed error.
        seconds: Recorded cost of every measurement.
    """

    baseline_us = 1000.0
    best_speedup: ClassVar[dict[str, float]] = {"winograd_conv": 2.7}

    def __init__(self, seed: int = 0, error_rate: float = 0.0, seconds: float = 0.0) -> None:
        self.info = INFO
        self.workers = 2
        self.seed = seed
        self.error_rate = error_rate
        self.seconds = seconds
        self.batches: list[list[Candidate]] = []
        self.closed = 0

    def measure(
        self,
        candidates: Sequence[Candidate],
        on_result: Callable[[int, Measurement], None] | None = None,
        repeats: int | None = None,
    ) -> list[Measurement]:
        self.batches.append(list(candidates))
        answers = [self._answer(candidate) for candidate in candidates]
        for position, answer in enumerate(answers):
            if on_result is not None:
                on_result(position, answer)
        return answers

    @property
    def measured(self) -> list[str]:
        """Keys of everything measured so far."""
        return [candidate.key for batch in self.batches for candidate in batch]

    def _answer(self, candidate: Candidate) -> Measurement:
        config = sorted(candidate.config.items())
        if fraction("error", self.seed, config) < self.error_rate:
            kind = ERROR_KINDS[1 + int(4 * fraction("kind", self.seed, config))]
            return Measurement(error=kind, message=f"synthetic {kind}", build_seconds=self.seconds)
        latency = self.baseline_us / self.speedup(candidate.config)
        return Measurement(
            samples_us=(latency,) * 3,
            baseline_us=(self.baseline_us,) * 3,
            baseline_name="synthetic",
            build_seconds=self.seconds,
        )

    def speedup(self, config: Config) -> float:
        template = str(config["template"])
        best = self.best_speedup.get(template, 1.1)
        items = [(name, value) for name, value in config.items() if name != "template"]
        loss = sum(0.5 * fraction(self.seed, template, name, value) for name, value in items)
        loss += sum(0.5 * fraction(self.seed, template, *a, *b) for a, b in itertools.pairwise(items))
        return best * math.exp(-loss * 4 / len(items))

    def peak_gflops(self) -> float:
        return 100.0

    def close(self) -> None:
        self.closed += 1


class SyntheticTemplate(Template):
    """A template that cannot be compiled: knobs and constraints as given."""

    version = 1

    def __init__(self, name: str, knobs: tuple[str, ...], rules: Sequence[Constraint] = ()) -> None:
        self.name = f"synthetic/{name}"  # type: ignore[misc]
        self.knobs = knobs  # type: ignore[misc]
        self.rules = list(rules)

    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        return True

    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        return self.rules

    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        raise NotImplementedError("a synthetic template cannot be compiled")

    def executed_flops(self, operator: Operator, config: Config) -> float:
        return float(operator.flops)

    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        return len(partial) / 8, 0.5, 0.25


ENCODING = Encoding(
    "cpu",
    1,
    (
        Knob("template", ("plain", "fancy", "absent"), "the algorithm"),
        Knob("tile", (1, 2, 4, 8, 16), "a tile"),
        Knob("unroll", (1, 2, 4), "an unroll factor"),
        Knob("order", ("row", "column"), "a loop order"),
    ),
)


def tiny_space() -> ScheduleSpace:
    """20 valid configs: 12 of `plain` (tile x unroll at most 16), 8 of `fancy` (tile x order, no 16)."""
    plain = Constraint(("tile", "unroll"), lambda tile, unroll: tile * unroll <= 16, "at most 16 unrolled steps")
    fancy = Constraint(("tile",), lambda tile: tile < 16, "a tile below 16")
    templates = [
        SyntheticTemplate("plain", ("tile", "unroll"), [plain]),
        SyntheticTemplate("fancy", ("tile", "order"), [fancy]),
    ]
    return ScheduleSpace(Conv2d(), INFO, templates, ENCODING)


def medium_space() -> ScheduleSpace:
    """Some thousand configs over the real CPU encoding's shape of things: two templates of unlike value."""
    knobs = (
        Knob("template", ("direct_conv", "winograd_conv"), "the algorithm"),
        *(Knob(f"k{i}", tuple(range(1, 7)), f"synthetic knob {i}") for i in range(5)),
    )
    rule = Constraint(("k1", "k3"), lambda a, b: a * b <= 18, "a product of at most 18")
    templates = [
        SyntheticTemplate("direct_conv", ("k0", "k1", "k3", "k4"), [rule]),
        SyntheticTemplate("winograd_conv", ("k0", "k1", "k2", "k3"), [rule]),
    ]
    return ScheduleSpace(Conv2d(), INFO, templates, Encoding("cpu", 1, knobs))


def tiny_problem(trials: int | None = None, **settings: Any) -> TuningProblem:
    device = settings.pop("device", None) or SyntheticDevice()
    space = tiny_space()
    return TuningProblem(space.operator, device, space, budget=Budget(trials=trials), **settings)


def medium_problem(trials: int | None = 64, **settings: Any) -> TuningProblem:
    device = settings.pop("device", None) or SyntheticDevice()
    space = medium_space()
    return TuningProblem(space.operator, device, space, budget=Budget(trials=trials), **settings)
