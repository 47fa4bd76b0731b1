"""Charts as SVG: lines with marks, drawn from numbers, coloured by the classes c0, c1, ... of chart.css."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from spx_cli.reports._jinja import fill

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34  # pixels around the plot
LEGEND = 190  # pixels for the legend beside it
COLOURS = 8
MOST_TICKS = 7  # of a logarithmic axis

Point = tuple[float, float]


class Mark(NamedTuple):
    """A dot, and what it says to a pointer that rests on it."""

    x: float
    y: float
    title: str


class Line(NamedTuple):
    """A line through points (x, y), coloured by its place in the chart; what is not finite is left out.

    name : by which a live page shows and hides it.
    """

    points: Sequence[Point]
    marks: Sequence[Mark] = ()
    name: str = ""


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
    log : whether x and y are logarithmic; what is not above zero is then left out.
    """

    about: str
    lines: Sequence[Line]
    x: str
    y: str = ""
    guides: Sequence[Guide] = ()
    legend: Sequence[str] = ()
    limits: tuple[Point, Point] | None = None
    size: tuple[int, int] = (380, 250)
    log: tuple[bool, bool] = (False, False)

    def __bool__(self) -> bool:
        """Whether there is anything to draw."""
        return any(self.drawable(line.points) for line in self.lines)

    def drawable(self, points: Sequence[Point]) -> list[Point]:
        """Return the points that have a place on the axes."""
        return [
            point
            for point in points
            if all(math.isfinite(v) and (v > 0 or not log) for v, log in zip(point, self.log, strict=True))
        ]


def draw(chart: Chart, *, alone: bool = False) -> str:
    """Return the <svg> element; with its own colours where it stands `alone` in a file, else with those of the page."""
    lines = [
        line._replace(points=chart.drawable(line.points), marks=[m for m in line.marks if chart.drawable([m[:2]])])
        for line in chart.lines
    ]
    width, height = chart.size
    right, floor = width - RIGHT, height - BOTTOM
    every = [point for line in lines for point in line.points]
    limits = chart.limits or (None, None)
    kinds = [_LogAxis if log else _Axis for log in chart.log]
    across = kinds[0]([x for x, _ in every], limits[0], LEFT, right)
    up = kinds[1]([y for _, y in every], limits[1], floor, TOP)
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


class _LogAxis:
    """A logarithmic scale, as `_Axis` is a linear one; ticks at 1, 2 and 5 of each decade, or fewer."""

    def __init__(self, values: Sequence[float], limits: Point | None, start: float, end: float) -> None:
        low, high = limits or (min(values), max(values))
        margin = 1.0 if limits else max((high / low) ** 0.06, 1.05)
        self.low, self.high, self.start, self.end = math.log(low / margin), math.log(high * margin), start, end
        decades = range(math.floor(math.log10(low / margin)), math.ceil(math.log10(high * margin)) + 1)
        for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            ticks = [factor * 10.0**decade for decade in decades for factor in factors]
            self.ticks = [tick for tick in ticks if self.low <= math.log(tick) <= self.high]
            if len(self.ticks) <= MOST_TICKS:
                break

    def __call__(self, value: float, shift: float = 0.0) -> str:
        place = self.start + (math.log(value) - self.low) / (self.high - self.low) * (self.end - self.start)
        return f"{place + shift:.1f}"
