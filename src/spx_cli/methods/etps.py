"""ETPS (Yao et al., CVPR 2015): real-time coarse-to-fine topologically preserving segmentation.

The energy of a map is the squared distance of every pixel to the mean colour and centre of its region, plus a price for
every pair of neighbours in different regions. Blocks on borders wait in a queue. Each moves to the neighbouring region
that lowers the energy most, if its own region stays connected and large enough, and then its neighbours queue up again.
Blocks halve until they are pixels.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.methods._blocks import REMOVABLE, cells, halve, levels, pixels, same
from spx_cli.methods._grid import grid_shape
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Image


@dataclass(frozen=True, kw_only=True)
class ETPS(Method):
    """Grid cells exchange blocks, then pixels, down an energy. Connected and of the grid's count throughout."""

    name = "etps"
    paper = "doi:10.1109/CVPR.2015.7298913"
    oversegmentation = 1.5

    position_weight: float = param(30.0, "lambda_pos, squared Lab per squared cell side of distance", ge=0, le=1e6)
    border_weight: float = param(
        40.0, "lambda_b, squared Lab per pair of 8-neighbours in different regions", ge=0, le=1e6
    )
    min_size: float = param(0.25, "share of the mean cell below which a region gives nothing away", ge=0, le=1)
    block_size: int = param(2, "pixels, least side of the smallest block", ge=2, le=1000)
    iterations: int = param(10, "most visits of a block, and then of a pixel", ge=0, le=1000)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map once no pixel waits, or none that has visits left."""
        height, width, _ = image.shape
        lab = rgb_to_lab(image)
        grid = grid_shape((height, width), n_segments)
        steps = levels((height, width), grid, self.block_size)
        cell = height * width / (grid[0] * grid[1])
        lattice = cells(grid)
        total = np.zeros((grid[0] * grid[1], 6))
        _sum_regions(lattice, steps[0].rows, steps[0].columns, lab, total)
        weights = (self.position_weight / cell, self.border_weight, self.min_size * cell)
        for step in steps[1:]:
            lattice = halve(lattice)
            _descend(lattice, step.rows, step.columns, lab, total, *weights, self.iterations, REMOVABLE)
        lattice = pixels(lattice, steps[-1])
        rows, columns = np.arange(height + 1, dtype=np.int32), np.arange(width + 1, dtype=np.int32)
        _descend(lattice, rows, columns, lab, total, *weights, self.iterations, REMOVABLE)
        return Assignment(lattice[1:-1, 1:-1], lab, POSITION)


@njit(cache=True, nogil=True)
def _sum_regions(lattice, rows, columns, lab, total):
    """lattice (h + 2, w + 2), rows (h + 1,), columns (w + 1,) int32; lab (H, W, 3); adds to total (R, 6), see _sum."""
    block = np.empty(6)
    for i in range(1, lattice.shape[0] - 1):
        for j in range(1, lattice.shape[1] - 1):
            _sum(lab, rows[i - 1], rows[i], columns[j - 1], columns[j], block)
            total[lattice[i, j]] += block


@njit(cache=True, nogil=True, inline="always")
def _sum(lab, top, bottom, left, right, block):
    """lab (H, W, 3); block (6,) float64 out: pixels, and their sums of L, a, b, y, x."""
    height, width = bottom - top, right - left
    lightness, green_red, blue_yellow = 0.0, 0.0, 0.0
    for y in range(top, bottom):
        for x in range(left, right):
            lightness += lab[y, x, 0]
            green_red += lab[y, x, 1]
            blue_yellow += lab[y, x, 2]
    block[0], block[1], block[2], block[3] = height * width, lightness, green_red, blue_yellow
    block[4] = 0.5 * height * width * (top + bottom - 1)
    block[5] = 0.5 * height * width * (left + right - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _descend(lattice, rows, columns, lab, total, position_weight, border_weight, min_size, visits, removable):
    """Arrays as in _sum_regions; lattice and total in place. position_weight per squared pixel, min_size in pixels."""
    height, width = lattice.shape[0] - 2, lattice.shape[1] - 2
    queue = np.empty(height * width, np.int32)
    state = np.zeros((height + 2, width + 2), np.int32)  # twice the visits so far, plus one while waiting
    first, waiting = 0, 0
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            if visits > 0 and _on_border(lattice, i, j):
                queue[waiting] = (i - 1) * width + j - 1
                state[i, j] = 1
                waiting += 1
    block = np.empty(6)
    while waiting > 0:
        at = queue[first]
        first = first + 1 if first + 1 < height * width else 0
        waiting -= 1
        i, j = at // width + 1, at % width + 1
        state[i, j] += 1
        own = lattice[i, j]
        ring = same(lattice, i, j)
        area = (rows[i] - rows[i - 1]) * (columns[j] - columns[j - 1])
        if not removable[ring] or total[own, 0] - area < min_size:
            continue
        _sum(lab, rows[i - 1], rows[i], columns[j - 1], columns[j], block)
        length = border_weight * np.sqrt(area)
        best, best_change = own, 0.0
        leaving = _distance(total[own], block, position_weight) * total[own, 0] * area / (total[own, 0] - area)
        leaving -= length * _held(lattice, i, j, own)
        for other in (lattice[i, j - 1], lattice[i - 1, j], lattice[i, j + 1], lattice[i + 1, j]):
            if other < 0 or other in (own, best):
                continue
            change = _distance(total[other], block, position_weight) * total[other, 0] * area / (total[other, 0] + area)
            change -= length * _held(lattice, i, j, other) + leaving
            if change < best_change:
                best, best_change = other, change
        if best == own:
            continue
        total[own] -= block
        total[best] += block
        lattice[i, j] = best
        for v, u in ((i, j - 1), (i - 1, j), (i, j + 1), (i + 1, j)):
            if lattice[v, u] >= 0 and state[v, u] & 1 == 0 and state[v, u] < 2 * visits and _on_border(lattice, v, u):
                end = first + waiting
                queue[end if end < height * width else end - height * width] = (v - 1) * width + u - 1
                state[v, u] += 1
                waiting += 1


@njit(cache=True, nogil=True, inline="always")
def _on_border(lattice, i, j):
    """lattice (h + 2, w + 2) int32; returns whether a side neighbour of the block has another owner, or none."""
    own, left, up, right, down = (
        lattice[i, j],
        lattice[i, j - 1],
        lattice[i - 1, j],
        lattice[i, j + 1],
        lattice[i + 1, j],
    )
    return (left != own) | (up != own) | (right != own) | (down != own)


@njit(cache=True, nogil=True, inline="always")
def _held(lattice, i, j, owner):
    """lattice (h + 2, w + 2) int32; returns how many of the eight blocks around (i, j) are the owner's."""
    held = 0
    for v in range(i - 1, i + 2):
        for u in range(j - 1, j + 2):
            held += lattice[v, u] == owner
    return held - (lattice[i, j] == owner)


@njit(cache=True, nogil=True, inline="always")
def _distance(region, block, position_weight):
    """region, block (6,) sums; returns the squared distance of their means."""
    r, b = 1 / region[0], 1 / block[0]
    dl, da, db = region[1] * r - block[1] * b, region[2] * r - block[2] * b, region[3] * r - block[3] * b
    dy, dx = region[4] * r - block[4] * b, region[5] * r - block[5] * b
    return dl * dl + da * da + db * db + position_weight * (dy * dy + dx * dx)
