"""How well predictions agree with measurements of the same kernels, and with two plain orders instead of a model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from wpk_envs.core import Measurement
from wpk_envs.records import Record
from wpk_envs.schedules import templates_for

TOPS = (1, 5, 10)
ORDERS = ("model", "flops", "occupancy")
"""What puts kernels in an order: the model's latency, or plainly the arithmetic that they execute, or how few
warps are resident."""

FEWEST = 3
"""Kernels of an operator below which an order says nothing."""


@dataclass(frozen=True)
class Pair:
    """One kernel, measured and predicted.

    Attributes:
        operator: What it computes.
        regime: The prediction's confidence level.
        measured_us: Median of the samples.
        costs: By `ORDERS`, what the kernel is put in order by; the model's is microseconds.
    """

    operator: str
    regime: str
    measured_us: float
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Agreement:
    """How well one order agrees with the measurements.

    Attributes:
        spearman: Mean over the operators of Spearman's rank correlation.
        regret: By number of kernels: the best measured of the so many that are ordered first, over the best
            measured of all; geometric mean over the operators.
    """

    spearman: float | None
    regret: Mapping[str, float]


@dataclass(frozen=True)
class Validation:
    """What a set of pairs says.

    Attributes:
        kernels: How many.
        operators: Of how many operators, each with at least `FEWEST`.
        bias: Geometric mean of predicted over measured.
        scatter: Geometric standard deviation of predicted over measured: 1.2 is within a fifth, mostly.
        agreement: By order.
    """

    kernels: int
    operators: int
    bias: float | None
    scatter: float | None
    agreement: Mapping[str, Agreement]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def pair_of(record: Record, prediction: Measurement) -> Pair | None:
    """A measured record and the prediction of the same kernel; none unless there are both."""
    measured, predicted = record.measurement.latency_us, prediction.predicted_latency_us
    if measured is None or predicted is None:
        return None
    template = {each.name: each for each in templates_for(record.device.kind)}[record.template]
    costs = {
        "model": predicted,
        "flops": template.executed_flops(record.operator, record.config),
        "occupancy": -float(prediction.details["occupancy"]),
    }
    return Pair(record.operator.label, prediction.confidence, measured, costs)


def by_regime(pairs: Sequence[Pair]) -> dict[str, Validation]:
    """All pairs under ``"all"``, and those of every confidence level."""
    regimes = sorted({pair.regime for pair in pairs})
    return {"all": validate(pairs)} | {each: validate([p for p in pairs if p.regime == each]) for each in regimes}


def validate(pairs: Sequence[Pair]) -> Validation:
    """Compare predictions and plain orders with measurements."""
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.operator].append(pair)
    ranked = [group for group in groups.values() if len(group) >= FEWEST]
    ratios = np.log([pair.costs["model"] / pair.measured_us for pair in pairs])
    return Validation(
        kernels=len(pairs),
        operators=len(ranked),
        bias=math.exp(ratios.mean()) if pairs else None,
        scatter=math.exp(ratios.std()) if pairs else None,
        agreement={order: _agreement(ranked, order) for order in ORDERS},
    )


def _agreement(groups: Sequence[Sequence[Pair]], order: str) -> Agreement:
    correlations = [_spearman(group, order) for group in groups]
    known = [each for each in correlations if each is not None]
    regrets = {str(top): _geometric_mean(_regret(group, order, top) for group in groups) for top in TOPS}
    return Agreement(
        spearman=sum(known) / len(known) if known else None,
        regret={top: regret for top, regret in regrets.items() if regret is not None},
    )


def _spearman(group: Sequence[Pair], order: str) -> float | None:
    """Rank correlation within one operator; none if all kernels cost the same."""
    from scipy.stats import spearmanr

    costs = [pair.costs[order] for pair in group]
    measured = [pair.measured_us for pair in group]
    if len(set(costs)) == 1 or len(set(measured)) == 1:
        return None
    return float(spearmanr(costs, measured).statistic)


def _regret(group: Sequence[Pair], order: str, top: int) -> float:
    """Kernels that cost the same count in the least favourable order."""
    first = sorted(group, key=lambda pair: (pair.costs[order], -pair.measured_us))[:top]
    return min(pair.measured_us for pair in first) / min(pair.measured_us for pair in group)


def _geometric_mean(values: Iterable[float]) -> float | None:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None
