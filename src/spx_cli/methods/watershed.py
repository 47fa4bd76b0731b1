"""Waterpixels (Machairas et al., IEEE TIP 2015): a watershed of one marker per grid cell on a regularised gradient.

The marker of a cell is its lowest pixel, away from the cell's frame. The distance to the marker is added to the
gradient, so that basins meet on edges where there are some, and halfway between markers where the image is flat. As in
the compact watershed of Neubert and Protzel (ICPR 2014) it is the distance to the marker that the flood comes from,
which needs no distance map.

Gradient and basins share one map of int32: what is below zero is unlabelled, of level -1 - value, the rest a label.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numba import njit

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.methods._gradient import fill_gradient
from spx_cli.methods._grid import grid_seeds, grid_shape
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Image

_LEVELS = 1024  # of one unit of Lab each; what lies above the last is flooded with it
_CHUNK = 256  # pixels in a link of a queue
_STRIP = 2**20  # pixels flooded at a time: the map must stay in the cache, since a flood is everywhere at once
_HALO = 1  # rows of cells flooded on either side of a strip too: basins reach further for about .1 % of the pixels


@dataclass(frozen=True, kw_only=True)
class Watershed(Method):
    """Floods the colour gradient from one marker per grid cell. Connected, and of the grid's count."""

    name = "watershed"
    paper = "doi:10.1109/TIP.2015.2451011"
    oversegmentation = 3.0

    compactness: float = param(
        1.0, "k, Lab units that the level rises over half a cell side from the marker", ge=0, le=1e6
    )
    shrink: float = param(0.67, "share of a cell's side in which its marker is searched", ge=0.001, le=1)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the basins of the markers."""
        height, width, _ = image.shape
        lab = rgb_to_lab(image)
        basins = np.empty((height + 2, width + 2), np.int32)
        fill_gradient(lab, np.float32(-1), np.float32(-1), basins[1:-1, 1:-1])
        rows, columns = grid_shape((height, width), n_segments)
        rise = np.float32(2 * self.compactness / sqrt(height * width / (rows * columns)))
        markers = grid_seeds((height, width), n_segments)
        _sink(basins, rise, 0.5 * self.shrink * height / rows, 0.5 * self.shrink * width / columns, markers)
        labels = np.empty((height, width), np.int32)
        step = max(8 * _HALO, _STRIP * rows // (height * width))
        for first in range(0, rows, step):
            last = min(first + step, rows)
            above, below = max(first - _HALO, 0), min(last + _HALO, rows)
            top, bottom = above * height // rows, -(-below * height // rows)
            strip = basins[top : bottom + 2].copy()
            _flood(strip, rise, markers[above * columns : below * columns] - np.array([top, 0], np.float32))
            inner = slice(first * height // rows, last * height // rows)
            np.add(strip[1:-1, 1:-1][inner.start - top : inner.stop - top], above * columns, out=labels[inner])
        return Assignment(labels, lab, POSITION)


@njit(cache=True, nogil=True)
def _sink(basins, rise, reach_y, reach_x, markers):
    """basins (H + 2, W + 2) int32; markers (K, 2) as (y, x), moved to the lowest level within reach, in place."""
    height, width = basins.shape[0] - 2, basins.shape[1] - 2
    for k in range(len(markers)):
        y0, x0 = markers[k]
        lowest = np.inf
        for y in range(max(int(np.ceil(y0 - reach_y)), 0), min(int(y0 + reach_y) + 1, height)):
            for x in range(max(int(np.ceil(x0 - reach_x)), 0), min(int(x0 + reach_x) + 1, width)):
                level = rise * np.sqrt((y - y0) ** 2 + (x - x0) ** 2) - 1 - basins[y + 1, x + 1]
                if level < lowest:
                    lowest = level
                    markers[k, 0], markers[k, 1] = y, x


@njit(cache=True, nogil=True)
def _flood(basins, rise, markers):
    """basins (H + 2, W + 2) int32, flooded in place but for its frame; markers (K, 2) as (y, x).

    One queue per level, first in first out; a pixel takes the label of the neighbour that reaches it first. Queues are
    chains of chunks: a list linked through the pixels would wait for memory at each step.
    """
    stride, flat = basins.shape[1], basins.reshape(-1)
    basins[0], basins[-1], basins[:, 0], basins[:, -1] = 0, 0, 0, 0
    chunks = len(markers) // _CHUNK + 1
    queue = np.empty((basins.size // _CHUNK + _LEVELS + chunks + 2) * _CHUNK, np.int32)
    follow = np.arange(1, len(queue) // _CHUNK + 1)
    begin, end = np.full(_LEVELS + 1, -1, np.int64), np.full(_LEVELS + 1, -1, np.int64)
    begin[0], end[0] = 0, 0
    for k in range(len(markers)):
        at = (int(markers[k, 0] + 0.5) + 1) * stride + int(markers[k, 1] + 0.5) + 1
        if flat[at] < 0:
            flat[at] = k
            queue[end[0]] = at
            end[0] += 1
    per_stride = 1.0 / stride
    for level in range(_LEVELS + 1):
        i = begin[level]
        while i != end[level]:
            if i % _CHUNK == 0 and i != begin[level]:
                i = follow[i // _CHUNK - 1] * _CHUNK
            at = queue[i]
            i += 1
            label, row = flat[at], int((at + 0.5) * per_stride)
            dy = np.float32(row - 1) - markers[label, 0]
            dx = np.float32(at - row * stride - 1) - markers[label, 1]
            for step, v, u in ((-stride, -1, 0), (-1, 0, -1), (1, 0, 1), (stride, 1, 0)):
                near = at + step
                value = flat[near]
                if value >= 0:
                    continue
                flat[near] = label
                distance = np.sqrt((dy + np.float32(v)) ** 2 + (dx + np.float32(u)) ** 2)
                goal = min(max(int(rise * distance) - 1 - value, level), _LEVELS)
                to = end[goal]
                if to < 0 or to % _CHUNK == 0:
                    if to < 0:
                        begin[goal] = chunks * _CHUNK
                    else:
                        follow[to // _CHUNK - 1] = chunks
                    to = chunks * _CHUNK
                    chunks += 1
                queue[to] = near
                end[goal] = to + 1
