"""The contracts of the suite, all on one page.

The way of the data, in one direction::

    Operator -> ScheduleSpace -> an agent sets every Knob -> Candidate -> Device.measure -> Measurement

*What* is computed is an `Operator`. *How* it may be computed is decided by `Template`s: each is one
algorithm with `Knob`s to set and `Constraint`s between them. `wpk_envs.schedules.space.ScheduleSpace`
joins the templates that fit an operator into one searchable space. *Where* it runs is a `Device`, which
compiles, checks and times candidates and answers every one of them with exactly one `Measurement`.

Nothing here imports TVM or torch, so that ``import wpk_envs`` stays fast.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

KnobValue = int | str
"""One option of a knob: an integer (a size, a factor) or a word (an order, a switch)."""

Config = Mapping[str, KnobValue]
"""One value for every knob that the chosen template has, the template itself under ``"template"``."""

ErrorKind = Literal["invalid", "compile", "timeout", "crash", "wrong_result"]
ERROR_KINDS: tuple[ErrorKind, ...] = ("invalid", "compile", "timeout", "crash", "wrong_result")

SPEEDUP_FLOOR = 0.05
"""The speedup that any failure is rewarded as, and the floor of every reward."""


def stable_hash(value: Any) -> str:
    """Hash plain data (dicts, lists, numbers, strings) to 16 hex digits, equal in every process."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Operator(ABC):
    """One convolution or matrix product with fixed shape: immutable, hashable, self-describing.

    A subclass is a frozen dataclass whose fields are plain numbers, strings and tuples. Construction
    raises `wpk_envs.errors.UserError` for shapes that cannot exist.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def flops(self) -> int:
        """Nominal floating-point operations of one call (a multiply-add counts as two)."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Compulsory traffic of one call in bytes: every input read once, the output written once."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name for tables and plots, such as ``conv2d 64x56x56 -> 64, 3x3``."""

    @property
    def family(self) -> str:
        """Its kind, unless a subclass tells more: operators of a family are computed alike and differ in sizes."""
        return self.kind

    @abstractmethod
    def features(self) -> dict[str, float]:
        """Fixed, ordered, finite features scaled to about [0, 1], the same names for every kind."""

    @abstractmethod
    def random_inputs(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw float32 inputs by name, in the operator's canonical layout (see the subclass)."""

    @abstractmethod
    def reference(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Compute the float64 result of `random_inputs`, in the canonical output layout."""

    def to_dict(self) -> dict[str, Any]:
        """The operator as plain data; `wpk_envs.operators.from_dict` is the inverse."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return {"kind": self.kind, **plain}

    @property
    def key(self) -> str:
        """Hash that identifies the operator in stores and tables."""
        return stable_hash(self.to_dict())


@dataclass(frozen=True)
class Knob:
    """One named schedule choice and its fixed, ordered options.

    Options never depend on an operator's extents; the operator only decides which of them are valid.
    """

    name: str
    options: tuple[KnobValue, ...]
    doc: str


@dataclass(frozen=True)
class Constraint:
    """A rule between a few knobs of one template, checked before anything is compiled.

    Attributes:
        knobs: Names of the knobs that the rule reads.
        allows: Called with one value per knob, in that order; true if the values may stand together.
        reason: The rule as a sentence fragment, such as ``"at most 28 accumulator registers"``.
    """

    knobs: tuple[str, ...]
    allows: Callable[..., bool]
    reason: str


@dataclass(frozen=True)
class DeviceInfo:
    """What a schedule, a feature vector and a store need to know of a device.

    Attributes:
        kind: ``"cpu"`` or ``"cuda"``: which templates and which encoding apply.
        name: The model, as the vendor prints it.
        target: TVM target as plain data.
        limits: Sizes that constraints read. On a CPU: ``vector_lanes`` (float32), ``vector_registers``,
            ``l1_bytes``, ``l2_bytes``, ``l3_bytes`` (data caches seen by one core). On a GPU: ``multiprocessors``,
            ``threads_per_block``, ``threads_per_sm``, ``blocks_per_sm``, ``registers_per_thread``,
            ``registers_per_sm``, ``shared_bytes_per_block`` (static), ``shared_bytes_per_sm``, ``l2_bytes``,
            ``fp32_lanes_per_sm``, ``clock_mhz``, ``memory_gbps`` (GB/s).
        threads: Threads that one kernel uses.
        versions: TVM, vendor library and driver versions; part of the fingerprint.
    """

    kind: str
    name: str
    target: Mapping[str, Any]
    limits: Mapping[str, int]
    threads: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash that keeps records of another device, version or thread count from being reused."""
        return stable_hash(dataclasses.asdict(self))

    def features(self) -> dict[str, float]:
        """Device features for observations, scaled to about [0, 1]; the same names for every device of a kind."""
        limits = self.limits
        if self.kind == "cuda":
            return {
                "multiprocessors": limits["multiprocessors"] / 160,
                "fp32_lanes_per_sm": limits["fp32_lanes_per_sm"] / 128,
                "shared_per_sm": limits["shared_bytes_per_sm"] / 2**18,
                "registers_per_sm": limits["registers_per_sm"] / 2**16,
                "l2": math.log2(1 + limits["l2_bytes"]) / 32,
                "clock": limits["clock_mhz"] / 2500,
                "memory": limits["memory_gbps"] / 8000,
            }
        return {
            "vector_lanes": limits.get("vector_lanes", 0) / 16,
            "vector_registers": limits.get("vector_registers", 0) / 32,
            "l1": math.log2(1 + limits.get("l1_bytes", 0)) / 32,
            "l2": math.log2(1 + limits.get("l2_bytes", 0)) / 32,
            "l3": math.log2(1 + limits.get("l3_bytes", 0)) / 32,
            "threads": math.log2(self.threads) / 8,
        }


@dataclass(frozen=True)
class Argument:
    """One argument of a compiled kernel.

    Attributes:
        name: Name in `Operator.random_inputs`, or ``"output"``.
        shape: Shape of the float32 buffer that the kernel takes.
        layout: The layout in words, such as ``"NCHW16c"``; recorded with every measurement.
        pack: Canonical array to the kernel's buffer (inputs), or kernel buffer to canonical array (output).
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    pack: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Kernel:
    """A scheduled TensorIR module, ready to lower, and how to call it.

    Attributes:
        module: A ``tvm.IRModule`` with one function ``main``.
        arguments: In call order, the output last.
    """

    module: Any
    arguments: tuple[Argument, ...]


class Template(ABC):
    """One algorithm's parametrised schedule for one kind of device.

    Adding one is: write the file, add it to its device kind's list, and inherit
    ``tests.conformance.TemplateConformance``.

    Attributes:
        name: Such as ``"cpu/direct_conv"``; the part after the slash is its option of the first knob.
        version: Raised whenever the same config would give another kernel; part of every record's key.
        knobs: Names of the encoding's knobs that this template reads, in the encoding's order.
        tolerance: Largest accepted error relative to the reference's largest magnitude, for float32.
        default: Knob values of its documented default schedule, whatever the operator;
            `wpk_envs.schedules.defaults` finds the valid config nearest to them. Empty if there is none.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    knobs: ClassVar[tuple[str, ...]]
    tolerance: ClassVar[float] = 2e-5
    default: ClassVar[Mapping[str, KnobValue]] = {}

    @abstractmethod
    def fits(self, operator: Operator, device: DeviceInfo) -> bool:
        """Whether the algorithm can compute the operator at all."""

    @abstractmethod
    def constraints(self, operator: Operator, device: DeviceInfo) -> list[Constraint]:
        """The static rules; a config that passes all of them must compile and be correct."""

    @abstractmethod
    def kernel(self, operator: Operator, config: Config, device: DeviceInfo) -> Kernel:
        """Build the scheduled module for a valid config (imports TVM)."""

    @abstractmethod
    def executed_flops(self, operator: Operator, config: Config) -> float:
        """Arithmetic that the algorithm itself executes: padding and transforms in, Winograd's savings out."""

    @abstractmethod
    def static_features(self, operator: Operator, partial: Config, device: DeviceInfo) -> tuple[float, float, float]:
        """Features of a partial config: register tile, cache footprint, arithmetic intensity, each in [0, 1]."""


@dataclass(frozen=True)
class Candidate:
    """A schedule to be measured: an operator, the template that schedules it and a config."""

    operator: Operator
    template: Template
    config: Config

    @property
    def key(self) -> str:
        """Hash over operator, template version and config; with a device fingerprint it keys the store."""
        version = [self.template.name, self.template.version]
        return stable_hash([self.operator.to_dict(), version, dict(self.config)])


@dataclass(frozen=True)
class Measurement:
    """The answer to one candidate: exactly one of latency samples, a prediction, or a typed error.

    Attributes:
        samples_us: Latencies of one call in microseconds, one per repeat.
        baseline_us: The baseline's latencies, each taken right beside the sample of the same position.
        baseline_name: Which of the vendor's paths the baseline is.
        predicted_latency_us: A latency from a model, on predicted devices only.
        predicted_baseline_us: The baseline's latency from the same model; only beside a prediction.
        confidence: The prediction's confidence level: ``"high"``, or ``"low: "`` and the regime.
        error: What went wrong, one of `ERROR_KINDS`.
        message: The error in a sentence.
        max_error: Largest deviation from the float64 reference, relative to its largest magnitude.
        layouts: Layout of every argument by name.
        build_seconds: Scheduling, lowering and code generation.
        measure_seconds: Checking and timing.
        details: What else is known, as plain data: a GPU kernel's registers and spills, clocks, other protocols.
    """

    samples_us: tuple[float, ...] = ()
    baseline_us: tuple[float, ...] = ()
    baseline_name: str = ""
    predicted_latency_us: float | None = None
    predicted_baseline_us: float | None = None
    confidence: str = ""
    error: ErrorKind | None = None
    message: str = ""
    max_error: float | None = None
    layouts: Mapping[str, str] = field(default_factory=dict)
    build_seconds: float = 0.0
    measure_seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        outcomes = [bool(self.samples_us), self.predicted_latency_us is not None, self.error is not None]
        if sum(outcomes) != 1:
            raise ValueError("a measurement is exactly one of samples, a prediction or an error")
        if self.baseline_us and len(self.baseline_us) != len(self.samples_us):
            raise ValueError("baseline samples must pair with the candidate's samples")
        if self.predicted_baseline_us is not None and self.predicted_latency_us is None:
            raise ValueError("a predicted baseline stands beside a prediction only")

    @property
    def latency_us(self) -> float | None:
        """Median measured latency in microseconds, none for predictions and errors."""
        return statistics.median(self.samples_us) if self.samples_us else None

    @property
    def speedup(self) -> float | None:
        """Median over the pairs of baseline latency / candidate latency; none without a baseline."""
        if not self.baseline_us:
            return None
        return statistics.median(b / s for b, s in zip(self.baseline_us, self.samples_us))

    @property
    def predicted_speedup(self) -> float | None:
        """Predicted baseline latency / predicted latency; none for measurements and without a predicted baseline."""
        if self.predicted_latency_us is None or self.predicted_baseline_us is None:
            return None
        return self.predicted_baseline_us / self.predicted_latency_us

    @property
    def gain(self) -> float | None:
        """What agents maximise on any device: the speedup, measured or else predicted; none without a baseline."""
        return self.predicted_speedup if self.speedup is None else self.speedup

    @property
    def cost_us(self) -> float | None:
        """What agents minimise where there is no baseline: the latency, measured or else predicted; none for errors."""
        return self.predicted_latency_us if self.latency_us is None else self.latency_us

    @property
    def reward(self) -> float:
        """``log(gain)``, never below ``log(SPEEDUP_FLOOR)``, which is also what a failure gets."""
        gain = self.gain
        return math.log(max(gain, SPEEDUP_FLOOR)) if gain is not None else math.log(SPEEDUP_FLOOR)


class Device(ABC):
    """Where candidates are compiled, checked and timed; or compiled, and their time predicted."""

    info: DeviceInfo
    workers: int = 1
    """How many candidates are measured at the same time."""
    predicts: bool = False
    """Whether its measurements are a model's predictions, and nothing on it can be measured."""
    replays: bool = False
    """Whether its measurements were made earlier and are played back; they cost what they cost then."""

    @abstractmethod
    def measure(
        self,
        candidates: Sequence[Candidate],
        on_result: Callable[[int, Measurement], None] | None = None,
        repeats: int | None = None,
    ) -> list[Measurement]:
        """Answer every candidate, in order, whatever any of them does.

        Args:
            candidates: What to measure; builds run in parallel where the device can.
            on_result: Called with (position, measurement) as soon as each is known, so that an
                interrupted batch loses nothing that was finished.
            repeats: Samples per candidate; the device's own default if none.
        """

    @abstractmethod
    def peak_gflops(self) -> float:
        """Float32 peak of one kernel's threads, in GFLOP/s: measured, or on a GPU the nominal one."""

    def configs(self, operator: Operator) -> Sequence[Config] | None:
        """The only configs of an operator that it can answer; none if it can answer every valid one."""
        return None

    def fresh(self) -> Device:
        """A device of the same settings whose measurements run in new processes (for final results)."""
        return self

    def close(self) -> None:  # noqa: B027  (optional: most devices hold nothing)
        """Release processes and memory; safe to call twice."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Device:
        """A device is its processes: a copied environment spec refers to the same one."""
        return self

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
