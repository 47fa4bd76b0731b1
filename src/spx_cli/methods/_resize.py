"""Resizing for networks whose input size fixes the count: images by bicubic interpolation, maps by nearest centre."""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.types import Image

_TAPS = 4


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Return a uint8 image of `size` (height, width), as cv2.resize with INTER_CUBIC gives it.

    Nothing is smoothed when an image shrinks: SIN and FCN are run so by their authors.
    """
    out = np.empty((*size, 3), np.uint8)
    rows, columns = (_taps(old, new) for old, new in zip(image.shape[:2], size, strict=True))
    _resample(np.ascontiguousarray(image), *rows, *columns, out)
    return out


def resize_labels(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return a label map of `size` (height, width): each pixel takes the id at its centre. No id is computed with."""
    y, x = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(labels.shape, size, strict=True))
    resized: NDArray[Any] = labels[y[:, None], x]
    return resized


# Images of a folder have few sizes; while these are computed, no other thread of the interpreter gets on.
@lru_cache(maxsize=16)
def _taps(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return for each new position its four old ones and their weights, (new, 4) each."""
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(centre).astype(np.int64)
    a, x = -0.75, centre - first
    near, far = [x, 1 - x], [x + 1, 2 - x]
    w1, w2 = (((a + 2) * d - (a + 3)) * d * d + 1 for d in near)
    w0, w3 = (((d - 5) * d + 8) * a * d - 4 * a for d in far)
    weights = np.stack([w0, w1, w2, w3], 1).astype(np.float32)
    return np.clip(first[:, None] + np.arange(-1, 3), 0, old - 1), weights


@njit(cache=True, nogil=True, error_model="numpy")
def _resample(image, y, wy, x, wx, out):
    """Resample image (H, W, 3) to out (h, w, 3); y, wy (h, 4) and x, wx (w, 4): positions and weights."""
    height, width, _ = out.shape
    lines = np.empty((_TAPS, 3 * width), np.float32)
    held = np.full(_TAPS, -1)
    for i in range(height):
        for t in range(_TAPS):
            row = y[i, t]
            # A row once resampled is kept for the next lines; row r lives in slot r % 4.
            slot = row % _TAPS
            if held[slot] != row:
                held[slot] = row
                line = lines[slot]
                for j in range(width):
                    a, b, c, d = x[j, 0], x[j, 1], x[j, 2], x[j, 3]
                    ka, kb, kc, kd = wx[j, 0], wx[j, 1], wx[j, 2], wx[j, 3]
                    for k in range(3):
                        line[3 * j + k] = (
                            ka * np.float32(image[row, a, k])
                            + kb * np.float32(image[row, b, k])
                            + kc * np.float32(image[row, c, k])
                            + kd * np.float32(image[row, d, k])
                        )
        l0, l1, l2, l3 = lines[y[i, 0] % _TAPS], lines[y[i, 1] % _TAPS], lines[y[i, 2] % _TAPS], lines[y[i, 3] % _TAPS]
        k0, k1, k2, k3 = wy[i, 0], wy[i, 1], wy[i, 2], wy[i, 3]
        final = out[i].ravel()
        for n in range(3 * width):
            value = k0 * l0[n] + k1 * l1[n] + k2 * l2[n] + k3 * l3[n]
            final[n] = np.uint8(min(max(value, np.float32(0)), np.float32(255)) + np.float32(0.5))
