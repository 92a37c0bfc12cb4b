"""Geometry of the page's line charts and histograms, in SVG user units; the templates draw them.

Colours are the page's, by class, so that one picture serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

COLOURS = 7
"""Colours of the style sheet; lines beyond them get other strokes."""

TICKS = 5


class Styles:
    """A style number for every name, in the order of their first use, so that an agent looks alike in all charts."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))


@dataclass(frozen=True)
class Axis:
    """A range of values over a range of the picture.

    Attributes:
        low: Least value.
        high: Greatest value.
        start: Where the least is drawn.
        end: Where the greatest is.
        base: Of the logarithm; none for a linear axis.
        unit: Written after the numbers.
    """

    low: float
    high: float
    start: float
    end: float
    base: int | None = None
    unit: str = ""

    @staticmethod
    def around_one(speedups: Iterable[float | None]) -> Axis:
        """A logarithmic axis with all speedups and 1 on it, in percent of a column's width."""
        known = [speedup for speedup in speedups if speedup]
        return Axis(min([0.9, *known]) * 0.95, max([1.1, *known]) * 1.05, 0, 100, 10)

    def __call__(self, value: float) -> float:
        """Where a value is drawn; values outside are drawn at the edge."""
        value = min(max(value, self.low), self.high)
        low, high, at = (math.log(each) if self.base else each for each in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of round values."""
        return [(self(value), f"{value:,.10g}{self.unit}") for value in self._round_values()]

    def _round_values(self) -> list[float]:
        if self.base is None:
            values: Iterable[float] = MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
            margin = 1e-9 * (self.high - self.low)
        else:
            values, margin = _round_logarithms(self.low, self.high, self.base), 0.0
        return [float(value) for value in values if self.low - margin <= value <= self.high + margin]


def _round_logarithms(low: float, high: float, base: int) -> list[float]:
    """Powers of the base in a range, those of ten with twice and five times them where there are few."""
    powers = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    steps = (1, 2, 5) if base == 10 and len(powers) < TICKS else (1,)
    values = [step * float(base) ** power for power in powers for step in steps]
    inside = [value for value in values if low <= value <= high]
    return inside[:: math.ceil(len(inside) / 8)]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: For the legend; lines of the same name share an entry.
        style: From `Styles`.
        points: Its corners.
        band: Points with lower and upper bound of an interval.
        steps: Whether a value holds until the next point.
    """

    name: str
    style: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    steps: bool = False

    @property
    def css(self) -> str:
        """Classes of its colour and stroke."""
        return f"c{self.style % COLOURS} d{self.style // COLOURS % 3}"


@dataclass(frozen=True)
class Chart:
    """A line chart.

    Attributes:
        title: What it shows, for those who hear it too.
        x_label: What is along it.
        y_label: What is up it.
        lines: At least one, with points.
        x_base: Base of a logarithmic horizontal axis.
        x_low: Where the horizontal axis begins; at the first point if none.
        y_range: Range of the vertical axis; from the lines if none.
        y_unit: Written after its numbers.
        reference: A value with its name, drawn across.
        width: Of the picture.
        height: Of the picture.
        margins: Top, right, bottom and left of the lines.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_base: int | None = None
    x_low: float | None = None
    y_range: tuple[float, float] | None = None
    y_unit: str = ""
    reference: tuple[float, str] | None = None
    width: float = 460
    height: float = 290
    margins: tuple[float, float, float, float] = (14, 14, 44, 52)

    @property
    def x(self) -> Axis:
        """The horizontal axis."""
        places = [x for line in self.lines for x, _ in line.points]
        low = min(places) if self.x_low is None else self.x_low
        return Axis(low, max(places), self.margins[3], self.width - self.margins[1], self.x_base)

    @property
    def y(self) -> Axis:
        """The vertical axis."""
        low, high = self.y_range or self._heights()
        return Axis(low, high, self.height - self.margins[2], self.margins[0], unit=self.y_unit)

    def _heights(self) -> tuple[float, float]:
        heights = [y for line in self.lines for _, y in line.points]
        heights += [bound for line in self.lines for point in line.band for bound in point[1:]]
        return 0.0, 1.05 * max(heights + ([] if self.reference is None else [self.reference[0]]))

    @property
    def legend(self) -> list[Line]:
        """A line of every name, in the order of their first."""
        return list({line.name: line for line in self.lines}.values())

    def path(self, line: Line) -> str:
        """A line as SVG path data."""
        x, y = self.x, self.y
        places = [(x(px), y(py)) for px, py in line.points]
        if not line.steps:
            return "M" + "L".join(f"{px:g} {py:g}" for px, py in places)
        return f"M{places[0][0]:g} {places[0][1]:g}" + "".join(f"H{px:g}V{py:g}" for px, py in places[1:])

    def area(self, line: Line) -> str:
        """A line's band as SVG path data."""
        x, y = self.x, self.y
        edge = [(x(place), y(high)) for place, _, high in line.band]
        edge += [(x(place), y(low)) for place, low, _ in reversed(line.band)]
        return "M" + "L".join(f"{px:g} {py:g}" for px, py in edge) + "Z"


@dataclass(frozen=True)
class Histogram:
    """Counts of values by bin, as bars of a small picture.

    Attributes:
        edges: Values between the bins, one more than there are bins; the axis is logarithmic.
        counts: By bin.
    """

    edges: Sequence[float]
    counts: Sequence[int]
    width: float = 640
    height: float = 64

    @property
    def x(self) -> Axis:
        """The horizontal axis."""
        return Axis(self.edges[0], self.edges[-1], 4, self.width - 4, 10, "x")

    @property
    def bars(self) -> list[tuple[float, float, float]]:
        """Left edge, width and height of the bars of bins that are not empty."""
        x, most = self.x, max(self.counts) or 1
        sides = [x(edge) for edge in self.edges]
        return [
            (left, round(right - left - 0.6, 2), round(max(1.0, self.height * count / most), 2))
            for left, right, count in zip(sides, sides[1:], self.counts)
            if count
        ]
