"""Waterpixels (Machairas et al., IEEE TIP 2015): a watershed of one marker per grid cell on a regularised gradient.

The marker of a cell is its lowest pixel, away from the cell's frame. The distance to the marker is added to the
gradient, so that basins meet on edges where there are some, and halfway between markers where the image is flat. As in
the compact watershed of Neubert and Protzel (ICPR 2014) it is the distance to the marker that the flood comes from,
which needs no distance map.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numba import njit

from spx_cli.color import rgb_to_lab
from spx_cli.methods._grid import grid_seeds, grid_shape
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Image

_PER_LAB = 4  # levels of the flood per unit of Lab
_LEVELS = 2048  # the flood's highest level: what lies above is flooded together


@dataclass(frozen=True, kw_only=True)
class Watershed(Method):
    """Floods the colour gradient from one marker per grid cell. Connected, and of the grid's count."""

    name = "watershed"
    paper = "doi:10.1109/TIP.2015.2451011"
    surplus = 3.0

    compactness: float = param(2.0, "k, Lab units that the level rises over half a cell side from the marker", ge=0)
    shrink: float = param(0.67, "share of a cell's side in which its marker is searched", gt=0, le=1)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the basins of the markers."""
        height, width, _ = image.shape
        lab = rgb_to_lab(image)
        gradient = np.empty((height, width), np.int32)
        _fill_gradient(lab, gradient)
        rows, columns = grid_shape((height, width), n_segments)
        rise = np.float32(_PER_LAB * self.compactness * 2 / sqrt(height * width / (rows * columns)))
        markers = grid_seeds((height, width), n_segments)
        reach = (0.5 * self.shrink * height / rows, 0.5 * self.shrink * width / columns)
        _sink(gradient, rise, reach, markers)
        labels = np.full((height + 2, width + 2), -1, np.int32)
        _flood(gradient, rise, markers, labels)
        return Assignment(labels[1:-1, 1:-1], lab)


@njit(cache=True, nogil=True)
def _fill_gradient(lab, gradient):
    """lab (H, W, 3) float32; gradient (H, W) int32 out: length of the central differences, in levels of the flood."""
    height, width, _ = lab.shape
    for y in range(height):
        above, here, below = lab[max(y - 1, 0)], lab[y], lab[min(y + 1, height - 1)]
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            total = np.float32(0)
            for c in range(3):
                across, down = here[right, c] - here[left, c], below[x, c] - above[x, c]
                total += across * across + down * down
            gradient[y, x] = int(np.float32(0.5 * _PER_LAB) * np.sqrt(total))


@njit(cache=True, nogil=True)
def _sink(gradient, rise, reach, markers):
    """gradient (H, W) int32; markers (K, 2) as (y, x), moved to the lowest level within reach, in place."""
    height, width = gradient.shape
    for k in range(len(markers)):
        y0, x0 = markers[k]
        lowest = np.inf
        for y in range(max(int(np.ceil(y0 - reach[0])), 0), min(int(y0 + reach[0]) + 1, height)):
            for x in range(max(int(np.ceil(x0 - reach[1])), 0), min(int(x0 + reach[1]) + 1, width)):
                level = gradient[y, x] + rise * np.sqrt((y - y0) ** 2 + (x - x0) ** 2)
                if level < lowest:
                    lowest = level
                    markers[k, 0], markers[k, 1] = y, x


@njit(cache=True, nogil=True)
def _flood(gradient, rise, markers, labels):
    """gradient (H, W) int32; markers (K, 2) as (y, x); labels (H + 2, W + 2) int32, all -1, takes the basins.

    One queue per level, first in first out; a pixel takes the label of the neighbour that reaches it first.
    """
    height, width = gradient.shape
    stride = width + 2
    out = labels.reshape(-1)
    labels[0], labels[-1], labels[:, 0], labels[:, -1] = 0, 0, 0, 0
    head, tail = np.full(_LEVELS + 1, -1, np.int32), np.full(_LEVELS + 1, -1, np.int32)
    # Holds a pixel's level until it is queued and its successor in the queue afterwards: one memory access, not two.
    follow = np.empty(len(out), np.int32)
    for y in range(height):
        follow[(y + 1) * stride + 1 : (y + 2) * stride - 1] = gradient[y]
    for k in range(len(markers)):
        at = (int(markers[k, 0] + 0.5) + 1) * stride + int(markers[k, 1] + 0.5) + 1
        if out[at] < 0:
            out[at] = k
            follow[at] = head[0]
            head[0] = at
            if tail[0] < 0:
                tail[0] = at
    level, per_stride = 0, 1.0 / stride
    while level <= _LEVELS:
        at = head[level]
        if at < 0:
            level += 1
            continue
        head[level] = follow[at]
        label = out[at]
        row = int((at + 0.5) * per_stride)
        dy, dx = np.float32(row - 1) - markers[label, 0], np.float32(at - row * stride - 1) - markers[label, 1]
        for step, v, u in ((-stride, -1, 0), (-1, 0, -1), (1, 0, 1), (stride, 1, 0)):
            near = at + step
            if out[near] >= 0:
                continue
            out[near] = label
            distance = np.sqrt((dy + np.float32(v)) ** 2 + (dx + np.float32(u)) ** 2)
            goal = min(max(follow[near] + int(rise * distance), level), _LEVELS)
            follow[near] = -1
            if head[goal] < 0:
                head[goal] = near
            else:
                follow[tail[goal]] = near
            tail[goal] = near
    labels[0], labels[-1], labels[:, 0], labels[:, -1] = -1, -1, -1, -1
