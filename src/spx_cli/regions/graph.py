"""The region adjacency graph of a label map: sums over regions and over the borders between them.

Everything in it adds up when regions merge, so `merging` never returns to the pixels.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.errors import LabelError, ParameterError
from spx_cli.regions.runs import Runs, find_runs
from spx_cli.types import Labels

# Columns of `RegionGraph.sums`.
SIZE, ROW, COLUMN, SQUARE, INSIDE, FRAME, FEATURES = range(7)

COLOURS = 64  # classes of `RegionGraph.palette`: four of each of L, a and b


class RegionGraph(NamedTuple):
    """Regions and which of them touch.

    sums : (R, FEATURES + C) float64, over the pixels of a region: 1; row; column; squared length of the features;
        contour strength, mean over scales (0 without); pixel sides on the frame of the image; the C features, and
        behind them those of an embedding.
    edges : (E, 2) pairs of neighbours, the smaller id first.
    border : (E,) length of the common border in pixel sides.
    contour : (E, S), contour strength at each scale, summed along the border; S is 0 without contours.
    palette : (R, COLOURS) how many of its pixels lie in each class of colour, see `with_palette`; (R, 0) without.
    """

    sums: NDArray[np.float64]
    edges: NDArray[np.int32]
    border: NDArray[np.int32]
    contour: NDArray[np.float64]
    palette: NDArray[np.int32]

    def means(self, column: int, stop: int | None = None) -> NDArray[np.float64]:
        """Return what some columns of the sums are on average over each region, (R, n)."""
        return self.sums[:, column:stop] / self.sums[:, :1]


def region_graph(
    labels: Labels | Runs,
    features: NDArray[Any],
    *,
    unit: float = 1.0,
    contours: NDArray[np.float32] | None = None,
    embedding: NDArray[np.float32] | None = None,
) -> RegionGraph:
    """Return the graph of the 4-connected regions of a map.

    labels : (H, W) integers, or their `find_runs`. features : (H, W, C) numbers, C below 1000.
    unit : by which features are divided.
    contours : (S, H, W) strength at S scales, 0 to 1; between two pixels the larger counts.
    embedding : (h, w, D), a vector for each square of s x s pixels, h = ceil(H / s), w = ceil(W / s); s is a power of
        two.

    Raises LabelError for what is not finite among them.

    >>> region_graph(np.array([[0, 0, 1]]), np.array([[[1], [3], [5]]], np.float32)).means(FEATURES)[:, 0]
    array([2., 5.])
    """
    runs = labels if isinstance(labels, Runs) else find_runs(labels)
    channels = features.shape[2]
    sums = np.zeros((runs.regions, FEATURES + channels + (0 if embedding is None else embedding.shape[2])), np.float64)
    _sum_features(runs.first, runs.start, runs.region, features, sums)
    _sum_frame(runs.first, runs.start, runs.region, runs.width, sums)
    sums[:, FEATURES : FEATURES + channels] /= unit
    sums[:, SQUARE] /= unit * unit
    strength = np.empty((0, 0, 0), np.float32) if contours is None else contours
    for scale in strength:
        _sum_strength(runs.first, runs.start, runs.region, scale, len(strength), sums)
    if embedding is not None:
        side = _side(features.shape[:2], embedding.shape[:2])
        _sum_embedding(runs.first, runs.start, runs.region, runs.width, embedding, side, FEATURES + channels, sums)
    if not np.isfinite(sums).all():  # else no pair would be the nearest, and the merging anyone's
        raise LabelError("features, contours and embeddings of pixels must be finite numbers")
    edges, border, contour = _region_edges(runs.first, runs.start, runs.region, runs.regions, runs.width, strength)
    return RegionGraph(sums, edges, border, contour, np.empty((runs.regions, 0), np.int32))


def with_palette(graph: RegionGraph, lab: NDArray[Any], runs: Runs, into: NDArray[np.int32]) -> RegionGraph:
    """Return the graph with its regions' histograms of colour.

    lab : (H, W, 3). into : (R,) which region of the graph each region of `runs` is part of. Classes are bounded by the
    quartiles of each channel in the image. For speed every 64th pixel tells the quartiles, and every fourth one counts,
    those of every other row shifted by two.
    """
    sample = np.ascontiguousarray(lab[::8, ::8].reshape(-1, 3).T)
    quarters = [len(sample[0]) * i // 4 for i in (1, 2, 3)]
    cuts = np.ascontiguousarray(np.partition(sample, quarters, axis=1)[:, quarters])
    palette = np.zeros((len(graph.sums), COLOURS), np.int32)
    _sum_palette(runs.first, runs.start, runs.region, into, lab, cuts, palette)
    return graph._replace(palette=palette)


def _side(size: tuple[int, ...], cells: tuple[int, ...]) -> int:
    """Return the side of the squares of which an image of a size has so many down and across."""
    side = 1
    while side < max(size) and tuple(-(-n // side) for n in size) != tuple(cells):
        side *= 2
    if tuple(-(-n // side) for n in size) != tuple(cells):
        raise ParameterError(f"an embedding of {tuple(cells)} squares does not fit an image of {tuple(size)} pixels")
    return side


def contract(graph: RegionGraph, into: NDArray[np.int32]) -> RegionGraph:
    """Return the graph after region r became part of region into[r], (R,) ids 0.. without gaps."""
    sums = np.zeros((int(into.max()) + 1, graph.sums.shape[1]), np.float64)
    _add_rows(graph.sums, into, sums)
    palette = np.zeros((len(sums), graph.palette.shape[1]), np.int32)
    if palette.size:
        _add_rows(graph.palette, into, palette)
    edges, border, contour = _contract(graph.edges, graph.border, graph.contour, into, len(sums))
    return RegionGraph(sums, edges, border, contour, palette)


@njit(cache=True, nogil=True)
def _add_rows(rows, into, sums):
    """rows (R, D), into (R,); sums (R', D) out: adds up row by row, in order."""
    for r in range(len(rows)):
        sums[into[r]] += rows[r]


@njit(cache=True, nogil=True)
def _sum_features(first, start, region, features, sums):
    """first (H + 1,), start (M + 1,), region (M,); features (H, W, C); sums (R, ...) out: all but contours."""
    height, width, channels = features.shape
    for y in range(height):
        for j in range(first[y], first[y + 1]):
            stop = start[j + 1] if j + 1 < first[y + 1] else width
            n, total = stop - start[j], sums[region[j]]
            total[SIZE] += n
            total[ROW] += y * n
            total[COLUMN] += 0.5 * (start[j] + stop - 1) * n
            if channels == 3:
                # Lab, nearly always: sums in registers, three times as fast as the loop over channels.
                s0, s1, s2, square = 0.0, 0.0, 0.0, 0.0
                for x in range(start[j], stop):
                    f0, f1, f2 = float(features[y, x, 0]), float(features[y, x, 1]), float(features[y, x, 2])
                    s0 += f0
                    s1 += f1
                    s2 += f2
                    square += f0 * f0 + f1 * f1 + f2 * f2
                total[FEATURES] += s0
                total[FEATURES + 1] += s1
                total[FEATURES + 2] += s2
                total[SQUARE] += square
            else:
                for x in range(start[j], stop):
                    for c in range(channels):
                        total[FEATURES + c] += features[y, x, c]
                        total[SQUARE] += float(features[y, x, c]) ** 2


@njit(cache=True, nogil=True)
def _sum_frame(first, start, region, width, sums):
    """first (H + 1,), start (M + 1,), region (M,); sums (R, ...) out: pixel sides on the frame of the image."""
    last = len(first) - 2
    for y in range(last + 1):
        sums[region[first[y]], FRAME] += 1
        sums[region[first[y + 1] - 1], FRAME] += 1
        if y == 0 or y == last:
            for j in range(first[y], first[y + 1]):
                stop = start[j + 1] if j + 1 < first[y + 1] else width
                sums[region[j], FRAME] += (stop - start[j]) * ((y == 0) + (y == last))


@njit(cache=True, nogil=True)
def _sum_palette(first, start, region, into, lab, cuts, palette):
    """first (H + 1,), start (M + 1,), region (M,), into (R,); lab (H, W, 3), cuts (3, 3); palette (R', 64) out."""
    height, width, _ = lab.shape
    l0, l1, l2 = cuts[0]
    a0, a1, a2 = cuts[1]
    b0, b1, b2 = cuts[2]
    for y in range(height):
        for j in range(first[y], first[y + 1]):
            stop = start[j + 1] if j + 1 < first[y + 1] else width
            of = palette[into[region[j]]]
            for x in range(start[j] + (2 * y - start[j]) % 4, stop, 4):
                light, red, blue = lab[y, x, 0], lab[y, x, 1], lab[y, x, 2]
                k = (light > l0) + (light > l1) + (light > l2)
                m = (red > a0) + (red > a1) + (red > a2)
                n = (blue > b0) + (blue > b1) + (blue > b2)
                of[16 * k + 4 * m + n] += 1


@njit(cache=True, nogil=True)
def _sum_strength(first, start, region, strength, scales, sums):
    """first (H + 1,), start (M + 1,), region (M,); strength (H, W) at one of `scales`; sums (R, ...) out."""
    height, width = strength.shape
    for y in range(height):
        for j in range(first[y], first[y + 1]):
            stop = start[j + 1] if j + 1 < first[y + 1] else width
            total = 0.0
            for x in range(start[j], stop):
                total += strength[y, x]
            sums[region[j], INSIDE] += total / scales


@njit(cache=True, nogil=True)
def _sum_embedding(first, start, region, width, embedding, side, column, sums):
    """first (H + 1,), start (M + 1,), region (M,); embedding (h, w, D) of side x side pixels; sums (R, ...) out."""
    for y in range(len(first) - 1):
        for j in range(first[y], first[y + 1]):
            stop = start[j + 1] if j + 1 < first[y + 1] else width
            x, total = start[j], sums[region[j]]
            while x < stop:
                u = x // side
                until = min((u + 1) * side, stop)
                for c in range(embedding.shape[2]):
                    total[column + c] += embedding[y // side, u, c] * np.float64(until - x)
                x = until


@njit(cache=True, nogil=True)
def _table(count):
    """Scalar. Returns an empty hash table of edge numbers, and room for the edges and borders of `count` regions."""
    # The graph of 4-connected regions is planar, so it has at most 3 R edges: the table never fills up.
    length = 16
    while length < 6 * count:
        length *= 2
    return np.full(length, -1, np.int32), np.empty((3 * count + 1, 2), np.int32), np.zeros(3 * count + 1, np.int32)


@njit(cache=True, nogil=True)
def slot_of(low, high, mask):
    """Scalars: where in a table of mask + 1 places the search for the pair low < high begins."""
    return ((low * 0x9E3779B1) ^ (high * 0x85EBCA6B)) & mask


@njit(cache=True, nogil=True)
def _edge(table, edges, found, a, b):
    """table (M,), edges (E, 2): number of the edge between a and b; `found`, and entered there, if it is new."""
    low, high = min(a, b), max(a, b)
    mask = len(table) - 1
    slot = slot_of(low, high, mask)
    while table[slot] >= 0:
        known = table[slot]
        if edges[known, 0] == low and edges[known, 1] == high:
            return known
        slot = (slot + 1) & mask
    table[slot] = found
    edges[found, 0], edges[found, 1] = low, high
    return found


@njit(cache=True, nogil=True)
def _region_edges(first, start, region, count, width, strength):
    """first (H + 1,), start (M + 1,), region (M,), strength (S, H, W) or empty.

    Returns edges (E, 2) int32, border lengths (E,) int32 and the strength along them, (E, S) float64.
    """
    table, edges, border = _table(count)
    scales = len(strength)
    contour = np.zeros((len(border), scales), np.float64)
    found = 0
    for y in range(len(first) - 1):
        i = first[max(y - 1, 0)]
        for j in range(first[y], first[y + 1]):
            last = j + 1 == first[y + 1]
            stop = width if last else start[j + 1]
            if not last:
                e = _edge(table, edges, found, region[j], region[j + 1])
                found = max(found, e + 1)
                border[e] += 1
                for s in range(scales):
                    contour[e, s] += max(strength[s, y, stop - 1], strength[s, y, stop])
            while y > 0:
                above_stop = width if i + 1 == first[y] else start[i + 1]
                if region[i] != region[j]:
                    e = _edge(table, edges, found, region[i], region[j])
                    found = max(found, e + 1)
                    left, right = max(start[i], start[j]), min(stop, above_stop)
                    border[e] += right - left
                    for s in range(scales):
                        for x in range(left, right):
                            contour[e, s] += max(strength[s, y - 1, x], strength[s, y, x])
                # The run above that reaches beyond this one also touches the next.
                if above_stop <= stop:
                    i += 1
                if above_stop >= stop:
                    break
    return edges[:found].copy(), border[:found].copy(), contour[:found].copy()


@njit(cache=True, nogil=True)
def _contract(edges, border, contour, into, count):
    """edges (E, 2), border (E,), contour (E, S), into (R,). Returns those of the edges between merged regions."""
    table, kept, length = _table(count)
    strength = np.zeros((len(length), contour.shape[1]), np.float64)
    found = 0
    for e in range(len(edges)):
        a, b = into[edges[e, 0]], into[edges[e, 1]]
        if a != b:
            number = _edge(table, kept, found, a, b)
            found = max(found, number + 1)
            length[number] += border[e]
            strength[number] += contour[e]
    return kept[:found].copy(), length[:found].copy(), strength[:found].copy()
