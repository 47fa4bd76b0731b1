"""The colour gradient, where a method looks for contours."""

import numpy as np
from numba import njit


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
