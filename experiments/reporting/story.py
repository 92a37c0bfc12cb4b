"""The report in plain words: what was found, what was not, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.finals import geomean
from experiments.naming import Naming
from experiments.reporting.comparison import Comparison, listed
from experiments.reporting.landscape import Landscape
from experiments.reporting.runs import Tuned
from experiments.reporting.speedups import Speedups


@dataclass(frozen=True)
class Tile:
    """One large figure.

    Attributes:
        value: The figure with its unit.
        label: What it is.
    """

    value: str
    label: str


def tiles_of(
    naming: Naming,
    tuned: Sequence[Tuned],
    comparisons: Sequence[Comparison],
    maps: Sequence[Landscape],
) -> Iterator[Tile]:
    """The figures that stand at the top."""
    compared = _compared(tuned)
    if compared:
        speedups = [each.figure("speedup") for each in compared]
        largest = "largest " if len(compared) > 1 else ""
        best = max(compared, key=lambda each: each.figure("speedup"))
        over = f"over the {naming.baseline.removesuffix(' (predicted)')}"
        if len(compared) > 1:
            mean = f"geometric mean of the {naming.text('speedup')}s {over}, {len(compared)} runs"
            yield Tile(f"{geomean(speedups):.2f}x", mean)
        yield Tile(f"{best.figure('speedup'):.2f}x", f"{largest}{naming.text('speedup')} {over}: {best.summary['op']}")
    for each in comparisons[:1]:
        figure = each.standings[0].figures[each.last]
        if figure["iqm"] is not None:
            what = f"of the best known {naming.text('speedup')} after {each.last} trials: {each.standings[0].agent}"
            yield Tile(f"{100 * figure['iqm']:.1f}%", what)
    if maps:
        configs = sum(each.configs for each in maps)
        kind = "predicted" if naming.predicted else "recorded"
        yield Tile(f"{configs:,}", f"{kind} configs on {_count(len(maps), 'operator')}")


def sentences_of(
    naming: Naming,
    tuned: Sequence[Tuned],
    speedups: Sequence[Speedups],
    comparisons: Sequence[Comparison],
    maps: Sequence[Landscape],
) -> Iterator[str]:
    """What was found, a sentence or a few for each sort of result."""
    if tuned:
        yield " ".join(_about_runs(naming, tuned))
    for table in speedups:
        yield " ".join(_about_networks(table))
    for each in comparisons:
        yield " ".join(each.words)
    if maps:
        yield " ".join(_about_maps(naming, maps))


def _compared(tuned: Sequence[Tuned]) -> list[Tuned]:
    return [each for each in tuned if each.figure("speedup")]


def _about_runs(naming: Naming, tuned: Sequence[Tuned]) -> Iterator[str]:
    devices = listed(list(dict.fromkeys(str(each.summary.get("device_name", "?")) for each in tuned)))
    count = _count(len({each.summary["op"] for each in tuned}), "operator")
    verb = "was" if count.startswith("1 ") else "were"
    yield f"{count} {verb} tuned {'for' if naming.predicted else 'on'} {devices}, in {_count(len(tuned), 'run')}."
    compared = sorted(_compared(tuned), key=lambda each: each.figure("speedup"))
    if len(compared) > 1:
        low, high = compared[0], compared[-1]
        yield (
            f"The {naming.text('speedup')} over the {naming.baseline} goes from {low.figure('speedup'):.2f}x "
            f"({low.summary['op']}) to {high.figure('speedup'):.2f}x ({high.summary['op']})."
        )
    elif compared:
        yield f"The {naming.text('speedup')} over the {naming.baseline} is {compared[0].figure('speedup'):.2f}x."
    yield from _about_losses(naming, compared)
    failed = [each.summary["op"] for each in tuned if not each.config]
    if failed:
        yield f"There is no working schedule for {_named(failed)}."


def _about_losses(naming: Naming, compared: Sequence[Tuned]) -> Iterator[str]:
    """Where a search lost, or may have."""
    if naming.predicted:
        slower = [each.summary["op"] for each in compared if each.figure("speedup") < 1]
        if slower:
            yield f"Predicted to be slower than the default schedule: {_named(slower)}."
        return
    bounds: list[tuple[str, Any, Any]] = [
        (each.summary["op"], each.figure("speedup_low"), each.figure("speedup_high")) for each in compared
    ]
    slower = [op for op, _, high in bounds if high is not None and high < 1]
    unsure = [op for op, low, high in bounds if None not in (low, high) and low <= 1 <= high]
    if slower:
        yield f"Slower than the {naming.baseline}: {_named(slower)}."
    if unsure:
        yield f"Not told apart from it (the 95% interval holds 1x): {_named(unsure)}."
    if bounds and not slower and not unsure and all(low is not None for _, low, _ in bounds):
        yield "Every 95% interval lies above 1x."


def _about_networks(table: Speedups) -> Iterator[str]:
    yield f"{table.measured} of {len(table.result.summary['operators'])} operators of networks were measured."
    parts = [
        f"{group['over_vendor_geomean']:.2f}x on {group['group']} (geometric mean of {group['over_vendor_measured']}, "
        f"{group['over_vendor_max']:.2f}x at most)"
        for group in table.groups
        if group["over_vendor_measured"]
    ]
    if parts:
        yield f"Speedups over the vendor's best: {'; '.join(parts)}."


def _about_maps(naming: Naming, maps: Sequence[Landscape]) -> Iterator[str]:
    shares = sorted(each.near / (each.configs + each.failed) for each in maps)
    kind = "predicted" if naming.predicted else "recorded"
    share = _share(shares[0]) if len(shares) == 1 else f"{_share(shares[0])} to {_share(shares[-1])}"
    yield f"Of the {kind} configs of {_count(len(maps), 'operator')}, {share} are within 5% of the best."
    firsts: dict[str, list[str]] = {}
    for each in maps:
        if each.importances is not None:
            firsts.setdefault(each.importances.knobs[0].name, []).append(each.name)
    parts = [f"{knob} on {_named(names)}" for knob, names in sorted(firsts.items(), key=lambda pair: -len(pair[1]))]
    if parts:
        yield f"The knob that matters most is {'; '.join(parts)}."


def _share(share: float) -> str:
    return f"{100 * share:.2g}%"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _named(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return listed(distinct) if len(distinct) <= 6 else f"{', '.join(distinct[:5])} and {len(distinct) - 5} more"
