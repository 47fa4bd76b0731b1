"""Metrics of the label map alone: compactness, contour density, sizes.

Every function takes labels, (H, W) integers of any kind; a superpixel is an id, be it connected or not.
"""

from math import pi
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.regions.maps import Groups, boundaries, group


def compactness(labels: NDArray[Any] | Groups) -> float:
    """Mean isoperimetric quotient of the superpixels, weighted by area, 0 to pi/4 (squares); higher is better.

    (1/N) sum_j |S_j| 4 pi |S_j| / L_j^2, L_j the pixel sides between S_j and another label or the outside of the image.
    Schick et al. (ICPR 2012), with the perimeter of the benchmark of Stutz et al.

    >>> compactness(np.zeros((4, 4), int)) == pi / 4
    True
    """
    groups = labels if isinstance(labels, Groups) else group(labels)
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


def contour_density(labels: NDArray[Any]) -> float:
    """Share of pixels beside a 4-neighbour of another label, 0 to 1; lower is better. Stutz et al. (CVIU 2018).

    >>> contour_density(np.array([[0, 0, 1, 1]]))
    0.5
    """
    return float(np.count_nonzero(boundaries(labels, "two-sided")) / labels.size)


def size_deviation(labels: NDArray[Any] | Groups) -> float:
    """Spread of the superpixels' sizes: their population standard deviation, in pixels.

    >>> size_deviation(np.array([[0, 0, 0, 1]]))
    1.0
    """
    groups = labels if isinstance(labels, Groups) else group(labels)
    return float(np.std(groups.sizes))
