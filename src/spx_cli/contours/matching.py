"""Which pixels of two thin boundary maps belong together: one to one, within a disk, as many as possible, and near.

The BSDS benchmark (Martin, Fowlkes and Malik, TPAMI 2004, appendix B) wants the cheapest assignment in which a pixel
without a partner costs far more than any distance. Its tool gets near that with random edges; here it is exact:
the greatest number of pairs and, among those, the least sum of distances, each rounded to a hundredth of a pixel.
"""

from heapq import heappop, heappush
from math import floor
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.contours.thinning import Mask
from spx_cli.errors import LabelError


class Match(NamedTuple):
    """The pixels that have a partner in the other map, bool (H, W) each, equally many, and the sum of distances."""

    first: Mask
    second: Mask
    distance: float


class _Graph(NamedTuple):
    """Row pixels and the columns within their disk.

    start : int64 (R + 1,); row i has the edges start[i]:start[i + 1], nearest first. target, price : int32 (E,).
    """

    start: NDArray[np.int64]
    target: NDArray[np.int32]
    price: NDArray[np.int32]


class _State(NamedTuple):
    """A matching and its prices: price[e] >= row_price[i] + column_price[j] for each edge, equal where i has j.

    row_price (R,), column_price (C,) int64. edge : int64 (R,), the edge that a row has, -1 none. partner : int32 (C,),
    the row that a column has, -1 none. distance (C,), via (C,) int64 and reached_from (C,) int32 are scratch.
    """

    row_price: NDArray[np.int64]
    column_price: NDArray[np.int64]
    edge: NDArray[np.int64]
    partner: NDArray[np.int32]
    distance: NDArray[np.int64]
    via: NDArray[np.int64]
    reached_from: NDArray[np.int32]


def match(first: Mask, second: Mask, radius: float, *, seed: int = 0) -> Match:
    """Return the best one-to-one matching of the pixels of two masks, both bool (H, W), else LabelError.

    radius : greatest Euclidean distance in pixels between two partners; it need not be whole.
    seed : decides which of equally near pixels is tried first. One direction for all annotations of an image would let
        them agree on the pixels of a map more often than the benchmark's tool does, which breaks ties by chance.

    >>> one, other = np.array([[True, False, False, False]]), np.array([[False, True, True, False]])
    >>> match(one, other, 2).second.astype(int)
    array([[0, 1, 0, 0]])
    """
    if first.shape != second.shape:
        raise LabelError(f"sizes differ: {first.shape} and {second.shape}")
    swap = np.count_nonzero(first) > np.count_nonzero(second)
    rows, columns = (second, first) if swap else (first, second)
    row_hit, column_hit, total = _match(rows, columns, *_disk(radius, seed))
    return Match(column_hit, row_hit, total / 100) if swap else Match(row_hit, column_hit, total / 100)


def _disk(radius: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the offsets (N, 2) as (y, x) within `radius`, nearest first, and their lengths in 1/100 pixel."""
    side = np.arange(-floor(radius), floor(radius) + 1)
    offsets = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    squared = (offsets**2).sum(1)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(squared)), squared))
    order = order[squared[order] <= radius * radius]
    return offsets[order].astype(np.int64), np.rint(100 * np.sqrt(squared[order])).astype(np.int32)


@njit(cache=True, nogil=True)
def _match(rows, columns, offsets, costs):
    """rows, columns (H, W) bool; offsets (N, 2), costs (N,) int32. Returns the partnered pixels of both, and the sum.

    Shortest augmenting paths with potentials (Jonker and Volgenant 1987), one for each row pixel.
    """
    height, width = rows.shape
    at, n_columns = _enumerate(columns)
    pixel, graph = _edges(rows, at, offsets, costs)
    n_rows = pixel.size
    state = _State(
        np.empty(n_rows, np.int64),
        np.zeros(n_columns, np.int64),
        np.full(n_rows, -1, np.int64),
        np.full(n_columns, -1, np.int32),
        np.full(n_columns, _FAR, np.int64),
        np.empty(n_columns, np.int64),
        np.empty(n_columns, np.int32),
    )
    _pair_nearest(graph, state)
    # Above the price of any path, so that no pair is given up for nearness.
    alone = np.int64(n_rows + 1) * (np.int64(costs[-1]) + 1)
    for i in range(n_rows):
        if state.edge[i] < 0:
            _augment(i, graph, state, alone)

    row_hit, column_hit = np.zeros((height, width), np.bool_), np.zeros((height, width), np.bool_)
    total = 0
    for i in range(n_rows):
        if state.edge[i] >= 0:
            row_hit[pixel[i] // width, pixel[i] % width] = True
            total += graph.price[state.edge[i]]
    for y in range(height):
        for x in range(width):
            column_hit[y, x] = at[y, x] >= 0 and state.partner[at[y, x]] >= 0
    return row_hit, column_hit, total


@njit(cache=True, nogil=True)
def _enumerate(mask):
    """mask (H, W) bool. Returns int32 (H, W), the number of each of its pixels in raster order, else -1; the count."""
    at = np.full(mask.shape, -1, np.int32)
    count = 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                at[y, x] = count
                count += 1
    return at, count


@njit(cache=True, nogil=True)
def _edges(rows, at, offsets, costs):
    """rows (H, W) bool, at (H, W) as `_enumerate`. Returns the pixels with anything in reach, (R,), and their graph."""
    height, width = rows.shape
    n_rows = n_edges = 0
    for y in range(height):
        for x in range(width):
            if rows[y, x]:
                found = _reach(y, x, at, offsets)
                n_edges += found
                n_rows += found > 0
    pixel, start = np.empty(n_rows, np.int64), np.zeros(n_rows + 1, np.int64)
    target, price = np.empty(n_edges, np.int32), np.empty(n_edges, np.int32)
    i = e = 0
    for y in range(height):
        for x in range(width):
            if not rows[y, x]:
                continue
            before = e
            for k in range(len(offsets)):
                v, u = y + offsets[k, 0], x + offsets[k, 1]
                if 0 <= v < height and 0 <= u < width and at[v, u] >= 0:
                    target[e] = at[v, u]
                    price[e] = costs[k]
                    e += 1
            if e > before:
                pixel[i] = y * width + x
                i += 1
                start[i] = e
    return pixel, _Graph(start, target, price)


@njit(cache=True, nogil=True)
def _reach(y, x, at, offsets):
    count = 0
    for k in range(len(offsets)):
        v, u = y + offsets[k, 0], x + offsets[k, 1]
        count += 0 <= v < at.shape[0] and 0 <= u < at.shape[1] and at[v, u] >= 0
    return count


@njit(cache=True, nogil=True)
def _pair_nearest(graph, state):
    """Give every row the first of its nearest columns that is still free, and prices that keep the promise of State."""
    for i in range(len(state.edge)):
        nearest = graph.price[graph.start[i]]
        state.row_price[i] = nearest
        for e in range(graph.start[i], graph.start[i + 1]):
            if graph.price[e] > nearest:
                break
            if state.partner[graph.target[e]] < 0:
                state.partner[graph.target[e]] = i
                state.edge[i] = e
                break


@njit(cache=True, nogil=True)
def _augment(root, graph, state, alone):
    """Find the cheapest way to serve row `root`: a free column for it, or for the last row of a chain of exchanges.

    A row may also stay alone at the price `alone`. It does so for good: as more rows come, fewer columns are free.
    """
    row_price, column_price, edge, partner, distance, via, reached_from = state
    touched, settled = [root][:0], [root][:0]
    heap = [(np.int64(0), np.int64(0))][:0]
    best, last, lonely = _FAR, -1, root  # the cheapest end: the free column `last`, or if -1 that `lonely` stays alone
    i, base = root, np.int64(0)
    while True:
        if base + alone - row_price[i] < best:
            best, last, lonely = base + alone - row_price[i], -1, i
        for e in range(graph.start[i], graph.start[i + 1]):
            j = graph.target[e]
            d = base + graph.price[e] - row_price[i] - column_price[j]
            if d < best and d < distance[j]:
                if distance[j] == _FAR:
                    touched.append(j)
                distance[j], via[j], reached_from[j] = d, e, i
                if partner[j] < 0:
                    best, last = d, j
                else:
                    heappush(heap, (d, np.int64(j)))
        j = -1
        while heap and j < 0:
            base, j = heappop(heap)
            if base > distance[j]:
                j = -1
        if j < 0 or base >= best:
            break
        settled.append(j)
        i = partner[j]

    row_price[root] += best
    for j in settled:
        row_price[partner[j]] += best - distance[j]
        column_price[j] -= best - distance[j]
    j = last
    if j < 0 and lonely != root:
        j = graph.target[edge[lonely]]
        edge[lonely] = -1
    while j >= 0:
        i = reached_from[j]
        before = graph.target[edge[i]] if i != root else -1
        edge[i], partner[j] = via[j], i
        j = before
    for j in touched:
        distance[j] = _FAR


_FAR = np.int64(2**62)
