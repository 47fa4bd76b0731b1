"""SCALP (Giraud et al., ICPR 2016; CVIU 2018): superpixels with contour adherence using linear path.

SLIC, but a pixel is compared with a centre by the colours around it and by those on the straight line to the centre,
optionally times the strongest contour that the line crosses:

    (lambda d(pixel) + (1 - lambda) mean of d on the line) (1 + gamma max of contour on the line) + distance in position

where d(q) is the mean squared colour distance between the pixels around q and the centre.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.methods._gradient import fill_gradient
from spx_cli.methods._grid import grid_seeds, grid_shape
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Image

_STRONG = 25  # Lab per pixel: a gradient from here on counts as a certain contour


@dataclass(frozen=True, kw_only=True)
class SCALP(Method):
    """Very regular superpixels that stop at contours, by k-means along straight lines."""

    name = "scalp"
    paper = "doi:10.1016/j.cviu.2018.01.006"
    oversegmentation = 2.0

    compactness: float = param(8.0, "m, weight of distance in position against distance in Lab", ge=0, le=1e6)
    path_weight: float = param(0.5, "1 - lambda, share of the line's colours in the colour distance", ge=0, le=1)
    contour_weight: float = param(1.0, "gamma, weight of the colour gradient (0 to 1) as contour prior", ge=0, le=1e6)
    neighborhood: int = param(2, "n, pixels: colours are averaged over (2n + 1) x (2n + 1)", ge=0, le=20)
    sigma: float = param(
        40.0, "Lab, colour distance at which a neighbour's share in that average falls off", ge=0.01, le=1e6
    )
    iterations: int = param(10, "rounds of k-means", ge=1, le=1000)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map of the nearest centres, connected; as many regions as grid cells."""
        height, width, _ = image.shape
        lab = rgb_to_lab(image)
        around = np.empty((height, width, 4), np.float32)
        _average(lab, self.neighborhood, np.float32(0.5 / self.sigma**2), around)
        contour = np.zeros((height, width), np.float32)
        if self.contour_weight > 0:
            fill_gradient(lab, np.float32(0), np.float32(1 / _STRONG), contour)
            np.minimum(contour, 1, out=contour)
        rows, columns = grid_shape((height, width), n_segments)
        seeds = grid_seeds((height, width), n_segments)
        # A window of two cells, as in SLIC; what no window covers keeps the label of its cell.
        bends = _bends(ceil(max(height / rows, width / columns)))
        cell = (np.arange(height) * rows // height)[:, None] * columns + np.arange(width) * columns // width
        labels = cell.astype(np.int32)
        position_weight = self.compactness**2 * rows * columns / (height * width)
        weights = (position_weight, self.path_weight, self.contour_weight)
        _kmeans(lab, around, contour, seeds, bends, *weights, self.iterations, labels)
        return Assignment(labels, lab, POSITION)


def _bends(reach: int) -> NDArray[np.int32]:
    """Return, for n up to reach, the m up to which a line to (n, m) ends in a straight step and not in a diagonal one.

    All lines from a centre then form a tree, in which what holds for a pixel follows from the pixel before it in one
    step: consistent digital rays (Chun et al., Discrete & Computational Geometry 2009). The van der Corput sequence
    keeps them within O(log n) of the straight lines.
    """
    n = np.arange(reach + 1)
    share, digits, place = np.zeros(reach + 1), n.copy(), 0.5
    while digits.any():
        share += place * (digits % 2)
        digits, place = digits // 2, place / 2
    return np.floor(n * share).astype(np.int32)


@njit(cache=True, nogil=True, error_model="numpy")
def _average(lab, reach, falloff, around):
    """lab (H, W, 3) float32; around (H, W, 4) float32 out: weighted means of L, a, b and of |Lab|^2.

    With them the mean squared distance of the neighbourhood to any colour takes one product (CVIU 2018, equation 7).
    """
    height, width, _ = lab.shape
    planes = np.empty((4, height, width), np.float32)
    for y in range(height):
        for x in range(width):
            norm = np.float32(0)
            for c in range(3):
                planes[c, y, x] = lab[y, x, c]
                norm += lab[y, x, c] * lab[y, x, c]
            planes[3, y, x] = norm
    total = np.empty((5, width), np.float32)
    across, eighth = min(reach, width - 1), np.float32(0.125) * falloff
    for y in range(height):
        total[:] = 0
        for v in range(max(y - reach, 0), min(y + reach + 1, height)):
            for shift in range(-across, across + 1):
                here, there = slice(max(-shift, 0), width - max(shift, 0)), slice(max(shift, 0), width + min(shift, 0))
                l0, a0, b0 = planes[0, y, here], planes[1, y, here], planes[2, y, here]
                l1, a1, b1, s1 = planes[0, v, there], planes[1, v, there], planes[2, v, there], planes[3, v, there]
                share, l_sum, a_sum = total[0, here], total[1, here], total[2, here]
                b_sum, s_sum = total[3, here], total[4, here]
                for x in range(len(l0)):
                    dl, da, db = l0[x] - l1[x], a0[x] - a1[x], b0[x] - b1[x]
                    # exp(-t) as (1 - t / 8)^8: products only, so that the loop vectorises.
                    w = max(np.float32(1) - eighth * (dl * dl + da * da + db * db), np.float32(0))
                    w *= w
                    w *= w
                    w *= w
                    share[x] += w
                    l_sum[x] += w * l1[x]
                    a_sum[x] += w * a1[x]
                    b_sum[x] += w * b1[x]
                    s_sum[x] += w * s1[x]
        for x in range(width):
            for c in range(4):
                around[y, x, c] = total[1 + c, x] / total[0, x]


@njit(cache=True, nogil=True, error_model="numpy")
def _kmeans(lab, around, contour, seeds, bends, position_weight, path_weight, contour_weight, iterations, labels):
    """lab (H, W, 3), around (H, W, 4), contour (H, W); seeds (K, 2); bends (S + 1,); labels (H, W) int32 in place."""
    height, width, _ = lab.shape
    count, reach = len(seeds), len(bends) - 1
    centres, total = np.empty((count, 5), np.float32), np.empty((count, 6), np.float64)
    for k in range(count):
        y, x = seeds[k]
        centres[k, :3] = around[int(y + 0.5), int(x + 0.5), :3]
        centres[k, 3], centres[k, 4] = y, x
    nearest = np.empty((height, width), np.float32)
    middle, line = np.empty((2 * reach + 1, 2), np.float32), np.empty((2 * reach + 1, 2), np.float32)
    weights = np.array([position_weight, path_weight, contour_weight], np.float32)
    for turn in range(iterations):
        nearest[:] = np.inf
        for k in range(count):
            centre, y = centres[k], int(centres[k, 3] + np.float32(0.5))
            middle[:] = 0
            _claim_row(k, y, 0, centre, around, contour, bends, weights, middle, nearest, labels)
            for side in (-1, 1):
                line[:] = middle
                for dy in range(1, min(reach, y if side < 0 else height - 1 - y) + 1):
                    _claim_row(k, y + side * dy, dy, centre, around, contour, bends, weights, line, nearest, labels)
        if turn < iterations - 1:
            _update(lab, labels, total, centres)


@njit(cache=True, nogil=True, error_model="numpy")
def _claim_row(k, y, dy, centre, around, contour, bends, weights, line, nearest, labels):
    """Offers the pixels of row y, dy rows from centre (5,), to it; weights (3,); nearest and labels (H, W) in place.

    line (2 S + 1, 2): sum of colour distances and peak of the contour on the way to each pixel, of the row before on
    entry, of this row on return.
    """
    width, reach = nearest.shape[1], len(bends) - 1
    x0 = int(centre[4] + np.float32(0.5))
    l0, a0, b0 = centre[0], centre[1], centre[2]
    norm = l0 * l0 + a0 * a0 + b0 * b0
    from_row = (np.float32(y) - centre[3]) ** 2
    start_sum, start_peak = line[reach, 0], line[reach, 1]
    for side in (1, -1):
        old_sum, old_peak = start_sum, start_peak
        new_sum, new_peak = line[reach, 0], line[reach, 1]
        for m in range((1 - side) // 2, min(reach, width - 1 - x0 if side > 0 else x0) + 1):
            x, i = x0 + side * m, reach + side * m
            here_sum, here_peak = line[i, 0], line[i, 1]
            steps = max(m, dy)
            if m <= dy and m <= bends[dy]:
                path, peak = here_sum, here_peak
            elif m <= dy or dy > bends[m]:
                path, peak = old_sum, old_peak
            else:
                path, peak = new_sum, new_peak
            f = around[y, x]
            color = f[3] + norm - np.float32(2) * (f[0] * l0 + f[1] * a0 + f[2] * b0)
            path, peak = path + color, max(peak, contour[y, x])
            line[i, 0], line[i, 1] = path, peak
            old_sum, old_peak, new_sum, new_peak = here_sum, here_peak, path, peak
            distance = (color + weights[1] * (path / np.float32(steps + 1) - color)) * (1 + weights[2] * peak)
            distance += weights[0] * (from_row + (np.float32(x) - centre[4]) ** 2)
            if distance < nearest[y, x]:
                nearest[y, x] = distance
                labels[y, x] = k


@njit(cache=True, nogil=True, error_model="numpy")
def _update(lab, labels, total, centres):
    """lab (H, W, 3), labels (H, W), total (K, 6) float64 scratch; centres (K, 5) move to the means of their pixels."""
    height, width, _ = lab.shape
    total[:] = 0
    for y in range(height):
        for x in range(width):
            t = total[labels[y, x]]
            t[0] += lab[y, x, 0]
            t[1] += lab[y, x, 1]
            t[2] += lab[y, x, 2]
            t[3] += y
            t[4] += x
            t[5] += 1
    for k in range(len(centres)):
        if total[k, 5] > 0:
            for c in range(5):
                centres[k, c] = total[k, c] / total[k, 5]
