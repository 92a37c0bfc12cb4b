"""The figures of the speedup tables: a row per operator, a summary per group of them, the paper's beside."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.finals import geomean
from experiments.known import Known, Ratio, search_of
from wpk_envs.operators.fused import FusedOperator
from wpk_envs.operators.suites import Member

PEERS = ("over_vendor", "over_plain_torch", "over_tvm")
"""What ours is compared with, as `Known` calls it."""


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper's abstract (arXiv 2008.04567): what it reached at most, on a Tesla P100.

    Attributes:
        what: What is compared.
        paper: The paper's speedup.
        over: What the paper's is over.
        peer: Which of `PEERS` is the nearest that is measured here; none if nothing is.
        here: What that one is, in words.
    """

    what: str
    paper: float
    over: str
    peer: str | None
    here: str


PAPER = (
    PaperFigure("a single convolution", 5.40, "cuDNN", "over_vendor", "the vendor's best"),
    PaperFigure("a single convolution", 1.63, "TVM", "over_tvm", "TVM's MetaSchedule"),
    PaperFigure("a network, end to end", 1.18, "TensorRT", None, ""),
)


@dataclass(frozen=True)
class Row:
    """One operator of a suite."""

    suite: str
    member: Member
    known: Known

    @property
    def name(self) -> str:
        """The operator's name, such as ``resnet18/3``."""
        return f"{self.suite}/{self.member.number}"

    @property
    def operator(self) -> FusedOperator:
        """What is computed."""
        return self.member.operator

    def ratio(self, peer: str) -> Ratio | None:
        """The speedup over one of `PEERS`; none if it was not measured."""
        return getattr(self.known, peer)

    def figures(self) -> dict[str, Any]:
        """Every number of the row as plain data, null where nothing was measured."""
        ours, tvm = self.known.ours, self.known.tvm
        named: dict[str, Any] = {
            "suite": self.suite,
            "operator": self.name,
            "kind": self.operator.kind,
            "shape": self.operator.label,
            "occurs": self.member.count,
            "ours_us": None if ours is None else ours.measurement.latency_us,
            "vendor_us": statistics.median(ours.measurement.baseline_us)
            if ours is not None and ours.measurement.baseline_us
            else None,
            "plain_torch_us": None if ours is None else ours.measurement.details.get("plain_torch", {}).get("us"),
            "tvm_us": None if tvm is None else tvm.measurement.latency_us,
        }
        for peer in PEERS:
            ratio = self.ratio(peer)
            named[peer] = ratio and ratio.value
            if peer != "over_plain_torch":
                named |= {f"{peer}_low": ratio and ratio.low, f"{peer}_high": ratio and ratio.high}
        named |= {
            "vendor_path": ours and ours.measurement.baseline_name,
            "template": ours and ours.config["template"],
            "measured": ours and ours.created[:10],
        }
        for owner, record in (("ours", ours), ("tvm", tvm)):
            search = {} if record is None else search_of(record)
            named |= {f"{owner}_{key}": search.get(key) for key in ("algo", "trials", "search_seconds")}
        return named


@dataclass(frozen=True)
class Group:
    """Operators that are summed up together."""

    name: str
    rows: Sequence[Row] = field(repr=False)

    def figures(self) -> dict[str, Any]:
        """How many operators there are, and of every peer how many were measured, their geometric mean and maximum."""
        named: dict[str, Any] = {"group": self.name, "operators": len(self.rows)}
        for peer in PEERS:
            values = [ratio.value for row in self.rows if (ratio := row.ratio(peer)) is not None]
            named |= {
                f"{peer}_measured": len(values),
                f"{peer}_geomean": geomean(values),
                f"{peer}_max": max(values, default=None),
            }
        return named


def groups(rows: Sequence[Row]) -> list[Group]:
    """The suites, then all distinct convolutions and matrix products of them."""
    names = dict.fromkeys(row.suite for row in rows)
    found = [Group(name, [row for row in rows if row.suite == name]) for name in names]
    for kind, words in (("conv2d", "all convolutions"), ("gemm", "all matrix products")):
        chosen = _distinct(row for row in rows if row.operator.kind == kind)
        found += [Group(words, chosen)] if chosen else []
    return found


def beside_the_paper(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The paper's figures, and the most that was reached here over the nearest peer."""
    found = []
    for figure in PAPER:
        best = _best(rows, figure.peer) if figure.peer else None
        found.append({**vars(figure), "measured": best and best[0], "operator": best and best[1].name})
    return found


def _best(rows: Sequence[Row], peer: str) -> tuple[float, Row] | None:
    convolutions = [(ratio.value, row) for row in rows if row.operator.kind == "conv2d" and (ratio := row.ratio(peer))]
    return max(convolutions, key=lambda each: each[0], default=None)


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """The first row of every operator."""
    first: dict[FusedOperator, Row] = {}
    for row in rows:
        first.setdefault(row.operator, row)
    return list(first.values())
