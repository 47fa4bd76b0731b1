"""What it costs to merge two neighbouring regions, in one of two ways.

**Expected loss** (a `Judge` with weights). Cost = the pixels that a merge is expected to lose = min(n1, n2) x r, where
r in 0..1 is the share of the smaller region that is expected to end on the wrong side. A network of a few hundred
weights predicts it from what the graph knows of the pair. Achievable segmentation accuracy is one less the sum of such
losses, so that the order of merges follows the metric itself. `border_price` takes that many pixels off for each pixel
side of border that disappears.

**Ward** (`Judge.ward`). Two regions with n1 and n2 pixels and mean features m1 and m2 cost

    |m1 - m2|^2 (n1 n2 / (n1 + n2))^(3/4) (FAINT + contour strength along the common border)

the last factor only where there are contours. With exponent 1 the first two are Ward's criterion, the increase of the
squared error; with 3/4 large even regions merge a little sooner.

The functions of single pairs take plain arrays, index them instead of making views, and have loops in no branch: of
what is not so numba counts the references, atomically, which takes longer than the rest of a cost.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.regions.graph import COLOURS, COLUMN, FEATURES, FRAME, INSIDE, ROW, SIZE, SQUARE, RegionGraph

FAINT = 0.01  # what a border without any contour counts

# Columns of what is known of a region besides its mean features and embedding.
LOG_SIZE, LOG_SPREAD, LOG_INSIDE, LOG_OUTLINE, LOG_FRAME, Y, X, MEANS = range(8)
# Added before logarithms are taken: Lab squared, contour strength, squared distance over area, embedding squared, sides
# on the frame over a length.
EPS_LAB, EPS_CONTOUR, EPS_PLACE, EPS_EMBEDDING, EPS_FRAME = (np.float32(v) for v in (0.1, 0.001, 0.01, 0.001, 0.1))


class Judge(NamedTuple):
    """What decides the order of merges: weights of the expected loss, or none for Ward's cost.

    hidden (I, J), bias (J,), out (J,), offset : the network, `offset + out @ relu(x @ hidden + bias)` is the logit of r
        for the inputs x of `pair_inputs`. Empty for Ward's cost.
    border_price : pixels of expected loss that the removal of a pixel side of border is worth.
    position : units of the features per pixel, for Ward's cost.
    """

    hidden: NDArray[np.float32]
    bias: NDArray[np.float32]
    out: NDArray[np.float32]
    offset: float
    border_price: float
    position: float

    @classmethod
    def ward(cls, position: float = 0.0) -> "Judge":
        """Return Ward's cost. Above 0, `position` makes the centres (y, x) of regions two more features."""
        nothing = np.empty(0, np.float32)
        return cls(np.empty((0, 0), np.float32), nothing, nothing, 0.0, 0.0, position)


def n_inputs(scales: int, *, embedded: bool) -> int:
    """Return how many inputs a pair has with contours at so many scales, and with an embedding or without."""
    return 14 + (scales + 2 if scales else 0) + embedded


def pair_inputs(graph: RegionGraph, area: float) -> NDArray[np.float32]:
    """Return what the expected loss knows of each pair of neighbours, (E, I) float32, as logarithms.

    min(n) / area; max(n) / area; border / sqrt(min(n)); border / sqrt(max(n)); squared difference of L, and of (a, b);
    colour variance of the smaller region, and of the larger; squared distance of the centres / area; Hellinger distance
    of the palettes, which is no logarithm, and 0 without palettes; outline / sqrt(n) of the smaller region, and of the
    larger; pixel sides on the frame of the image / sqrt(n), likewise. With contours: mean strength along the border at
    each scale; inside the smaller region, and inside the larger. With an embedding: squared distance of its means.
    """
    scales, columns = graph.contour.shape[1], graph.sums.shape[1]
    inputs = np.empty((len(graph.edges), n_inputs(scales, embedded=columns > FEATURES + 3)), np.float32)
    _all_inputs(graph.sums, graph.edges, graph.border, graph.contour, graph.palette, area, inputs)
    return inputs


@njit(cache=True, nogil=True, error_model="numpy")
def know_all(sums, edges, border, palette):
    """Arrays as in RegionGraph. Returns what the expected loss knows of the regions: outline, known and roots.

    outline : (R,) pixel sides towards other regions. known, roots : see `know`.
    """
    outline = np.zeros(len(sums), np.int64)
    for e in range(len(edges)):
        outline[edges[e, 0]] += border[e]
        outline[edges[e, 1]] += border[e]
    known = np.empty((len(sums), sums.shape[1] - FEATURES + MEANS), np.float32)
    roots = np.empty((len(sums), palette.shape[1]), np.float32)
    for r in range(len(sums)):
        know(sums, outline, palette, r, known, roots)
    return outline, known, roots


@njit(cache=True, nogil=True, error_model="numpy")
def know(sums, outline, palette, r, known, roots):
    """Set what is known of region r: a row of known (R, MEANS + C), and of roots (R, COLOURS) of palette's shares."""
    n = sums[r, SIZE]
    known[r, Y], known[r, X] = sums[r, ROW] / n, sums[r, COLUMN] / n
    square = sums[r, SQUARE] / n
    for c in range(FEATURES, sums.shape[1]):
        mean = sums[r, c] / n
        known[r, MEANS + c - FEATURES] = mean
        if c < FEATURES + 3:
            square -= mean * mean
    known[r, LOG_SIZE] = np.log(np.float32(n))
    known[r, LOG_SPREAD] = np.log(np.float32(max(square, 0.0)) + EPS_LAB)
    side = np.float32(np.sqrt(n))
    known[r, LOG_OUTLINE] = np.log(np.float32(max(outline[r], 1)) / side)
    known[r, LOG_FRAME] = np.log(np.float32(sums[r, FRAME]) / side + EPS_FRAME)
    known[r, LOG_INSIDE] = np.log(np.float32(sums[r, INSIDE] / n) + EPS_CONTOUR)
    count, total = palette.shape[1], np.int32(0)
    for i in range(count):
        total = np.int32(total + palette[r, i])
    per = np.float32(1 / total)
    for i in range(count):  # of a few pixels of which none was counted: they may have any colour
        roots[r, i] = np.sqrt(np.float32(palette[r, i]) * per) if total > 0 else np.float32(COLOURS**-0.5)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def set_inputs(known, roots, border, contour, log_area, per_area, a, b, e, x):
    """Set x (I,), the inputs of regions a and b over edge e; see `pair_inputs`.

    known, roots : see `know`. border, contour : as in RegionGraph. log_area, per_area : of the unit of sizes.
    """
    if known[a, LOG_SIZE] > known[b, LOG_SIZE] or (known[a, LOG_SIZE] == known[b, LOG_SIZE] and a > b):
        a, b = b, a
    length = np.log(np.float32(border[e]))
    x[0] = known[a, LOG_SIZE] - log_area
    x[1] = known[b, LOG_SIZE] - log_area
    x[2] = length - np.float32(0.5) * known[a, LOG_SIZE]
    x[3] = length - np.float32(0.5) * known[b, LOG_SIZE]
    light = known[a, MEANS] - known[b, MEANS]
    red, blue = known[a, MEANS + 1] - known[b, MEANS + 1], known[a, MEANS + 2] - known[b, MEANS + 2]
    x[4] = np.log(light * light + EPS_LAB)
    x[5] = np.log(red * red + blue * blue + EPS_LAB)
    x[6], x[7] = known[a, LOG_SPREAD], known[b, LOG_SPREAD]
    y, across = known[a, Y] - known[b, Y], known[a, X] - known[b, X]
    x[8] = np.log((y * y + across * across) * per_area + EPS_PLACE)
    x[9] = np.sqrt(max(np.float32(1) - _likeness(roots, a, b), np.float32(0)))
    x[10], x[11] = known[a, LOG_OUTLINE], known[b, LOG_OUTLINE]
    x[12], x[13] = known[a, LOG_FRAME], known[b, LOG_FRAME]
    i, scales = 14, contour.shape[1]
    for s in range(scales):
        x[i] = np.log(np.float32(contour[e, s]) / np.float32(border[e]) + EPS_CONTOUR)
        i += 1
    if scales:
        x[i], x[i + 1] = known[a, LOG_INSIDE], known[b, LOG_INSIDE]
        i += 2
    distance = np.float32(0.0)
    for c in range(MEANS + 3, known.shape[1]):
        difference = known[a, c] - known[b, c]
        distance += difference * difference
    if i < len(x):
        x[i] = np.log(distance + EPS_EMBEDDING)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _likeness(roots, a, b):
    """roots (R, COLOURS), or (R, 0) for 1. Scalar: Bhattacharyya's coefficient, as eight sums side by side."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0)
    for i in range(0, roots.shape[1], 8):
        s0 += roots[a, i] * roots[b, i]
        s1 += roots[a, i + 1] * roots[b, i + 1]
        s2 += roots[a, i + 2] * roots[b, i + 2]
        s3 += roots[a, i + 3] * roots[b, i + 3]
        s4 += roots[a, i + 4] * roots[b, i + 4]
        s5 += roots[a, i + 5] * roots[b, i + 5]
        s6 += roots[a, i + 6] * roots[b, i + 6]
        s7 += roots[a, i + 7] * roots[b, i + 7]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)) if roots.shape[1] else np.float32(1)


@njit(cache=True, nogil=True, error_model="numpy")
def _all_inputs(sums, edges, border, contour, palette, area, inputs):
    """Arrays as in RegionGraph; inputs (E, I) float32 out."""
    _, known, roots = know_all(sums, edges, border, palette)
    log_area, per_area = np.float32(np.log(area)), np.float32(1 / area)
    for e in range(len(edges)):
        set_inputs(known, roots, border, contour, log_area, per_area, edges[e, 0], edges[e, 1], e, inputs[e])


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def share(hidden, bias, out, offset, x, units):
    """Scalar: the share of the smaller region that is expected to be lost, r.

    Weights as in Judge; x (I,) inputs of a pair; units (J,) scratch. Input by input, so that the units are summed side
    by side.
    """
    count = len(units)
    for j in range(count):
        units[j] = bias[j]
    for i in range(len(x)):
        value = x[i]
        for j in range(count):
            units[j] += value * hidden[i, j]
    logit = np.float32(offset)
    for j in range(count):
        logit += max(units[j], np.float32(0)) * out[j]
    return np.float32(1) / (np.float32(1) + np.exp(-logit))


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def expected_loss(share, smaller, price, length):
    """Scalars: pixels expected to be lost, of the smaller region's, less what a border of that length is worth."""
    return np.float32(smaller) * share - np.float32(price * length)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def distance_of(sums, position, a, b):
    """Scalar: squared distance of the mean features of regions a and b, and of their scaled centres. sums (R, D)."""
    distance, na, nb = 0.0, 1 / sums[a, SIZE], 1 / sums[b, SIZE]
    for c in range(ROW, COLUMN + 1):
        difference = position * (sums[a, c] * na - sums[b, c] * nb)
        distance += difference * difference
    for c in range(FEATURES, sums.shape[1]):
        difference = sums[a, c] * na - sums[b, c] * nb
        distance += difference * difference
    return distance


@njit(cache=True, nogil=True, error_model="numpy")
def ward(sums, border, contour, position, a, b, e):
    """Scalar: Ward's cost of merging a and b over edge e."""
    scales, strength = contour.shape[1], 1.0
    n = sums[a, SIZE] * sums[b, SIZE] / (sums[a, SIZE] + sums[b, SIZE])
    if scales:
        total = 0.0
        for s in range(scales):
            total += contour[e, s]
        strength = FAINT + total / (scales * border[e])
    return np.float32(distance_of(sums, position, a, b) * np.sqrt(n * np.sqrt(n)) * strength)
