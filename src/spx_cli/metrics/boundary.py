"""Boundary metrics: how well superpixel borders meet true borders within a square window.

A protocol (`metrics.PROTOCOLS`) names which pixels are boundaries, how far apart they may be, and which precision is
meant.
"""

from math import nan
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.errors import ParameterError
from spx_cli.metrics import Protocol
from spx_cli.types import Labels

Mask = NDArray[np.bool_]

# Fixed-point weights of the 3 x 3 chamfer distance (Borgefors 1986, as OpenCV rounds them), in 1/65536 pixel.
STRAIGHT, DIAGONAL, ONE = 62587, 89738, 65536
NO_BOUNDARY = 8192 * ONE


class Match(NamedTuple):
    """Boundary pixels of both maps and how many of each have one of the other within the window."""

    truth_hits: int
    truth_pixels: int
    label_hits: int
    label_pixels: int


def match_edges(edges: Mask, near: Mask, truth: Mask, segments: Labels, radius: int) -> Match:
    """Return the counts of one map against one annotation.

    edges, near : boundary pixels of the label map and their dilation by `radius`.
    truth : boundary pixels of the annotation.
    segments : the annotation as `maps.compact` gives it; a boundary pixel on an ignored one (-1) is never wrong.
    """
    counted = edges & (segments >= 0) if segments.min() < 0 else edges
    return Match(
        truth_hits=int(np.count_nonzero(truth & near)),
        truth_pixels=int(np.count_nonzero(truth)),
        label_hits=int(np.count_nonzero(counted & dilate(truth, radius))),
        label_pixels=int(np.count_nonzero(counted)),
    )


def boundary_recall(match: Match, rule: Protocol) -> float:
    """Share of true boundary pixels with a superpixel boundary pixel in the window, 0 to 1; higher is better."""
    return match.truth_hits / match.truth_pixels if match.truth_pixels else rule.empty


def boundary_precision(match: Match, rule: Protocol) -> float:
    """Share of superpixel boundary pixels that are right, 0 to 1; higher is better. Three definitions, by protocol.

    stutz : TP / (TP + FP), TP counted among the true boundary pixels, FP among the superpixels' (the benchmark).
    seal, lnsnet : share of one-sided superpixel boundary pixels with a true one in the window (LNS-Net's computeBP).
    sen, rim : the same of two-sided boundary pixels (textbook).
    """
    hits = match.truth_hits if rule.precision == "truth" else match.label_hits
    total = hits + match.label_pixels - match.label_hits
    return hits / total if total else rule.empty


def f1(match: Match, rule: Protocol) -> float:
    """Harmonic mean of precision and recall, 0 to 1; higher is better. Gaur and Manjunath (SEN, TIP 2020)."""
    return f_measure(boundary_precision(match, rule), boundary_recall(match, rule), 1)


def f4(match: Match, rule: Protocol) -> float:
    """F measure with beta 4, 0 to 1; higher is better. Zhu et al. (LNS-Net, CVPR 2021)."""
    return f_measure(boundary_precision(match, rule), boundary_recall(match, rule), 4)


def f_measure(precision: float, recall: float, beta: float = 1.0) -> float:
    """Weighted harmonic mean of precision and recall, recall weighing beta^2-fold; 0 where both are 0.

    (1 + beta^2) P R / (beta^2 P + R).

    >>> f_measure(0.5, 1.0)
    0.6666666666666666
    """
    weight = beta * beta
    total = weight * precision + recall
    return (1 + weight) * precision * recall / total if total else 0.0


def mean_distance_to_edge(distance: NDArray[np.int32], true_edges: Mask) -> float:
    """Mean distance in pixels from a true boundary pixel to the nearest superpixel boundary pixel; lower is better.

    distance : the `chamfer` map of the superpixels' boundaries: as in the benchmark, up to 4.5 % below the Euclidean
        distance, 8192 without a superpixel boundary. NaN without a true one. Benesova and Kottman (2014).
    """
    pixels = np.count_nonzero(true_edges)
    return float(np.sum(distance, where=true_edges, dtype=np.int64) / pixels / ONE) if pixels else nan


def dilate(mask: Mask, radius: int) -> Mask:
    """Return `mask` grown by a square window of side 2 radius + 1, clipped at the frame.

    >>> dilate(np.array([[True, False, False, False]]), 1).astype(int)
    array([[1, 1, 0, 0]])
    """
    if radius == 0:
        return mask
    height, width = mask.shape
    radius = min(radius, max(height, width))  # beyond, the window is the whole mask
    padded = np.zeros((height + 2 * radius, width + 2 * radius), np.bool_)
    padded[radius : radius + height, radius : radius + width] = mask
    rows = _spread(padded, radius)
    return _spread(rows.T, radius).T


def _spread(mask: Mask, radius: int) -> Mask:
    """Return the OR over windows of 2 radius + 1 rows that fit into `mask`; its rows are 2 radius fewer."""
    length, done = 2 * radius + 1, 1
    while 2 * done <= length:
        mask = mask[:-done] | mask[done:]
        done *= 2
    rest = length - done
    return mask[:-rest] | mask[rest:] if rest else mask


def chamfer(edges: Mask) -> NDArray[np.int32]:
    """Return the 3 x 3 chamfer distance to the nearest True pixel, int32 (H, W), in 1/65536 pixel; 8192 without any."""
    distance = np.full(edges.shape, NO_BOUNDARY, np.int32)
    distance[edges] = 0
    _chamfer(distance)
    return distance


@njit(cache=True, nogil=True)
def _chamfer(d):
    """d (H, W) int32, 0 on edges and NO_BOUNDARY elsewhere; becomes the distance."""
    height, width = d.shape
    for y in range(height):
        if y > 0:
            _from_row(d[y], d[y - 1])
        for x in range(1, width):
            d[y, x] = min(d[y, x], d[y, x - 1] + STRAIGHT)
    for y in range(height - 1, -1, -1):
        if y < height - 1:
            _from_row(d[y], d[y + 1])
        for x in range(width - 2, -1, -1):
            d[y, x] = min(d[y, x], d[y, x + 1] + STRAIGHT)


@njit(cache=True, nogil=True)
def _from_row(row, other):
    """row, other (W,) int32: lower `row` to what is reached from the row beside it."""
    last = row.size - 1
    for x in range(row.size):
        row[x] = min(row[x], other[x] + STRAIGHT)
    for x in range(last):
        row[x + 1] = min(row[x + 1], other[x] + DIAGONAL)
        row[x] = min(row[x], other[x + 1] + DIAGONAL)


def window(rule: Protocol, tolerance: int | None, shape: tuple[int, ...]) -> int:
    """Return the half side of the window in pixels: `tolerance`, or the protocol's for a map of this shape."""
    if tolerance is None:
        return rule.radius(*shape)
    if tolerance < 0:
        raise ParameterError(f"tolerance must be at least 0 pixels, not {tolerance}")
    return min(tolerance, max(shape))
