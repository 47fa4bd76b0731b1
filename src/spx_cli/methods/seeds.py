"""SEEDS (Van den Bergh et al., ECCV 2012; IJCV 2015) and its revision reSEEDS (Stutz, 2014).

Grid cells exchange ever smaller blocks, then pixels, with their neighbours: a block goes where the colour histogram
holds more of its colours. reSEEDS moves pixels to the nearer mean colour and centre instead.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.methods._blocks import REMOVABLE, Lattice, cells, halve, levels, pixels, same
from spx_cli.methods._grid import grid_shape
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Features, Image


@dataclass(frozen=True, kw_only=True)
class SEEDS(Method):
    """Grid cells exchange blocks, then pixels, by colour histogram. Connected and of the grid's count throughout."""

    name = "seeds"
    paper = "doi:10.1007/s11263-014-0744-2"
    oversegmentation = 1.5

    bins: int = param(5, "histogram bins per Lab channel, each with an equal share of the pixels", ge=1, le=16)
    block_size: int = param(3, "pixels, least side of the smallest block", ge=2, le=1000)
    block_iterations: int = param(1, "sweeps over the blocks of each size", ge=0, le=1000)
    iterations: int = param(2, "sweeps over the pixels", ge=0, le=1000)
    prior: float = param(
        2.0, "smoothness, exponent of the share of the 3 x 3 neighbourhood a region holds", ge=0, le=100
    )

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map that the last sweep leaves."""
        lab = rgb_to_lab(image)
        lattice, bins, histogram = _exchange_blocks(lab, n_segments, self.bins, self.block_size, self.block_iterations)
        share = (np.arange(10, dtype=np.float32) / 9) ** np.float32(self.prior)
        for _ in range(self.iterations):
            _sweep_pixels(lattice, bins, histogram, share, REMOVABLE)
        return Assignment(lattice[1:-1, 1:-1], lab, POSITION)


@dataclass(frozen=True, kw_only=True)
class RESEEDS(Method):
    """SEEDS with pixels moved by mean colour and centre. Connected and of the grid's count throughout."""

    name = "reseeds"
    paper = "D. Stutz, Superpixel Segmentation using Depth Information, RWTH Aachen, 2014"
    oversegmentation = 1.25

    bins: int = param(7, "histogram bins per Lab channel, each with an equal share of the pixels", ge=1, le=16)
    block_size: int = param(2, "pixels, least side of the smallest block", ge=2, le=1000)
    block_iterations: int = param(2, "sweeps over the blocks of each size", ge=0, le=1000)
    iterations: int = param(8, "most sweeps over the pixels", ge=0, le=1000)
    compactness: float = param(
        10.0, "weight of distance in position, in cell sides, against distance in Lab", ge=0, le=1e6
    )

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map that the last sweep leaves."""
        lab = rgb_to_lab(image)
        lattice, _, histogram = _exchange_blocks(lab, n_segments, self.bins, self.block_size, self.block_iterations)
        weight = self.compactness**2 * len(histogram) / lab[..., 0].size
        _sweep_means(lattice, lab, len(histogram), weight, self.iterations, REMOVABLE)
        return Assignment(lattice[1:-1, 1:-1], lab, POSITION)


def _exchange_blocks(
    lab: Features, n_segments: int, per_channel: int, block_size: int, iterations: int
) -> tuple[Lattice, NDArray[np.int32], NDArray[np.int32]]:
    """Return the lattice of pixels after the blocks of all sizes, the bin of each pixel and the regions' histograms.

    lab : (H, W, 3).
    """
    height, width, _ = lab.shape
    grid = grid_shape((height, width), n_segments)
    # At most four bins per pixel of a cell: finer histograms of tiny cells would only cost memory.
    per_channel = min(per_channel, round((4 * height * width / (grid[0] * grid[1])) ** (1 / 3)))
    bins = np.empty((height, width), np.int32)
    _fill_bins(lab, per_channel, bins)
    steps = levels((height, width), grid, block_size)
    lattice = cells(grid)
    histogram = np.zeros((grid[0] * grid[1], per_channel**3), np.int32)
    _count(pixels(lattice, steps[0]), bins, histogram)
    for step in steps[1:]:
        lattice = halve(lattice)
        for _ in range(iterations):
            _sweep_blocks(lattice, step.rows, step.columns, bins, histogram, REMOVABLE)
    return pixels(lattice, steps[-1]), bins, histogram


@njit(cache=True, nogil=True)
def _fill_bins(lab, per_channel, bins):
    """lab (H, W, 3) float32; bins (H, W) int32 out: joint bin of channels cut into equal shares of pixels."""
    height, width, _ = lab.shape
    count = np.zeros((3, 256), np.int32)
    for y in range(height):
        for x in range(width):
            count[0, int(lab[y, x, 0] * np.float32(2.55))] += 1
            count[1, int(lab[y, x, 1] + np.float32(128))] += 1
            count[2, int(lab[y, x, 2] + np.float32(128))] += 1
    table = np.zeros((3, 256), np.int32)
    for c in range(3):
        below = 0
        for i in range(256):
            table[c, i] = (2 * below + count[c, i]) * per_channel // (2 * height * width)
            below += count[c, i]
    for y in range(height):
        for x in range(width):
            i = table[0, int(lab[y, x, 0] * np.float32(2.55))]
            j = table[1, int(lab[y, x, 1] + np.float32(128))]
            k = table[2, int(lab[y, x, 2] + np.float32(128))]
            bins[y, x] = (i * per_channel + j) * per_channel + k


@njit(cache=True, nogil=True)
def _count(lattice, bins, histogram):
    """lattice (H + 2, W + 2), bins (H, W), histogram (R, Q) int32 out."""
    height, width = bins.shape
    for y in range(height):
        for x in range(width):
            histogram[lattice[y + 1, x + 1], bins[y, x]] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep_blocks(lattice, rows, columns, bins, histogram, removable):
    """lattice (h + 2, w + 2), rows (h + 1,), columns (w + 1,), bins (H, W), histogram (R, Q), all int32; in place."""
    size = histogram.sum(1)
    count = np.zeros(histogram.shape[1], np.int32)
    present = np.empty(histogram.shape[1], np.int32)
    for i in range(1, lattice.shape[0] - 1):
        for j in range(1, lattice.shape[1] - 1):
            own = lattice[i, j]
            left, up, right, down = lattice[i, j - 1], lattice[i - 1, j], lattice[i, j + 1], lattice[i + 1, j]
            if (left == own) & (up == own) & (right == own) & (down == own) or not removable[same(lattice, i, j)]:
                continue
            kinds = 0
            for y in range(rows[i - 1], rows[i]):
                for x in range(columns[j - 1], columns[j]):
                    q = bins[y, x]
                    if count[q] == 0:
                        present[kinds] = q
                        kinds += 1
                    count[q] += 1
            area = (rows[i] - rows[i - 1]) * (columns[j] - columns[j - 1])
            # The intersection of the two normalised histograms, times the block's area.
            best, best_shared, scale = own, 0.0, area / (size[own] - area)
            for k in range(kinds):
                q = present[k]
                best_shared += min(float(count[q]), (histogram[own, q] - count[q]) * scale)
            for other in (left, up, right, down):
                if other < 0 or other in (own, best):
                    continue
                shared, scale = 0.0, area / size[other]
                for k in range(kinds):
                    q = present[k]
                    shared += min(float(count[q]), histogram[other, q] * scale)
                if shared > best_shared:
                    best, best_shared = other, shared
            for k in range(kinds):
                q = present[k]
                histogram[own, q] -= count[q]
                histogram[best, q] += count[q]
                count[q] = 0
            size[own] -= area
            size[best] += area
            lattice[i, j] = best


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep_pixels(lattice, bins, histogram, share, removable):
    """Arrays as in _sweep_blocks; share (10,) float32: factor for the count of a region in the 3 x 3 pixels."""
    size = histogram.sum(1).astype(np.float32)
    for i in range(1, lattice.shape[0] - 1):
        for j in range(1, lattice.shape[1] - 1):
            own = lattice[i, j]
            left, up, right, down = lattice[i, j - 1], lattice[i - 1, j], lattice[i, j + 1], lattice[i + 1, j]
            if (left == own) & (up == own) & (right == own) & (down == own) or not removable[same(lattice, i, j)]:
                continue
            q = bins[i - 1, j - 1]
            best = own
            best_value = share[_held(lattice, i, j, own)] * np.float32(histogram[own, q] - 1) / (size[own] - 1)
            for other in (left, up, right, down):
                if other < 0 or other in (own, best):
                    continue
                value = share[_held(lattice, i, j, other) + 1] * np.float32(histogram[other, q]) / size[other]
                if value > best_value:
                    best, best_value = other, value
            if best != own:
                histogram[own, q] -= 1
                histogram[best, q] += 1
                size[own] -= 1
                size[best] += 1
                lattice[i, j] = best


@njit(cache=True, nogil=True, inline="always")
def _held(lattice, i, j, owner):
    """lattice (H + 2, W + 2) int32; returns how many of the nine pixels around (i, j) are the owner's."""
    held = 0
    for y in range(i - 1, i + 2):
        for x in range(j - 1, j + 2):
            held += lattice[y, x] == owner
    return held


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep_means(lattice, lab, count, weight, iterations, removable):
    """lattice (H + 2, W + 2) int32, in place; lab (H, W, 3) float32; weight of squared pixels against squared Lab."""
    height, width, _ = lab.shape
    total = np.zeros((count, 8), np.float64)  # pixels, sums of L, a, b, y, x; 8 wide to fill a cache line
    for y in range(height):
        for x in range(width):
            _move(total[lattice[y + 1, x + 1]], lab, y, x, 1)
    for _ in range(iterations):
        moved = 0
        for i in range(1, height + 1):
            for j in range(1, width + 1):
                own = lattice[i, j]
                left, up, right, down = lattice[i, j - 1], lattice[i - 1, j], lattice[i, j + 1], lattice[i + 1, j]
                if (left == own) & (up == own) & (right == own) & (down == own) or not removable[same(lattice, i, j)]:
                    continue
                best, best_value = own, _distance(total[own], lab, i - 1, j - 1, weight)
                for other in (left, up, right, down):
                    if other < 0 or other in (own, best):
                        continue
                    value = _distance(total[other], lab, i - 1, j - 1, weight)
                    if value < best_value:
                        best, best_value = other, value
                if best != own:
                    _move(total[own], lab, i - 1, j - 1, -1)
                    _move(total[best], lab, i - 1, j - 1, 1)
                    lattice[i, j] = best
                    moved += 1
        if moved == 0:
            break


@njit(cache=True, nogil=True, inline="always")
def _move(total, lab, y, x, sign):
    """total (8,) float64 of a region; lab (H, W, 3). Adds the pixel for sign 1, takes it away for -1."""
    total[0] += sign
    for c in range(3):
        total[1 + c] += sign * lab[y, x, c]
    total[4] += sign * y
    total[5] += sign * x


@njit(cache=True, nogil=True, inline="always")
def _distance(total, lab, y, x, weight):
    """total (8,) float64 of a region; lab (H, W, 3). Returns the squared distance of the pixel to the region's mean."""
    scale = 1 / total[0]
    color = 0.0
    for c in range(3):
        difference = lab[y, x, c] - total[1 + c] * scale
        color += difference * difference
    dy, dx = y - total[4] * scale, x - total[5] * scale
    return color + weight * (dy * dy + dx * dx)
