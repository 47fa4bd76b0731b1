"""LSC (Li and Chen, CVPR 2015): normalised cuts as weighted k-means in a ten-dimensional feature space."""

from dataclasses import dataclass
from math import pi

import numpy as np
from numba import njit

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.methods._grid import grid_seeds, grid_shape
from spx_cli.methods._smoothing import smooth
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Image

_COLOUR = 20.0  # C_c, section 4
_CHROMA = 2.55  # a and b against L in Eq. 12: they span 255 units where L spans 100
_LANES = 16  # pixels of one tile: a loop of fixed length over one small array is one the compiler vectorises
_BAND = 16  # visited rows that are labelled and summed up before the next, so that they stay in the cache
_FAR = 1e30


@dataclass(frozen=True, kw_only=True)
class LSC(Method):
    """Linear spectral clustering: follows borders closely, and looks at the whole image through the pixels' weights.

    Deterministic. As in SLIC here, rounds look at every `row_step`-th row and a last full round labels every pixel.
    """

    name = "lsc"
    paper = "doi:10.1109/CVPR.2015.7298741"
    oversegmentation = 1.4

    ratio: float = param(0.06, "C_s / C_c, weight of position against colour; .075 in the paper", ge=1e-4, le=1e4)
    iterations: int = param(5, "rounds of weighted k-means", ge=1, le=1000)
    row_step: int = param(3, "rows: a round visits every row_step-th row", ge=1, le=100)
    smoothing: int = param(2, "passes of a 3 x 3 binomial filter over Lab, against fragments in texture", ge=0, le=100)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map of the nearest centres, the fragments of clusters merged into their neighbours."""
        size = image.shape[:2]
        rows, columns = grid_shape(size, n_segments)
        lab = smooth(rgb_to_lab(image), self.smoothing)
        # Angles are pi / 2 per grid step, so that a ratio means the same at every count.
        angle_y, angle_x = (pi / 2 * np.arange(n) * parts / n for n, parts in zip(size, (rows, columns), strict=True))
        labels = _kmeans(
            _features(lab, _COLOUR, _CHROMA),
            size[1],
            grid_seeds(size, n_segments),
            self.ratio * _COLOUR * np.stack([np.cos(angle_y), np.sin(angle_y)]).astype(np.float32),
            self.ratio * _COLOUR * np.stack([np.cos(angle_x), np.sin(angle_x)]).astype(np.float32),
            size[0] / rows,
            size[1] / columns,
            self.iterations,
            self.row_step,
            np.empty((rows * columns, 14)),  # float64: of millions of pixels float32 would lose the small sums
        )
        return Assignment(labels, lab, POSITION)


@njit(cache=True, nogil=True, error_model="numpy")
def _features(lab, colour, chroma):
    """lab (H, W, 3). Returns tiles (H, T, 7, _LANES): w(p) phi(p) of Eq. 12 without position, and w(p)."""
    height, width, _ = lab.shape
    tiles = (width + _LANES - 1) // _LANES
    out = np.empty((height, tiles, 7, _LANES), np.float32)
    angle = np.zeros(tiles * _LANES, np.float32)
    total, row_total = np.zeros((6, _LANES), np.float64), np.empty((2, _LANES), np.float32)
    one, s3, s5, s7 = np.float32(1), np.float32(1 / 6), np.float32(1 / 120), np.float32(1 / 5040)
    c2, c4, c6, c8 = np.float32(1 / 2), np.float32(1 / 24), np.float32(1 / 720), np.float32(1 / 40320)
    for c in range(3):
        scale = np.float32(np.pi / 2 / (100 if c == 0 else 255))
        # The angle is taken from the middle of its range, where short series give sine and cosine to 3e-7.
        shift = np.float32((0.0 if c == 0 else np.pi / 2 * 128 / 255) - np.pi / 4)
        gain = np.float32(np.sqrt(0.5) * (colour if c == 0 else chroma * colour))
        for y in range(height):
            for x in range(width):
                angle[x] = lab[y, x, c] * scale + shift
            row_total[:] = 0
            for t in range(tiles):
                cosine, sine, at = out[y, t, 2 * c], out[y, t, 2 * c + 1], angle[t * _LANES : (t + 1) * _LANES]
                for i in range(_LANES):
                    v = at[i]
                    q = v * v
                    odd = v * (one - q * (s3 - q * (s5 - q * s7)))
                    even = one - q * (c2 - q * (c4 - q * (c6 - q * c8)))
                    cosine[i], sine[i] = gain * (even - odd), gain * (even + odd)
                for i in range(min(_LANES, width - t * _LANES)):
                    row_total[0, i] += cosine[i]
                    row_total[1, i] += sine[i]
            total[2 * c : 2 * c + 2] += row_total
    # w(p) is the inner product with the sum over the image (Eq. 11). Position turns through whole circles and all but
    # cancels there. Scaled to a mean of one; the clustering does not depend on the scale.
    whole = total.sum(axis=1)
    mean = (whole * (height * width / (whole * whole).sum())).astype(np.float32)
    for y in range(height):
        for t in range(tiles):
            tile = out[y, t]
            for i in range(_LANES):
                tile[6, i] = (
                    mean[0] * tile[0, i]
                    + mean[1] * tile[1, i]
                    + mean[2] * tile[2, i]
                    + mean[3] * tile[3, i]
                    + mean[4] * tile[4, i]
                    + mean[5] * tile[5, i]
                )
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _kmeans(features, width, seeds, turn_y, turn_x, step_y, step_x, iterations, row_step, totals):
    """features (H, T, 7, _LANES); seeds (K, 2) as (y, x); turn_y (2, H), turn_x (2, W). Returns labels (H, W) int32.

    totals (K, 14), out: the sums of _add that the centres come from.
    """
    height, tiles = features.shape[:2]
    count = len(seeds)
    position = np.zeros((tiles, 2, _LANES), np.float32)
    for x in range(width):
        position[x // _LANES, 0, x % _LANES], position[x // _LANES, 1, x % _LANES] = turn_x[0, x], turn_x[1, x]
    centre, place = np.empty((count, 10), np.float32), seeds.astype(np.float32)
    for k in range(count):
        y, x = round(seeds[k, 0]), round(seeds[k, 1])
        pixel = features[y, x // _LANES, :, x % _LANES]
        for d in range(6):
            centre[k, d] = pixel[d] / pixel[6]
        for d in range(2):
            centre[k, 6 + d], centre[k, 8 + d] = turn_x[d, x] / pixel[6], turn_y[d, y] / pixel[6]
    nearest = np.zeros((height, tiles, _LANES), np.int32)
    distance = np.empty((_BAND, tiles, _LANES), np.float32)
    for turn in range(iterations + 1):
        last = turn == iterations
        step = 1 if last else row_step
        first = 0 if last else min(turn % row_step, height - 1)
        if not last:
            totals[:] = 0
        for begin in range(first, height, step * _BAND):
            end = min(begin + step * _BAND, height)
            _assign(
                features, position, turn_y, centre, place, step_y, step_x, width, begin, end, step, nearest, distance
            )
            if not last:
                _add(features, turn_x, turn_y, nearest, begin, end, step, totals)
        if not last:
            _move(totals, centre, place)
    labels = np.empty((height, width), np.int32)
    for y in range(height):
        row, target = nearest[y].reshape(-1), labels[y]
        for x in range(width):
            target[x] = row[x]
    return labels


@njit(cache=True, nogil=True, error_model="numpy")
def _assign(features, position, turn_y, centre, place, step_y, step_x, width, begin, end, step, nearest, distance):
    """Arrays as in _kmeans; sets nearest (H, T, _LANES) in rows begin:end:step; distance (_BAND, T, _LANES) scratch."""
    height = len(features)
    distance[:] = np.float32(_FAR)
    for k in range(len(centre)):
        top, bottom = int(max(place[k, 0] - step_y, begin)), int(min(place[k, 0] + step_y, min(end, height) - 1))
        top += (begin - top) % step
        if top > bottom:
            continue
        c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = centre[k]
        half = np.float32(0.5) * (centre[k] * centre[k]).sum()
        left, right = int(max(place[k, 1] - step_x, 0)), int(min(place[k, 1] + step_x, width - 1))
        for y in range(top, bottom + 1, step):
            from_y = c8 * turn_y[0, y] + c9 * turn_y[1, y]
            for t in range(left // _LANES, right // _LANES + 1):
                f, p, best, owner = features[y, t], position[t], distance[(y - begin) // step, t], nearest[y, t]
                for i in range(_LANES):
                    # w(p) / 2 times |phi(p) - c|^2, less what does not depend on c.
                    inner = c0 * f[0, i] + c1 * f[1, i] + c2 * f[2, i] + c3 * f[3, i] + c4 * f[4, i] + c5 * f[5, i]
                    d = half * f[6, i] - (inner + from_y + c6 * p[0, i] + c7 * p[1, i])
                    before, was = best[i], owner[i]
                    best[i] = min(d, before)
                    owner[i] = np.int32(k) if d < before else was


@njit(cache=True, nogil=True, error_model="numpy")
def _add(features, turn_x, turn_y, nearest, begin, end, step, totals):
    """Arrays as in _kmeans; totals (K, 14): sums of w phi, w, place and number of the pixels of rows begin:end:step."""
    width, zero = turn_x.shape[1], np.float32(0)
    for y in range(begin, end, step):
        start = 0
        while start < width:
            # Sum along the run first: adding to the centre pixel by pixel waits on memory.
            k, x = nearest[y, start // _LANES, start % _LANES], start
            f0, f1, f2, f3, f4, f5, w, cosine, sine = zero, zero, zero, zero, zero, zero, zero, zero, zero
            while x < width and nearest[y, x // _LANES, x % _LANES] == k:
                t, i = x // _LANES, x % _LANES
                f0 += features[y, t, 0, i]
                f1 += features[y, t, 1, i]
                f2 += features[y, t, 2, i]
                f3 += features[y, t, 3, i]
                f4 += features[y, t, 4, i]
                f5 += features[y, t, 5, i]
                w += features[y, t, 6, i]
                cosine += turn_x[0, x]
                sine += turn_x[1, x]
                x += 1
            n, total = x - start, totals[k]
            total[0] += f0
            total[1] += f1
            total[2] += f2
            total[3] += f3
            total[4] += f4
            total[5] += f5
            total[6] += w
            total[7] += cosine
            total[8] += sine
            total[9] += n * turn_y[0, y]
            total[10] += n * turn_y[1, y]
            total[11] += n * y
            total[12] += 0.5 * n * (start + x - 1)
            total[13] += n
            start = x


@njit(cache=True, nogil=True, error_model="numpy")
def _move(totals, centre, place):
    """totals (K, 14), centre (K, 10), place (K, 2). Centres become the weighted means of phi over their pixels."""
    for k in range(len(centre)):
        total = totals[k]
        if total[13] > 0:
            # The weighted mean of phi is the sum of w phi over the sum of w.
            for d in range(6):
                centre[k, d] = total[d] / total[6]
            for d in range(4):
                centre[k, 6 + d] = total[7 + d] / total[6]
            place[k, 0], place[k, 1] = total[11] / total[13], total[12] / total[13]
