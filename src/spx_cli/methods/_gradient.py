"""Contours that need no labels: the gradient of colour, and the classical detectors."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.types import Contours, Image


def sobel(image: Image) -> Contours:
    """Return Sobel's gradient of the brightness, float32 (H, W); 1 from a quarter of the range per pixel on."""
    from skimage import color, filters

    strength: Contours = filters.sobel(color.rgb2gray(image)).astype(np.float32)
    return (4 * strength).clip(0, 1)


def canny(image: Image) -> Contours:
    """Return Canny's contours of the brightness, 0 or 1, float32 (H, W)."""
    from skimage import color, feature

    found: NDArray[np.bool_] = feature.canny(color.rgb2gray(image), sigma=1.5)
    return found.astype(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def fill_gradient(lab, base, scale, out):
    """lab (H, W, 3) float32; out (H, W) of any kind: base + scale times the length of the central differences."""
    height, width, _ = lab.shape
    half, count = np.float32(0.5) * scale, 3 * width
    rows, change = lab.reshape(height, count), np.empty(count, np.float32)
    inside, last = change[3 : count - 3], count - 3
    for y in range(height):
        above, here, below, row = rows[max(y - 1, 0)], rows[y], rows[min(y + 1, height - 1)], out[y]
        left, right = here[: count - 6], here[6:]
        for i in range(count - 6):
            inside[i] = right[i] - left[i]
        for c in range(3):
            change[c], change[last + c] = here[min(3, last) + c] - here[c], here[last + c] - here[max(last - 3, 0) + c]
        for i in range(count):
            down = below[i] - above[i]
            change[i] = change[i] * change[i] + down * down
        for x in range(width):
            row[x] = base + half * np.sqrt(change[3 * x] + change[3 * x + 1] + change[3 * x + 2])
