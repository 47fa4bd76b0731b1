"""Manifold SLIC (Liu et al., CVPR 2016): small superpixels where the image has content, large ones where it has none.

The map (y, x) -> (y / S, x / S, Lab / m) makes the image a surface in five dimensions, whose area is large where colour
changes. Seeds have equal shares of that area, and each searches a window whose side shrinks with the area around it.
The rest is SLIC.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numba import njit

from spx_cli.color import FIXED_POINT, POSITION, lab_planes
from spx_cli.methods._grid import grid_shape
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Image

_BAND = 64  # rows in which distances are kept at a time, so that they stay in the cache


@dataclass(frozen=True, kw_only=True)
class ManifoldSLIC(Method):
    """Content-sensitive superpixels: SLIC from seeds, and in windows, of equal area on the image's surface."""

    name = "mslic"
    paper = "doi:10.1109/CVPR.2016.77"
    oversegmentation = 1.5

    compactness: float = param(
        16.0, "N_c, Lab units that weigh as much as the mean spacing of the seeds", ge=0.01, le=1e6
    )
    stretch: float = param(4.0, "bound of a window's side, as a factor or divisor of SLIC's", ge=1, le=16)
    iterations: int = param(12, "rounds of k-means", ge=1, le=1000)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map of the nearest centres; it may be disconnected."""
        height, width, _ = image.shape
        planes = lab_planes(image)
        rows, columns = grid_shape((height, width), n_segments)
        spacing = sqrt(height * width / (rows * columns))
        per_lab = spacing / (self.compactness * FIXED_POINT)
        area = np.zeros((height + 1, width + 1), np.float64)
        _sum_areas(planes, np.float32(per_lab * per_lab), area)
        labels = np.zeros((height, width), np.int32)
        seeds = np.empty((rows * columns, 2), np.float32)
        _place_seeds(area, rows, columns, seeds, labels)
        _kmeans(planes, area, seeds, spacing, per_lab * per_lab, self.stretch, self.iterations, labels)
        return Assignment(labels, planes.transpose(1, 2, 0), POSITION * FIXED_POINT, unit=FIXED_POINT)


@njit(cache=True, nogil=True)
def _sum_areas(planes, color_weight, area):
    """planes (3, H, W) int16; area (H + 1, W + 1) float64, zero on entry: of all pixels above and left, in flat pixels.

    A pixel's area is that of the parallelogram of its two tangents, by central differences (equation 3).
    """
    _, height, width = planes.shape
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        row = 0.0
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            across, along, mixed = np.float32(0), np.float32(0), np.float32(0)
            for c in range(3):
                dx = np.float32(0.5) * np.float32(planes[c, y, right] - planes[c, y, left])
                dy = np.float32(0.5) * np.float32(planes[c, down, x] - planes[c, up, x])
                across += dx * dx
                along += dy * dy
                mixed += dx * dy
            across, along, mixed = color_weight * across, color_weight * along, color_weight * mixed
            row += np.sqrt((1 + across) * (1 + along) - mixed * mixed)
            area[y + 1, x + 1] = area[y, x + 1] + row


@njit(cache=True, nogil=True)
def _place_seeds(area, rows, columns, seeds, labels):
    """area (H + 1, W + 1) sums; seeds (rows * columns, 2) as (y, x) out, the middles of cells; labels (H, W) out.

    Inverse transform sampling: the image is cut into bands of equal area, and each band into cells of equal area.
    """
    height, width = labels.shape
    bottom = 0
    for i in range(rows):
        top, bottom = bottom, bottom + 1
        while bottom < height - (rows - 1 - i) and area[bottom, width] < area[height, width] * (i + 1) / rows:
            bottom += 1
        right, whole = 0, area[bottom, width] - area[top, width]
        for j in range(columns):
            left, right = right, right + 1
            while (
                right < width - (columns - 1 - j) and area[bottom, right] - area[top, right] < whole * (j + 1) / columns
            ):
                right += 1
            seeds[i * columns + j, 0], seeds[i * columns + j, 1] = 0.5 * (top + bottom - 1), 0.5 * (left + right - 1)
            labels[top:bottom, left:right] = i * columns + j
        labels[top:bottom, right:] = i * columns + columns - 1
    labels[bottom:] = labels[bottom - 1]


@njit(cache=True, nogil=True, error_model="numpy")
def _kmeans(planes, area, seeds, spacing, color_weight, stretch, iterations, labels):
    """planes (3, H, W) int16; area (H + 1, W + 1); seeds (K, 2) as (y, x); labels (H, W) int32 in place."""
    _, height, width = planes.shape
    count = len(seeds)
    centres, total = np.empty((count, 5), np.float32), np.empty((count, 6), np.float64)
    for k in range(count):
        y, x = seeds[k]
        for c in range(3):
            centres[k, c] = planes[c, int(y + 0.5), int(x + 0.5)]
        centres[k, 3], centres[k, 4] = y, x
    nearest, half = np.empty((_BAND, width), np.float32), np.empty(count, np.float32)
    share = 4 * area[height, width] / count  # the mean area of SLIC's window, twice the spacing a side
    for turn in range(iterations):
        for k in range(count):
            y, x = centres[k, 3], centres[k, 4]
            top, bottom = max(int(y - spacing + 0.5), 0), min(int(y + spacing + 0.5) + 1, height)
            left, right = max(int(x - spacing + 0.5), 0), min(int(x + spacing + 0.5) + 1, width)
            inside = area[bottom, right] - area[top, right] - area[bottom, left] + area[top, left]
            # A window cut by the frame is as rich as what is left of it.
            inside *= 4 * spacing * spacing / ((bottom - top) * (right - left))
            half[k] = spacing * min(max(np.sqrt(share / inside), 1 / stretch), stretch)
        for band in range(0, height, _BAND):
            _claim(centres, half, band, planes, np.float32(color_weight), nearest, labels)
        if turn < iterations - 1:
            _update(planes, labels, total, centres)


@njit(cache=True, nogil=True, error_model="numpy")
def _claim(centres, half, band, planes, color_weight, nearest, labels):
    """Give the pixels of a band to the nearest of centres (K, 5), each in its window of +- half (K,) pixels.

    nearest : (rows of a band, W) scratch. labels : (H, W) out, rows from `band` on.
    """
    _, height, width = planes.shape
    nearest[:] = np.inf
    for k in range(len(centres)):
        l0, a0, b0, y0, x0 = centres[k]
        top = max(int(y0 - half[k] + np.float32(0.5)), band)
        bottom = min(int(y0 + half[k] + np.float32(0.5)) + 1, band + len(nearest), height)
        left, right = max(int(x0 - half[k] + 0.5), 0), min(int(x0 + half[k] + 0.5) + 1, width)
        shift = np.float32(left) - x0
        for y in range(top, bottom):
            from_row = (np.float32(y) - y0) ** 2
            lightness, green_red = planes[0, y, left:right], planes[1, y, left:right]
            blue_yellow = planes[2, y, left:right]
            best, owner = nearest[y - band, left:right], labels[y, left:right]
            for i in range(right - left):
                dl = np.float32(lightness[i]) - l0
                da = np.float32(green_red[i]) - a0
                db = np.float32(blue_yellow[i]) - b0
                dx = shift + np.float32(i)
                distance = color_weight * (dl * dl + da * da + db * db) + (from_row + dx * dx)
                # Both stores on either way: a loop without branches is one that the compiler vectorises.
                before, was = best[i], owner[i]
                best[i] = min(distance, before)
                owner[i] = np.int32(k) if distance < before else was


@njit(cache=True, nogil=True, error_model="numpy")
def _update(planes, labels, total, centres):
    """planes (3, H, W), labels (H, W), total (K, 6) float64 scratch; centres (K, 5) move to their means."""
    _, height, width = planes.shape
    total[:] = 0
    for y in range(height):
        start = 0
        while start < width:
            # Sum along the run first: adding to the region pixel by pixel waits on memory.
            k, stop = labels[y, start], start
            l0, a0, b0 = 0, 0, 0
            while stop < width and labels[y, stop] == k:
                l0 += planes[0, y, stop]
                a0 += planes[1, y, stop]
                b0 += planes[2, y, stop]
                stop += 1
            n = stop - start
            total[k, 0] += l0
            total[k, 1] += a0
            total[k, 2] += b0
            total[k, 3] += n * y
            total[k, 4] += 0.5 * n * (start + stop - 1)
            total[k, 5] += n
            start = stop
    for k in range(len(centres)):
        if total[k, 5] > 0:
            for c in range(5):
                centres[k, c] = total[k, c] / total[k, 5]
