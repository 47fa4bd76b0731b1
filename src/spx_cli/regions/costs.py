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


class Pairs(NamedTuple):
    """What the cost of a pair depends on, and scratch.

    sums, border, contour, palette : as in RegionGraph. outline : (R,) pixel sides towards other regions. known :
        (R, MEANS + C), and roots : (R, COLOURS), see `know`; (0, 0) for Ward's cost.
    log_area, per_area : of the unit of sizes. x, units : scratch for the inputs and the hidden units.
    """

    sums: NDArray[np.float64]
    border: NDArray[np.int32]
    contour: NDArray[np.float64]
    palette: NDArray[np.int32]
    outline: NDArray[np.int64]
    known: NDArray[np.float32]
    roots: NDArray[np.float32]
    log_area: np.float32
    per_area: np.float32
    x: NDArray[np.float32]
    units: NDArray[np.float32]


@njit(cache=True, nogil=True)
def make_pairs(sums, edges, border, contour, palette, area, inputs, hidden):
    """Arrays as in RegionGraph, scalars. Returns what the cost depends on, all regions known if there are inputs."""
    outline = np.zeros(len(sums), np.int64)
    for e in range(len(edges)):
        outline[edges[e, 0]] += border[e]
        outline[edges[e, 1]] += border[e]
    known = np.empty((len(sums), sums.shape[1] - FEATURES + MEANS) if inputs else (0, 0), np.float32)
    roots, x = np.empty((len(known), palette.shape[1]), np.float32), np.empty(inputs, np.float32)
    units, log_area, per_area = np.empty(hidden, np.float32), np.float32(np.log(area)), np.float32(1 / area)
    pairs = Pairs(sums, border, contour, palette, outline, known, roots, log_area, per_area, x, units)
    for r in range(len(known)):
        know(pairs, r)
    return pairs


@njit(cache=True, nogil=True)
def know(pairs, r):
    """Scalar: sets what is known of region r, and the roots of the shares of its palette."""
    sums, known = pairs.sums, pairs.known
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
    known[r, LOG_OUTLINE] = np.log(np.float32(max(pairs.outline[r], 1)) / side)
    known[r, LOG_FRAME] = np.log(np.float32(sums[r, FRAME]) / side + EPS_FRAME)
    if pairs.contour.shape[1]:
        known[r, LOG_INSIDE] = np.log(np.float32(sums[r, INSIDE] / n) + EPS_CONTOUR)
    counts, roots, total = pairs.palette[r], pairs.roots[r], np.int32(0)
    for i in range(len(counts)):
        total = np.int32(total + counts[i])
    if total == 0:  # a few pixels of which none was counted: they may have any colour
        roots[:] = np.float32(COLOURS**-0.5)
        return
    per = np.float32(1 / total)
    for i in range(len(counts)):
        roots[i] = np.sqrt(np.float32(counts[i]) * per)


@njit(cache=True, nogil=True, forceinline=True)
def _inputs(pairs, a, b, e, x):
    """Set x (I,), the inputs of regions a and b over edge e."""
    known, border, contour = pairs.known, pairs.border, pairs.contour
    if known[a, LOG_SIZE] > known[b, LOG_SIZE] or (known[a, LOG_SIZE] == known[b, LOG_SIZE] and a > b):
        a, b = b, a
    length = np.log(np.float32(border[e]))
    x[0] = known[a, LOG_SIZE] - pairs.log_area
    x[1] = known[b, LOG_SIZE] - pairs.log_area
    x[2] = length - np.float32(0.5) * known[a, LOG_SIZE]
    x[3] = length - np.float32(0.5) * known[b, LOG_SIZE]
    light = known[a, MEANS] - known[b, MEANS]
    red, blue = known[a, MEANS + 1] - known[b, MEANS + 1], known[a, MEANS + 2] - known[b, MEANS + 2]
    x[4] = np.log(light * light + EPS_LAB)
    x[5] = np.log(red * red + blue * blue + EPS_LAB)
    x[6], x[7] = known[a, LOG_SPREAD], known[b, LOG_SPREAD]
    y, across = known[a, Y] - known[b, Y], known[a, X] - known[b, X]
    x[8] = np.log((y * y + across * across) * pairs.per_area + EPS_PLACE)
    x[9] = np.sqrt(max(np.float32(1) - _likeness(pairs.roots[a], pairs.roots[b]), np.float32(0)))
    x[10], x[11] = known[a, LOG_OUTLINE], known[b, LOG_OUTLINE]
    x[12], x[13] = known[a, LOG_FRAME], known[b, LOG_FRAME]
    i, scales = 14, contour.shape[1]
    if scales:
        for s in range(scales):
            x[i] = np.log(np.float32(contour[e, s]) / np.float32(border[e]) + EPS_CONTOUR)
            i += 1
        x[i], x[i + 1] = known[a, LOG_INSIDE], known[b, LOG_INSIDE]
        i += 2
    if i < len(x):
        distance = np.float32(0.0)
        for c in range(MEANS + 3, known.shape[1]):
            difference = known[a, c] - known[b, c]
            distance += difference * difference
        x[i] = np.log(distance + EPS_EMBEDDING)


@njit(cache=True, nogil=True, forceinline=True)
def _likeness(p, q):
    """p, q (COLOURS,) roots of shares. Scalar: Bhattacharyya's coefficient, as eight sums side by side; 1 for (0,)."""
    if len(p) == 0:
        return np.float32(1)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0)
    for i in range(0, COLOURS, 8):
        s0 += p[i] * q[i]
        s1 += p[i + 1] * q[i + 1]
        s2 += p[i + 2] * q[i + 2]
        s3 += p[i + 3] * q[i + 3]
        s4 += p[i + 4] * q[i + 4]
        s5 += p[i + 5] * q[i + 5]
        s6 += p[i + 6] * q[i + 6]
        s7 += p[i + 7] * q[i + 7]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@njit(cache=True, nogil=True)
def _all_inputs(sums, edges, border, contour, palette, area, inputs):
    """Arrays as in RegionGraph; inputs (E, I) float32 out."""
    pairs = make_pairs(sums, edges, border, contour, palette, area, inputs.shape[1], 0)
    for e in range(len(edges)):
        _inputs(pairs, edges[e, 0], edges[e, 1], e, inputs[e])


@njit(cache=True, nogil=True, inline="always")
def cost_of(pairs, judge, a, b, e):
    """Scalar: cost of merging a and b over edge e, float32."""
    if len(pairs.x):
        return _expected_loss(pairs, judge, a, b, e)
    return _ward(pairs, judge.position, a, b, e)


@njit(cache=True, nogil=True, forceinline=True)
def _share(judge, x, units):
    """x (I,) inputs of a pair, units (J,) scratch. Scalar: the share of the smaller region that is expected to be lost.

    Input by input, so that the units are summed side by side.
    """
    hidden, out, count = judge.hidden, judge.out, len(units)
    for j in range(count):
        units[j] = judge.bias[j]
    for i in range(len(x)):
        row, value = hidden[i], x[i]
        for j in range(count):
            units[j] += value * row[j]
    logit = np.float32(judge.offset)
    for j in range(count):
        logit += max(units[j], np.float32(0)) * out[j]
    return np.float32(1) / (np.float32(1) + np.exp(-logit))


@njit(cache=True, nogil=True, inline="always")
def _expected_loss(pairs, judge, a, b, e):
    """Scalar: pixels that are expected to be lost when a and b merge over edge e."""
    _inputs(pairs, a, b, e, pairs.x)
    smaller = np.float32(min(pairs.sums[a, SIZE], pairs.sums[b, SIZE]))
    return smaller * _share(judge, pairs.x, pairs.units) - np.float32(judge.border_price * pairs.border[e])


@njit(cache=True, nogil=True, inline="always")
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


@njit(cache=True, nogil=True, inline="always")
def _ward(pairs, position, a, b, e):
    """Scalars: Ward's cost of merging a and b over edge e."""
    sums, scales, strength = pairs.sums, pairs.contour.shape[1], 1.0
    n = sums[a, SIZE] * sums[b, SIZE] / (sums[a, SIZE] + sums[b, SIZE])
    if scales:
        strength = FAINT + pairs.contour[e].sum() / (scales * pairs.border[e])
    return np.float32(distance_of(sums, position, a, b) * np.sqrt(n * np.sqrt(n)) * strength)
