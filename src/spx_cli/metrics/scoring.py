"""Score one label map: what belongs to the map alone is computed once, and only what the named metrics need."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import LabelError, ParameterError
from spx_cli.metrics import METRICS, Protocol, boundary, color, region, shape
from spx_cli.metrics import flow as flows
from spx_cli.metrics import protocol as by_name
from spx_cli.regions.maps import Groups, Overlap, boundaries, compact, group, overlap_compact
from spx_cli.regions.runs import find_runs
from spx_cli.registry import unknown
from spx_cli.types import Image, Labels


class _Map:
    """A label map and what several metrics or annotations ask of it, each computed when first asked for."""

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

    @property
    def density(self) -> float:
        if self.rule.boundaries == "two-sided":
            return float(np.count_nonzero(self.edges) / self.edges.size)
        return shape.contour_density(self.groups.ids)

    @cached_property
    def distance(self) -> NDArray[np.int32]:
        return boundary.chamfer(self.edges)

    @cached_property
    def colours(self) -> color.Moments:
        return color.moments(self.groups, self.image)


class _Pair:
    """A label map against one annotation."""

    def __init__(self, of: _Map, segments: Labels) -> None:
        self.map, self.segments = of, segments

    @cached_property
    def table(self) -> Overlap:
        return overlap_compact(self.map.groups, self.segments)

    @cached_property
    def edges(self) -> NDArray[np.bool_]:
        return boundaries(self.segments, self.map.rule.boundaries)

    @cached_property
    def match(self) -> boundary.Match:
        return boundary.match(self.map.edges, self.map.near, self.edges, self.segments, self.map.radius)

    @property
    def recall(self) -> float:
        return self.match.recall(self.map.rule.empty)

    @property
    def precision(self) -> float:
        return self.match.precision(self.map.rule)


_OF_MAP: dict[str, Callable[[_Map], float]] = {
    "co": lambda m: shape.compactness(m.groups),
    "cd": lambda m: m.density,
    "ev": lambda m: color.explained(m.colours),
    "sse_rgb": lambda m: color.mean_scatter(m.colours),
    "sse_xy": lambda m: color.mean_scatter(color.positions(m.groups)),
    "icv": lambda m: color.mean_deviation(m.colours),
    "k": lambda m: len(m.groups.sizes),
    "components": lambda m: find_runs(m.groups.ids).regions,
    "size_std": lambda m: shape.size_deviation(m.groups),
    "epe": lambda m: flows.end_point_error(m.groups, m.flow, m.valid),
}

_OF_PAIR: dict[str, Callable[[_Pair], float]] = {
    "asa": lambda p: region.achievable_segmentation_accuracy.of(p.table),
    "ue_np": lambda p: region.undersegmentation_error.of(p.table),
    "ue_levin": lambda p: region.undersegmentation_error_levin.of(p.table),
    "ue_slic": lambda p: region.undersegmentation_error_slic.of(p.table),
    "cuse": lambda p: region.corrected_undersegmentation_error.of(p.table),
    "oe": lambda p: region.oversegmentation_error.of(p.table),
    "br": lambda p: p.recall,
    "bp": lambda p: p.precision,
    "f1": lambda p: boundary.f_measure(p.precision, p.recall, 1),
    "f4": lambda p: boundary.f_measure(p.precision, p.recall, 4),
    "mde": lambda p: boundary.distance_to(p.map.distance, p.edges),
    "ri": lambda p: region.rand_index.of(p.table),
    "voi": lambda p: region.variation_of_information.of(p.table),
    "covering": lambda p: region.covering.of(p.table),
}


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
    alone = {name: _OF_MAP[name](one) for name in names if name in _OF_MAP}
    rows = []
    for index, truth in enumerate(truths):
        if np.shape(truth) != one.groups.ids.shape:
            raise LabelError(
                f"sizes differ: the label map is {one.groups.ids.shape}, annotation {index} is {np.shape(truth)}"
            )
        pair = _Pair(one, compact(truth, ignore_label=ignore_label, what=f"annotation {index}"))
        rows.append({name: alone[name] if name in alone else _OF_PAIR[name](pair) for name in names})
    return rows or [alone]
