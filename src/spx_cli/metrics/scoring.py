"""Score one label map: what belongs to the map alone is computed once, and only what the named metrics need.

A formula's arguments are names of what `_Map` and `_Pair` hold.
"""

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import LabelError, ParameterError
from spx_cli.metrics import METRICS, Protocol, boundary, color
from spx_cli.metrics import protocol as by_name
from spx_cli.regions.maps import Groups, Overlap, boundaries, compact, group, overlap_compact
from spx_cli.registry import load, unknown
from spx_cli.types import Image, Labels


class _Map:
    """A label map and what formulas may take of it, by name, each computed when first asked for."""

    def __init__(
        self,
        labels: NDArray[Any],
        image: Any,
        flow: Any,
        valid: NDArray[np.bool_] | None,
        rule: Protocol,
        tolerance: int | None,
    ) -> None:
        self.groups: Groups = group(labels)
        self.image, self.flow, self.valid, self.rule = image, flow, valid, rule
        self.radius = boundary.window(rule, tolerance, self.groups.ids.shape)

    @cached_property
    def edges(self) -> NDArray[np.bool_]:
        return boundaries(self.groups.ids, self.rule.boundaries)

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        return boundary.dilate(self.edges, self.radius)

    @cached_property
    def both_edges(self) -> NDArray[np.bool_]:
        return self.edges if self.rule.boundaries == "two-sided" else boundaries(self.groups.ids, "two-sided")

    @cached_property
    def distance(self) -> NDArray[np.int32]:
        return boundary.chamfer(self.edges)

    @cached_property
    def colours(self) -> color.Moments:
        return color.moments(self.groups, self.image)

    @cached_property
    def places(self) -> color.Moments:
        return color.positions(self.groups)


class _Pair:
    """A label map against one annotation; what is of the map alone it passes on."""

    def __init__(self, of: _Map, segments: Labels) -> None:
        self.map, self.segments = of, segments

    @cached_property
    def table(self) -> Overlap:
        return overlap_compact(self.map.groups, self.segments)

    @cached_property
    def true_edges(self) -> NDArray[np.bool_]:
        return boundaries(self.segments, self.map.rule.boundaries)

    @cached_property
    def match(self) -> boundary.Match:
        return boundary.match_edges(self.map.edges, self.map.near, self.true_edges, self.segments, self.map.radius)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.map, name)


@cache
def _formula(name: str) -> tuple[Callable[..., float], tuple[str, ...]]:
    """Return the function of a metric and the names of what it takes."""
    function = load(f"spx_cli.metrics.{METRICS[name].formula}")
    return function, tuple(signature(function).parameters)


def _value(name: str, source: _Map | _Pair) -> float:
    function, needed = _formula(name)
    return function(*(getattr(source, ingredient) for ingredient in needed))


def score(
    labels: NDArray[Any],
    truths: Sequence[NDArray[Any]],
    image: Image | None = None,
    *,
    protocol: str | Protocol = "stutz",
    metrics: Sequence[str] | None = None,
    ignore_label: int | Sequence[int] | None = None,
    tolerance: int | None = None,
    flow: NDArray[Any] | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> list[dict[str, float]]:
    """Return the scores of a label map, one dict per annotation; without annotations one dict of what needs none.

    labels, truths : (H, W) integers of equal shape, not negative, gaps allowed.
    image, flow, valid : uint8 (H, W, 3), for EV, SSE and ICV; floats (H, W, 2) and bool (H, W), for EPE.
    metrics : names from METRICS; by default all that the arguments allow.
    ignore_label : the id or ids of true pixels that count nowhere.
    tolerance : half side of the boundary window in pixels, instead of the protocol's.

    Raises LabelError for maps that do not fit each other, negative ids, floats, or an annotation without a labelled
    pixel; UnknownName for a metric or protocol; ParameterError for a metric whose input is missing.

    >>> score(np.array([[0, 0, 1, 1]]), [np.array([[0, 0, 0, 1]])], metrics=["asa", "k"])
    [{'asa': 0.75, 'k': 2}]
    """
    given = {"labels": True, "truth": len(truths) > 0, "image": image is not None, "flow": flow is not None}
    names = [name for name, metric in METRICS.items() if given[metric.needs]] if metrics is None else list(metrics)
    for name in names:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
        if not given[METRICS[name].needs]:
            raise ParameterError(f"metric {name!r} needs {METRICS[name].needs}, and none was given")
    one = _Map(labels, image, flow, valid, by_name(protocol), tolerance)
    alone = {name: _value(name, one) for name in names if METRICS[name].needs != "truth"}
    rows = []
    for index, truth in enumerate(truths):
        if np.shape(truth) != one.groups.ids.shape:
            raise LabelError(
                f"sizes differ: the label map is {one.groups.ids.shape}, annotation {index} is {np.shape(truth)}"
            )
        pair = _Pair(one, compact(truth, ignore_label=ignore_label, what=f"annotation {index}"))
        rows.append({name: alone[name] if name in alone else _value(name, pair) for name in names})
    return rows or [alone]
