"""Metrics of the label map alone: compactness, contour density, sizes, counts. A superpixel is an id, whole or not."""

from math import pi

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.regions.maps import Groups
from spx_cli.regions.runs import find_runs


def compactness(groups: Groups) -> float:
    """Mean isoperimetric quotient of the superpixels, weighted by area, 0 to pi/4 (squares); higher is better.

    (1/N) sum_j |S_j| 4 pi |S_j| / L_j^2, L_j the pixel sides between S_j and another label or the outside of the image.
    Schick et al. (ICPR 2012), with the perimeter of the benchmark of Stutz et al.

    >>> compactness(group(np.zeros((4, 4), int))) == pi / 4
    True
    """
    perimeter = np.zeros(len(groups.sizes), np.int64)
    _perimeters(groups.ids, perimeter)
    return float((4 * pi * (groups.sizes / perimeter) ** 2).sum() / groups.ids.size)


@njit(cache=True, nogil=True)
def _perimeters(ids, sides):
    """ids (H, W) int32; sides (K,) int64 zeros: becomes the pixel sides to another id or to the outside."""
    height, width = ids.shape
    for y in range(height):
        sides[ids[y, 0]] += 1
        sides[ids[y, width - 1]] += 1
        for x in range(1, width):
            if ids[y, x] != ids[y, x - 1]:
                sides[ids[y, x]] += 1
                sides[ids[y, x - 1]] += 1
    for x in range(width):
        sides[ids[0, x]] += 1
        sides[ids[height - 1, x]] += 1
    for y in range(1, height):
        for x in range(width):
            if ids[y, x] != ids[y - 1, x]:
                sides[ids[y, x]] += 1
                sides[ids[y - 1, x]] += 1


def contour_density(both_edges: NDArray[np.bool_]) -> float:
    """Share of pixels beside a 4-neighbour of another label, 0 to 1; lower is better. Stutz et al. (CVIU 2018).

    both_edges : those pixels, bool (H, W).

    >>> contour_density(np.array([[False, True, True, False]]))
    0.5
    """
    return float(np.count_nonzero(both_edges) / both_edges.size)


def size_deviation(groups: Groups) -> float:
    """Spread of the superpixels' sizes: their population standard deviation, in pixels.

    >>> size_deviation(group(np.array([[0, 0, 0, 1]])))
    1.0
    """
    return float(np.std(groups.sizes))


def count(groups: Groups) -> int:
    """Return the number of distinct ids."""
    return len(groups.sizes)


def components(groups: Groups) -> int:
    """Return the number of 4-connected regions."""
    return find_runs(groups.ids).regions
