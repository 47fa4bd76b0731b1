"""The BSDS boundary benchmark (Arbelaez et al., TPAMI 2011): precision and recall of soft contours over thresholds.

Counts of one image are (T, 4) integers, a row for each threshold: true boundary pixels that have a partner, summed
over annotations; true boundary pixels; map pixels with a partner in any annotation; map pixels.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import hypot, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spx_cli.contours.matching import match
from spx_cli.contours.thinning import Mask, segment_boundary, thin

# How far apart partners may lie, in diagonals of the image.
MAX_DISTANCE = 0.0075
THRESHOLDS = 99
# Between two thresholds the curve is read at so many points, both ends among them.
_STEPS = 100

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


class Point(NamedTuple):
    """A point of a precision-recall curve; `threshold` is NaN where images have their own."""

    threshold: float
    recall: float
    precision: float
    f: float


class Scores(NamedTuple):
    """What the benchmark says of a data set.

    ods : best point with one threshold for all images. ois : with the best threshold of each image.
    ap : area under the curve. curve : one point for each threshold.
    """

    ods: Point
    ois: Point
    ap: float
    curve: tuple[Point, ...]


def thresholds(number: int = THRESHOLDS) -> Values:
    """Return the benchmark's thresholds, evenly spaced inside 0 to 1.

    >>> thresholds(3)
    array([0.25, 0.5 , 0.75])
    """
    return np.linspace(1 / (number + 1), 1 - 1 / (number + 1), number)


def boundary_counts(
    contours: NDArray[Any], truths: Sequence[Mask], levels: Values, *, max_distance: float = MAX_DISTANCE
) -> Counts:
    """Return the counts of one image, (T, 4).

    contours : (H, W), 0 to 1. At each level the pixels that reach it are thinned and matched with each annotation.
    truths : thin boundaries, bool (H, W), as `segment_boundary` gives them.
    levels : (T,), ascending.
    """
    counts = np.zeros((len(levels), 4), np.int64)
    counts[:, 1] = sum(int(np.count_nonzero(truth)) for truth in truths)
    radius = max_distance * hypot(*contours.shape)
    pixels = -1
    for i, row in enumerate(counts):
        mask = contours >= levels[i]
        # The pixels of a level are among those of the level before: as many are the same.
        if (found := int(np.count_nonzero(mask))) == pixels:
            row[:] = counts[i - 1]
            continue
        pixels = found
        lines = thin(mask)
        right = np.zeros_like(lines)
        for seed, truth in enumerate(truths):
            pairs = match(lines, truth, radius, seed=seed)
            right |= pairs.first
            row[0] += np.count_nonzero(pairs.second)
        row[2:] = np.count_nonzero(right), np.count_nonzero(lines)
    return counts


def summarise(counts: Iterable[Counts], levels: Values) -> Scores:
    """Return the scores of a data set from the counts of its images, as the benchmark's collect_eval_bdry does."""
    total, best = np.zeros((len(levels), 4), np.int64), np.zeros(4, np.int64)
    for image in counts:
        total += image
        best += image[int(np.argmax([point.f for point in _curve(image, levels)]))]
    curve = _curve(total, levels)
    return Scores(best_point(total, levels), _point(nan, best), _area(curve), curve)


def best_point(counts: Counts, levels: Values) -> Point:
    """Return the point with the greatest F on the curve, which runs straight between thresholds."""
    curve = _curve(counts, levels)
    best = curve[0]
    for here, there in pairwise(np.array(point[:3]) for point in curve):
        for share in np.linspace(0, 1, _STEPS):
            threshold, recall, precision = share * there + (1 - share) * here
            f = _f(recall, precision)
            if f > best.f:
                best = Point(float(threshold), float(recall), float(precision), f)
    return best


def score_maps(
    maps: Iterable[NDArray[Any]], truths: Iterable[Sequence[NDArray[Any]]], *, number: int = THRESHOLDS
) -> Scores:
    """Return the scores of contour maps, (H, W) in 0 to 1 each, against the label maps of each image's annotators."""
    levels = thresholds(number)
    return summarise(
        [
            boundary_counts(contours, [segment_boundary(labels) for labels in labellings], levels)
            for contours, labellings in zip(maps, truths, strict=True)
        ],
        levels,
    )


def _curve(counts: Counts, levels: Values) -> tuple[Point, ...]:
    return tuple(_point(float(level), row) for level, row in zip(levels, counts, strict=True))


def _point(threshold: float, row: Counts) -> Point:
    """Return the recall and precision of a row of counts; each is 0 where there is nothing to be right about."""
    found, true, right, drawn = (int(count) for count in row)
    recall, precision = found / true if true else 0.0, right / drawn if drawn else 0.0
    return Point(threshold, recall, precision, _f(recall, precision))


def _f(recall: float, precision: float) -> float:
    return float(2 * recall * precision / (recall + precision)) if recall + precision else 0.0


def _area(curve: Sequence[Point]) -> float:
    """Return the benchmark's average precision: the sum of precision at recalls of 0, .01, ... 1 that the curve covers.

    Of points with one recall the last counts, as in the MATLAB that the published numbers were made with.
    """
    known = {point.recall: point.precision for point in curve}
    recalls = sorted(known)
    if len(recalls) < 2:
        return 0.0
    at = np.linspace(0, 1, 101)
    return float(np.interp(at, recalls, [known[recall] for recall in recalls], 0.0, 0.0).sum() * 0.01)
