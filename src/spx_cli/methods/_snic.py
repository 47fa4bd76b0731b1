"""What SNIC and SEN share: growth of connected regions on any feature map, nearest pixel first."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.methods._grid import grid_seeds
from spx_cli.types import Labels

# The queue sorts float32 keys by their leading bits: 8 buckets from one power of two to the next. Finer ones score
# the same and take longer, because growth then jumps about the image more.
_SHIFT = 20
_BUCKETS = 0x7F800000 >> _SHIFT
_LARGE = 1 << 20  # pixels
_TAKEN = np.float32(-1)  # below every key: a labelled pixel, or the frame around the image


def grow(features: NDArray[Any], n_segments: int, compactness: float) -> Labels:
    """Return the regions that SNIC grows on any feature map, int32 (H, W): 4-connected, one per cell of the seed grid.

    features : float32 (H, W, C). A pixel at distance dx from a region's centre and df from its mean feature joins it
    at the key |dx|^2 / s + |df|^2 / m (Eq. 1 squared), s = H W / n_segments, m = compactness.
    """
    height, width, channels = features.shape
    seeds = grid_seeds((height, width), n_segments)
    pixels = np.empty((height + 2, width + 2, channels + 1), np.float32)
    _frame(features, pixels)
    labels = np.empty((height, width), np.int32)
    # The mean of millions of pixels stands still in float32; float64 takes a tenth longer.
    centre = np.zeros((len(seeds), channels + 3), np.float64 if labels.size > _LARGE else np.float32)
    _grow(pixels, seeds, np.float32(len(seeds) / (height * width)), np.float32(1 / compactness), centre, labels)
    return labels


@njit(cache=True, nogil=True)
def _frame(features, pixels):
    """features (H, W, C); pixels (H + 2, W + 2, 1 + C) out, as `_grow` wants them."""
    height, width, channels = features.shape
    for y in range(height + 2):
        for x in range(width + 2):
            inside = 0 < y <= height and 0 < x <= width
            pixels[y, x, 0] = np.float32(np.inf) if inside else _TAKEN
            if inside:
                for c in range(channels):
                    pixels[y, x, c + 1] = features[y - 1, x - 1, c]


@njit(cache=True, nogil=True, error_model="numpy")
def _grow(pixels, seeds, per_area, per_feature, centre, labels):
    """pixels (H + 2, W + 2, 1 + C) float32: lowest key queued, features; seeds (K, 2); labels (H, W) int32 out.

    centre (K, C + 3) zeros: mean features, then mean y, mean x, and pixels.

    A queue of buckets replaces the paper's heap: keys in one bucket differ by under 12.5 % and leave it last in, first
    out. A pixel is queued again only for a lower key, for the entry with the lowest key is the one that labels it.
    """
    stride, width, channels = pixels.shape[1], labels.shape[1], pixels.shape[2] - 1
    pixel, label = pixels.reshape(-1, channels + 1), labels.reshape(-1)
    count, rows_per_pixel = len(seeds), 1.0 / stride
    head = np.full(_BUCKETS + 1, -1, np.int32)
    entry = np.empty((2 * count + 1024, 3), np.int32)  # pixel, label, next in its bucket
    free, used = -1, count
    key = np.zeros(1, np.float32)
    key_bits = key.view(np.int32)
    for k in range(count):
        p = (int(seeds[k, 0] + 0.5) + 1) * stride + int(seeds[k, 1] + 0.5) + 1
        pixel[p, 0] = 0.0
        entry[k, 0], entry[k, 1], entry[k, 2] = p, k, head[0]
        head[0] = k
    steps, down, right = (1, stride, -1, -stride), (0, 1, 0, -1), (1, 0, -1, 0)
    bucket = 0
    while bucket <= _BUCKETS:
        e = head[bucket]
        if e < 0:
            bucket += 1
            continue
        p, k = entry[e, 0], entry[e, 1]
        head[bucket], entry[e, 2], free = entry[e, 2], free, e
        if pixel[p, 0] == _TAKEN:
            continue
        pixel[p, 0] = _TAKEN
        y = int((p + 0.5) * rows_per_pixel)  # p // stride, without the slow division
        x = p - y * stride
        label[(y - 1) * width + x - 1] = k
        centre[k, channels + 2] += np.float32(1)
        share = np.float32(1) / centre[k, channels + 2]
        for c in range(channels):
            centre[k, c] += share * (pixel[p, c + 1] - centre[k, c])
        centre[k, channels] += share * (np.float32(y) - centre[k, channels])
        centre[k, channels + 1] += share * (np.float32(x) - centre[k, channels + 1])
        for side in range(4):
            q = p + steps[side]
            lowest = pixel[q, 0]
            if lowest == _TAKEN:
                continue
            dy = np.float32(y + down[side]) - centre[k, channels]
            dx = np.float32(x + right[side]) - centre[k, channels + 1]
            if channels == 3:
                # Lab, nearly always: without the loop over channels growth is a quarter faster.
                dl, da, db = pixel[q, 1] - centre[k, 0], pixel[q, 2] - centre[k, 1], pixel[q, 3] - centre[k, 2]
                distance = dl * dl + da * da + db * db
            else:
                distance = np.float32(0)
                for c in range(channels):
                    difference = pixel[q, c + 1] - centre[k, c]
                    distance += difference * difference
            key[0] = per_area * (dy * dy + dx * dx) + per_feature * distance
            if key[0] >= lowest:
                continue
            pixel[q, 0] = key[0]
            if free >= 0:
                e, free = free, entry[free, 2]
            else:
                if used == len(entry):
                    entry = np.concatenate((entry, np.empty_like(entry)))
                e, used = used, used + 1
            b = key_bits[0] >> _SHIFT
            entry[e, 0], entry[e, 1], entry[e, 2] = q, k, head[b]
            head[b] = e
            bucket = min(bucket, b)
