"""SLIC and SLICO (Achanta et al., TPAMI 2012): k-means in (L, a, b, y, x); each centre searches a 2S x 2S window."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numba import njit

from spx_cli.color import lab_planes
from spx_cli.methods._grid import grid_seeds
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Image

_PAD = 32  # columns beside the image, so that the windows of usual superpixels need no clipping
_LANES = 16  # windows are a multiple of this wide, so that the vectorised loop over a row has no remainder


@dataclass(frozen=True, kw_only=True)
class SLIC(Method):
    """Compact superpixels by local k-means in colour and position; the fastest method here.

    Deterministic. Rounds look at every `row_step`-th row only; a last full round labels every pixel.
    """

    name = "slic"
    paper = "doi:10.1109/TPAMI.2012.120"
    surplus = 1.25

    compactness: float = param(10.0, "m, weight of distance in position against distance in Lab", gt=0)
    iterations: int = param(10, "rounds of k-means", ge=1)
    row_step: int = param(3, "rows: a round visits every row_step-th row", ge=1)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map of the nearest centres; it may be disconnected."""
        return _cluster(image, n_segments, self.compactness, self.iterations, self.row_step, adaptive=False)


@dataclass(frozen=True, kw_only=True)
class SLICO(Method):
    """SLIC without a compactness to choose: each superpixel scales colour by the largest distance it met (SLICO)."""

    name = "slico"
    paper = "doi:10.1109/TPAMI.2012.120"
    surplus = 1.25

    iterations: int = param(10, "rounds of k-means", ge=1)
    row_step: int = param(3, "rows: a round visits every row_step-th row", ge=1)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map of the nearest centres; it may be disconnected."""
        return _cluster(image, n_segments, 10.0, self.iterations, self.row_step, adaptive=True)


def _cluster(
    image: Image, n_segments: int, compactness: float, iterations: int, row_step: int, *, adaptive: bool
) -> Assignment:
    height, width, _ = image.shape
    planes = lab_planes(image, pad=_PAD)
    seeds = grid_seeds((height, width), n_segments)
    spacing = sqrt(height * width / len(seeds))
    labels = np.zeros((height, width + 2 * _PAD), np.int32)
    _kmeans(planes, seeds, spacing, compactness, iterations, row_step, adaptive, _PAD, _LANES, labels)
    inside = slice(_PAD, _PAD + width)
    return Assignment(labels[:, inside], planes[:, :, inside].transpose(1, 2, 0))


@njit(cache=True, nogil=True, error_model="numpy")
def _kmeans(planes, seeds, spacing, compactness, iterations, row_step, adaptive, pad, lanes, labels):
    """planes (3, H, W + 2 pad) float32; seeds (K, 2) as (y, x); labels (H, W + 2 pad) int32 out."""
    _, height, stride = planes.shape
    width, count = stride - 2 * pad, len(seeds)
    lab, nearest, distance = planes.reshape(-1), labels.reshape(-1), np.empty(height * stride, np.float32)
    centres = np.empty((count, 5), np.float32)
    for k in range(count):
        y, x = seeds[k]
        at = round(y) * stride + pad + round(x)
        for c in range(3):
            centres[k, c] = lab[c * height * stride + at]
        centres[k, 3], centres[k, 4] = y, x
    # SLICO starts like SLIC and then learns, per centre, the largest squared colour distance among its pixels.
    weight = np.full(count, 1.0 / (compactness * compactness), np.float32)
    totals = np.empty((count, 6), np.float64)
    for turn in range(iterations + 1):
        step = row_step if turn < iterations else 1
        first = turn % row_step if turn < iterations else 0
        first = min(first, height - 1)
        _assign(lab, centres, weight, spacing, first, step, height, stride, pad, lanes, nearest, distance)
        if turn < iterations:
            _update(lab, nearest, first, step, height, stride, pad, width, totals, centres)
            if adaptive:
                _learn_weight(lab, nearest, first, step, height, stride, pad, width, centres, weight)


@njit(cache=True, nogil=True, error_model="numpy")
def _assign(lab, centres, weight, spacing, first, step, height, stride, pad, lanes, nearest, distance):
    """lab (3 * H * stride,), centres (K, 5) as (L, a, b, y, x); nearest, distance (H * stride,) of rows first::step."""
    plane = height * stride
    for y in range(first, height, step):
        distance[y * stride : (y + 1) * stride] = np.float32(np.inf)
    half = int(np.ceil(spacing))
    span = (2 * half + lanes) // lanes * lanes
    per_pixel = np.float32(1.0 / (spacing * spacing))
    for k in range(len(centres)):
        l0, a0, b0, y0, x0 = centres[k]
        colour = weight[k]
        left = max(int(round(x0)) + pad - span // 2, 0)
        right = min(left + span, stride)
        top = max(int(round(y0)) - half, 0)
        top += (first - top) % step
        shift = np.float32(left - pad) - x0
        for y in range(top, min(int(round(y0)) + half + 1, height), step):
            dy = np.float32(y) - y0
            from_row = per_pixel * dy * dy
            at = y * stride + left
            lightness, best = lab[at : at + right - left], distance[at : at + right - left]
            green_red = lab[plane + at : plane + at + right - left]
            blue_yellow = lab[2 * plane + at : 2 * plane + at + right - left]
            owner = nearest[at : at + right - left]
            for i in range(right - left):
                dl, da, db = lightness[i] - l0, green_red[i] - a0, blue_yellow[i] - b0
                dx = shift + np.float32(i)
                d = colour * (dl * dl + da * da + db * db) + (from_row + per_pixel * dx * dx)
                # Both stores on either way: a loop without branches is one the compiler vectorises.
                before, was = best[i], owner[i]
                best[i] = min(d, before)
                owner[i] = np.int32(k) if d < before else was


@njit(cache=True, nogil=True, error_model="numpy")
def _update(lab, nearest, first, step, height, stride, pad, width, totals, centres):
    """Arrays as in _assign; totals (K, 6) float64 scratch. Moves every centre to the mean of its pixels."""
    plane = height * stride
    totals[:] = 0.0
    for y in range(first, height, step):
        at = y * stride + pad
        start = 0
        while start < width:
            k = nearest[at + start]
            l, a, b = np.float32(0), np.float32(0), np.float32(0)
            stop = start
            while stop < width and nearest[at + stop] == k:
                l += lab[at + stop]
                a += lab[at + stop + plane]
                b += lab[at + stop + 2 * plane]
                stop += 1
            n = stop - start
            totals[k, 0] += l
            totals[k, 1] += a
            totals[k, 2] += b
            totals[k, 3] += n * y
            totals[k, 4] += 0.5 * n * (start + stop - 1)
            totals[k, 5] += n
            start = stop
    for k in range(len(centres)):
        if totals[k, 5] > 0:
            for c in range(5):
                centres[k, c] = totals[k, c] / totals[k, 5]


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_weight(lab, nearest, first, step, height, stride, pad, width, centres, weight):
    """Arrays as in _assign; weight (K,) becomes 1 / the largest squared colour distance met, at least one."""
    plane = height * stride
    largest = np.ones(len(centres), np.float32)
    for y in range(first, height, step):
        for at in range(y * stride + pad, y * stride + pad + width):
            k = nearest[at]
            dl, da, db = lab[at] - centres[k, 0], lab[at + plane] - centres[k, 1], lab[at + 2 * plane] - centres[k, 2]
            largest[k] = max(largest[k], dl * dl + da * da + db * db)
    for k in range(len(centres)):
        weight[k] = 1 / largest[k]
