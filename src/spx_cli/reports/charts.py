"""Charts as SVG: lines with marks, drawn from numbers, coloured by the classes c0, c1, ... of chart.css."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from spx_cli.reports._jinja import fill

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34  # pixels around the plot
LEGEND = 190  # pixels for the legend beside it
COLOURS = 8

Point = tuple[float, float]


class Mark(NamedTuple):
    """A dot, and what it says to a pointer that rests on it."""

    x: float
    y: float
    title: str


class Line(NamedTuple):
    """A line through points (x, y), coloured by its place in the chart; what is not finite is left out."""

    points: Sequence[Point]
    marks: Sequence[Mark] = ()


class Guide(NamedTuple):
    """A faint line to compare with: even, or known and dashed."""

    kind: str
    points: Sequence[Point]
    title: str = ""


class Chart(NamedTuple):
    """Lines over one pair of axes.

    about : for those who cannot see it. x, y : what the axes show.
    legend : texts beside the plot, the first ones with the colours of the lines.
    limits : ((x, x), (y, y)) where the axes end; None leaves it to the data. size : (width, height) in pixels.
    """

    about: str
    lines: Sequence[Line]
    x: str
    y: str = ""
    guides: Sequence[Guide] = ()
    legend: Sequence[str] = ()
    limits: tuple[Point, Point] | None = None
    size: tuple[int, int] = (380, 250)

    def __bool__(self) -> bool:
        """Whether there is anything to draw."""
        return any(_finite(line.points) for line in self.lines)


def draw(chart: Chart, *, alone: bool = False) -> str:
    """Return the <svg> element; with its own colours where it stands `alone` in a file, else with those of the page."""
    lines = [Line(_finite(line.points), [m for m in line.marks if _finite([m[:2]])]) for line in chart.lines]
    width, height = chart.size
    right, floor = width - RIGHT, height - BOTTOM
    every = [point for line in lines for point in line.points]
    limits = chart.limits or (None, None)
    across = _Axis([x for x, _ in every], limits[0], LEFT, right)
    up = _Axis([y for _, y in every], limits[1], floor, TOP)
    return fill(
        "chart.svg",
        chart=chart,
        lines=lines,
        alone=alone,
        across=across,
        up=up,
        path=lambda points: " ".join(f"{across(x)},{up(y)}" for x, y in points),
        width=width + LEGEND * bool(chart.legend),
        height=height,
        left=LEFT,
        right=right,
        top=TOP,
        floor=floor,
        colours=COLOURS,
    )


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if all(map(math.isfinite, point))]


class _Axis:
    """A linear scale between the limits, else a little wider than the values, with round ticks; it maps to pixels."""

    def __init__(self, values: Sequence[float], limits: Point | None, start: float, end: float) -> None:
        low, high = limits or (min(values), max(values))
        margin = 0.0 if limits else 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end
        raw = (self.high - self.low) / 4
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        self.ticks = [round(i * step, 12) for i in range(first, last + 1)]

    def __call__(self, value: float, shift: float = 0.0) -> str:
        place = self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
        return f"{place + shift:.1f}"
