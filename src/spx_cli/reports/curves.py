"""Curves as inline SVG: one small chart for a metric, one line for a method, coloured by CSS classes c0, c1, ..."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from spx_cli.reports.tables import rounded

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34
COLOURS = 8


class Curve(NamedTuple):
    """A named line of a chart: points (achieved count, score), in order of count."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(metric: str, curves: Sequence[Curve]) -> str:
    """Return an SVG element with the curves of a metric over the achieved count; undefined points are left out."""
    drawn = [Curve(c.name, [p for p in c.points if all(map(math.isfinite, p))]) for c in curves]
    points = [point for curve in drawn for point in curve.points]
    if not points:
        return ""
    across = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(metric)} over the achieved count">']
    for value in up.ticks:
        y = up.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{value:.6g}</text>')
    for value in across.ticks:
        x = across.place(value)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:.6g}</text>'
        )
    floor = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    parts.append(
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">superpixels achieved</text>'
    )
    for index, curve in enumerate(drawn):
        colour = f"c{index % COLOURS}"
        places = [(across.place(x), up.place(y)) for x, y in curve.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="{colour}" points="{line}"/>')
        for (x, y), (count, score) in zip(places, curve.points, strict=True):
            label = f"{curve.name}: {metric} {rounded(metric, score)} at {rounded('k', count)}"
            parts.append(
                f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(label)}</title></circle>'
            )
    return "".join(parts) + "</svg>"


class _Axis:
    """A linear scale over the values, a little wider than they are, with round ticks."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end
        raw = (self.high - self.low) / 4
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
        first = math.ceil(self.low / step)
        self.ticks = [round(i * step, 12) for i in range(first, math.floor(self.high / step) + 1)]

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
