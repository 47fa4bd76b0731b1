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


@njit(cache=True, nogil=True)
def fill_gradient(lab, base, scale, out):
    """lab (H, W, 3) float32; out (H, W) of any kind: base + scale times the length of the central differences."""
    height, width, _ = lab.shape
    half = np.float32(0.5) * scale
    for y in range(height):
        above, here, below = lab[max(y - 1, 0)], lab[y], lab[min(y + 1, height - 1)]
        row = out[y]
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            total = np.float32(0)
            for c in range(3):
                across, down = here[right, c] - here[left, c], below[x, c] - above[x, c]
                total += across * across + down * down
            row[x] = base + half * np.sqrt(total)
