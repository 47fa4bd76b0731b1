"""Colour metrics: how uniform superpixels are, from sums of the RGB values and positions of each."""

from math import nan
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.errors import ImageError, LabelError
from spx_cli.regions.maps import Groups
from spx_cli.types import Image


class Moments(NamedTuple):
    """Sums over the pixels of each of K superpixels, of C channels; float64, exact below 2^53.

    sizes : (K,); sums : (K, C); squares : (K,), the sum over all channels.
    """

    sizes: NDArray[np.float64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def scatter(self) -> NDArray[np.float64]:
        """Sum of squared distances to the mean, per superpixel; float64 (K,)."""
        # Shifted by the mean's integer part, so that no large squares cancel.
        base = np.floor(self.sums / self.sizes[:, None])
        rest = self.sums - self.sizes[:, None] * base
        squares = self.squares - 2 * (base * self.sums).sum(1) + self.sizes * np.square(base).sum(1)
        scatter: NDArray[np.float64] = squares - np.square(rest).sum(1) / self.sizes
        return scatter

    @property
    def total(self) -> "Moments":
        """The moments of the whole image."""
        return Moments(self.sizes.sum(keepdims=True), self.sums.sum(0, keepdims=True), self.squares.sum(keepdims=True))


def moments(groups: Groups, image: Image) -> Moments:
    """Return the colour moments of each superpixel; ImageError unless uint8, LabelError when the sizes differ."""
    if image.dtype != np.uint8:
        raise ImageError(f"an image must be uint8 (H, W, 3), not {image.dtype}; spx_cli.read_image converts files")
    if image.shape != (*groups.ids.shape, 3):
        raise LabelError(f"sizes differ: the label map is {groups.ids.shape}, the image {image.shape}")
    sums, squares = np.zeros((len(groups.sizes), 3)), np.zeros(len(groups.sizes))
    _colour_sums(groups.ids, np.require(image, requirements=("C", "W")), sums, squares)
    return Moments(groups.sizes.astype(np.float64), sums, squares)


@njit(cache=True, nogil=True)
def _colour_sums(ids, image, sums, squares):
    """ids (H, W) int32; image (H, W, 3) uint8; sums (K, 3) and squares (K,) float64 zeros, filled."""
    height, width = ids.shape
    for y in range(height):
        x = 0
        while x < width:
            i = ids[y, x]
            r = g = b = q = np.int64(0)
            # A run of one label is summed in registers.
            while x < width and ids[y, x] == i:
                cr, cg, cb = np.int64(image[y, x, 0]), np.int64(image[y, x, 1]), np.int64(image[y, x, 2])
                r += cr
                g += cg
                b += cb
                q += cr * cr + cg * cg + cb * cb
                x += 1
            sums[i, 0] += r
            sums[i, 1] += g
            sums[i, 2] += b
            squares[i] += q


def positions(groups: Groups) -> Moments:
    """Return the moments of the (y, x) positions of each superpixel."""
    sums, squares = np.zeros((len(groups.sizes), 2)), np.zeros(len(groups.sizes))
    _position_sums(groups.ids, sums, squares)
    return Moments(groups.sizes.astype(np.float64), sums, squares)


@njit(cache=True, nogil=True)
def _position_sums(ids, sums, squares):
    """ids (H, W) int32; sums (K, 2) and squares (K,) float64 zeros, filled."""
    height, width = ids.shape
    for y in range(height):
        x = 0
        while x < width:
            i, first = ids[y, x], x
            along = square = 0.0
            while x < width and ids[y, x] == i:
                along += x
                square += x * x
                x += 1
            sums[i, 0] += y * (x - first)
            sums[i, 1] += along
            squares[i] += square + float(y) * y * (x - first)


def explained_variation(colours: Moments) -> float:
    """Share of the colour variance that the superpixels' mean colours explain, 0 to 1; higher is better.

    sum_p |mean_S(p) - mean|^2 / sum_p |I_p - mean|^2 over RGB, Moore et al. (CVPR 2008). NaN on a constant image.

    >>> explained_variation(moments(group(np.array([[0, 1]])), np.array([[[0, 0, 0], [9, 9, 9]]], np.uint8)))
    1.0
    """
    total = float(colours.total.scatter[0])
    return 1 - float(colours.scatter.sum()) / total if total else nan


def squared_error(colours: Moments) -> float:
    """Mean over pixels of the squared RGB distance to the superpixel's mean colour, from 0; lower is better (SSE_RGB).

    >>> squared_error(moments(group(np.array([[0, 0]])), np.array([[[0, 0, 0], [2, 2, 2]]], np.uint8)))
    3.0
    """
    return float(colours.scatter.sum() / colours.sizes.sum())


def squared_position_error(places: Moments) -> float:
    """Mean over pixels of the squared distance in pixels to the superpixel's centre, from 0; lower is better (SSE_XY).

    >>> squared_position_error(positions(group(np.array([[0, 0, 1, 1]]))))
    0.25
    """
    return float(places.scatter.sum() / places.sizes.sum())


def intra_cluster_variation(colours: Moments) -> float:
    """Mean over superpixels of the standard deviation of their colours, from 0; lower is better.

    (1/K) sum_j sqrt((1/|S_j|) sum_{p in S_j} |I_p - mean_j|^2), Benesova and Kottman (2014). K counts the superpixels
    that have pixels (the benchmark takes the largest id + 1, so gaps in the ids lower its value).

    >>> intra_cluster_variation(moments(group(np.array([[0, 0]])), np.array([[[0, 0, 0], [2, 0, 0]]], np.uint8)))
    1.0
    """
    # Rounding may leave a scatter just below zero.
    return float(np.sqrt(np.maximum(colours.scatter, 0) / colours.sizes).mean())
