"""Lab freed of noise, for methods that would otherwise follow it."""

import numpy as np
from numba import njit

from spx_cli.types import Features


def smooth(lab: Features, passes: int) -> Features:
    """Return (H, W, C) float32 after `passes` of the 3 x 3 binomial filter; edge pixels are repeated outwards."""
    for _ in range(passes):
        out = np.empty_like(lab)
        _binomial(lab.reshape(len(lab), -1), lab.shape[2], out.reshape(len(lab), -1))
        lab = out
    return lab


@njit(cache=True, nogil=True)
def _binomial(image, channels, out):
    """image, out (H, W * channels) float32."""
    height, width = image.shape
    quarter, half = np.float32(0.25), np.float32(0.5)
    row = np.empty(width + 2 * channels, np.float32)
    # Views that all begin at 0: a loop over them is one that the compiler vectorises.
    left, middle, right = row[:width], row[channels : channels + width], row[2 * channels :]
    for y in range(height):
        above, here, below, target = image[max(y - 1, 0)], image[y], image[min(y + 1, height - 1)], out[y]
        for x in range(width):
            middle[x] = quarter * (above[x] + below[x]) + half * here[x]
        for c in range(channels):
            left[c], right[width - channels + c] = middle[c], middle[width - channels + c]
        for x in range(width):
            target[x] = quarter * (left[x] + right[x]) + half * middle[x]
