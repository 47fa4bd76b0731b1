"""The region adjacency graph of a label map, and merging on it.

Two neighbouring regions with n1 and n2 pixels and mean features m1 and m2 cost

    |m1 - m2|^2 (n1 n2 / (n1 + n2))^(3/4) (FAINT + strength of the contour between them)

to merge. With exponent 1 the first two factors are Ward's criterion, the increase of the squared error; with 3/4 large
even regions merge a little sooner, which scored best on BSDS500. The last factor is there where a network says how
likely each pixel lies on the border of an object; the strength is the mean along the common border.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.regions.runs import Runs, find_runs, number_roots, root
from spx_cli.types import Labels

FAINT = 0.01  # what a border without any contour counts


class RegionGraph(NamedTuple):
    """Regions and which of them touch.

    size : (R,) pixels. mean : (R, C) mean features. edges : (E, 2) pairs of neighbours, the smaller id first.
    border : (E,) length of the common border in pixel sides.
    contour : (E,) sum of the contour strength along it; (0,) without contours.
    """

    size: NDArray[np.int64]
    mean: NDArray[np.float64]
    edges: NDArray[np.int32]
    border: NDArray[np.int32]
    contour: NDArray[np.float64]


def region_graph(
    labels: Labels | Runs,
    features: NDArray[Any],
    *,
    position: float = 0.0,
    contours: NDArray[np.float32] | None = None,
) -> RegionGraph:
    """Return the graph of the 4-connected regions of a map.

    labels : (H, W) integers, or their `find_runs`. features : (H, W, C) numbers.
    position : feature units per pixel; above 0 the means end in the scaled centre (y, x), so `mean` is (R, C + 2).
    contours : (H, W) strength, 0 to 1; between two pixels the larger counts.

    >>> region_graph(np.array([[0, 0, 1]]), np.array([[[1], [3], [5]]], np.float32)).mean[:, 0]
    array([2., 5.])
    """
    runs = labels if isinstance(labels, Runs) else find_runs(labels)
    size, mean = _region_means(runs.first, runs.start, runs.region, runs.regions, features, position)
    strength = np.empty((0, 0), np.float32) if contours is None else contours
    edges, border, contour = _region_edges(runs.first, runs.start, runs.region, runs.regions, runs.width, strength)
    return RegionGraph(size, mean, edges, border, contour)


def absorb(graph: RegionGraph, min_size: int, n_regions: int = 1) -> tuple[NDArray[np.int32], RegionGraph]:
    """Return which region each one belongs to once those below `min_size` pixels joined their most similar neighbour.

    In raster order, and only while more than `n_regions` are left. The second result is the graph of the new regions,
    which are numbered in order of their first member.
    """
    into = np.arange(len(graph.size), dtype=np.int32)
    size, mean = graph.size.copy(), graph.mean.copy()
    count = _absorb(size, mean, graph.edges, min_size, n_regions, into)
    edges, border, contour = _contract(graph.edges, graph.border, graph.contour, into, count)
    return into, RegionGraph(size[:count], mean[:count], edges, border, contour)


def merge(graph: RegionGraph, n_regions: int) -> NDArray[np.int32]:
    """Return which of `n_regions` each region belongs to after merging the cheapest pair of neighbours again and again.

    The merged regions are numbered in order of their first member. There are more of them only where the graph has
    more connected parts.
    """
    into = np.empty(len(graph.size), np.int32)
    _merge(graph.size, graph.mean, graph.edges, graph.border, graph.contour, n_regions, into)
    return into


@njit(cache=True, nogil=True)
def _region_means(first, start, region, count, features, position):
    """first (H + 1,), start (M + 1,), region (M,); features (H, W, C). Returns (R,) int64, (R, C or C + 2) float64."""
    height, width, channels = features.shape
    size = np.zeros(count, np.int64)
    total = np.zeros((count, channels + 2 * (position > 0)), np.float64)
    for y in range(height):
        for j in range(first[y], first[y + 1]):
            stop = start[j + 1] if j + 1 < first[y + 1] else width
            r = region[j]
            size[r] += stop - start[j]
            if position > 0:
                total[r, channels] += position * y * (stop - start[j])
                total[r, channels + 1] += position * 0.5 * (start[j] + stop - 1) * (stop - start[j])
            if channels == 3:
                # Lab, nearly always: three sums in registers, three times as fast as the loop over channels.
                first_sum, second_sum, third_sum = 0.0, 0.0, 0.0
                for x in range(start[j], stop):
                    first_sum += features[y, x, 0]
                    second_sum += features[y, x, 1]
                    third_sum += features[y, x, 2]
                total[r, 0] += first_sum
                total[r, 1] += second_sum
                total[r, 2] += third_sum
            else:
                for x in range(start[j], stop):
                    for c in range(channels):
                        total[r, c] += features[y, x, c]
    for r in range(count):
        for c in range(total.shape[1]):
            total[r, c] /= size[r]
    return size, total


@njit(cache=True, nogil=True)
def _table(count):
    """Scalar. Returns an empty hash table of edge numbers, and room for the edges and borders of `count` regions."""
    # The graph of 4-connected regions is planar, so it has at most 3 R edges: the table never fills up.
    length = 16
    while length < 6 * count:
        length *= 2
    return np.full(length, -1, np.int32), np.empty((3 * count + 1, 2), np.int32), np.zeros(3 * count + 1, np.int32)


@njit(cache=True, nogil=True)
def _edge(table, edges, found, a, b):
    """table (M,), edges (E, 2): number of the edge between a and b; `found`, and entered there, if it is new."""
    low, high = min(a, b), max(a, b)
    mask = len(table) - 1
    slot = ((low * 0x9E3779B1) ^ (high * 0x85EBCA6B)) & mask
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
    """first (H + 1,), start (M + 1,), region (M,), strength (H, W) or empty.

    Returns edges (E, 2) int32, border lengths (E,) int32 and the strength along them, (E,) or (0,) float64.
    """
    table, edges, border = _table(count)
    contour = np.zeros(len(border) if strength.size else 0, np.float64)
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
                if strength.size:
                    contour[e] += max(strength[y, stop - 1], strength[y, stop])
            while y > 0:
                above_stop = width if i + 1 == first[y] else start[i + 1]
                if region[i] != region[j]:
                    e = _edge(table, edges, found, region[i], region[j])
                    found = max(found, e + 1)
                    left, right = max(start[i], start[j]), min(stop, above_stop)
                    border[e] += right - left
                    if strength.size:
                        for x in range(left, right):
                            contour[e] += max(strength[y - 1, x], strength[y, x])
                # The run above that reaches beyond this one also touches the next.
                if above_stop <= stop:
                    i += 1
                if above_stop >= stop:
                    break
    return edges[:found].copy(), border[:found].copy(), contour[:found].copy()


@njit(cache=True, nogil=True)
def _contract(edges, border, contour, into, count):
    """edges (E, 2), border (E,), contour (E,) or (0,), into (R,). Returns those of the edges between merged regions."""
    table, kept, length = _table(count)
    strength = np.zeros(len(length) if len(contour) else 0, np.float64)
    found = 0
    for e in range(len(edges)):
        a, b = into[edges[e, 0]], into[edges[e, 1]]
        if a != b:
            number = _edge(table, kept, found, a, b)
            found = max(found, number + 1)
            length[number] += border[e]
            if len(contour):
                strength[number] += contour[e]
    return kept[:found].copy(), length[:found].copy(), strength[:found].copy()


@njit(cache=True, nogil=True)
def _distance(mean, a, b):
    """mean (R, C). Scalar: squared distance of the mean features of regions a and b."""
    distance = 0.0
    for c in range(mean.shape[1]):
        difference = mean[a, c] - mean[b, c]
        distance += difference * difference
    return distance


@njit(cache=True, nogil=True)
def _cost(size, mean, border, contour, a, b, e):
    """size (R,), mean (R, C), border (E,), contour (E,) or (0,). Scalar: cost of merging a and b over edge e."""
    n = size[a] * size[b] / (size[a] + size[b])
    strength = FAINT + contour[e] / border[e] if len(contour) else 1.0
    return _distance(mean, a, b) * np.sqrt(n * np.sqrt(n)) * strength


@njit(cache=True, nogil=True)
def _unite(size, mean, a, b):
    """size (R,), mean (R, C): region a takes in region b."""
    n = size[a] + size[b]
    for c in range(mean.shape[1]):
        mean[a, c] = (size[a] * mean[a, c] + size[b] * mean[b, c]) / n
    size[a] = n


@njit(cache=True, nogil=True)
def _half_edges(edges, count):
    """edges (E, 2). Returns one linked list of half-edges per region: head (R,), tail (R,), follow (2E,), target (2E,).

    Half-edges 2e and 2e + 1 belong to edge e. Two lists are joined in constant time.
    """
    head, tail = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    follow, target = np.full(2 * len(edges), -1, np.int32), np.empty(2 * len(edges), np.int32)
    for e in range(len(edges)):
        for end in range(2):
            h, a = 2 * e + end, edges[e, end]
            target[h] = edges[e, 1 - end]
            if head[a] < 0:
                head[a] = h
            else:
                follow[tail[a]] = h
            tail[a] = h
    return head, tail, follow, target


@njit(cache=True, nogil=True)
def _absorb(size, mean, edges, min_size, n_regions, parent):
    """size (R,), mean (R, C), edges (E, 2), parent (R,) = 0..R-1, all changed in place. Returns the regions left."""
    count = len(size)
    head, tail, follow, target = _half_edges(edges, count)
    left = count
    for i in range(count):
        a = root(parent, i)
        while left > n_regions and size[a] < min_size:
            best, least = -1, np.inf
            before, h = -1, head[a]
            while h >= 0:
                b = root(parent, target[h])
                if b == a:
                    if before < 0:
                        head[a] = follow[h]
                    else:
                        follow[before] = follow[h]
                else:
                    distance = _distance(mean, a, b)
                    if distance < least:
                        best, least = b, distance
                    before = h
                h = follow[h]
            tail[a] = before
            if best < 0:
                break
            a, b = min(a, best), max(a, best)
            _unite(size, mean, a, b)
            follow[tail[a]], tail[a] = head[b], tail[b]
            parent[b] = a
            left -= 1
    number = 0
    for i in range(count):
        if parent[i] == i:
            size[number], mean[number] = size[i], mean[i]
            number += 1
    return number_roots(parent)


@njit(cache=True, nogil=True)
def _sift_down(key, item, i, length):
    """key (M,), item (M,): binary min-heap, ties by item; moves entry i down to its place."""
    k, it = key[i], item[i]
    while True:
        child = 2 * i + 1
        if child >= length:
            break
        right = child + 1
        if right < length and (key[right] < key[child] or (key[right] == key[child] and item[right] < item[child])):
            child = right
        if key[child] > k or (key[child] == k and item[child] >= it):
            break
        key[i], item[i] = key[child], item[child]
        i = child
    key[i], item[i] = k, it


@njit(cache=True, nogil=True)
def _sift_up(key, item, i):
    """key (M,), item (M,): binary min-heap, ties by item; moves entry i up to its place."""
    k, it = key[i], item[i]
    while i > 0:
        up = (i - 1) // 2
        if key[up] < k or (key[up] == k and item[up] <= it):
            break
        key[i], item[i] = key[up], item[up]
        i = up
    key[i], item[i] = k, it


@njit(cache=True, nogil=True)
def _merge(size, mean, edges, border, contour, n_regions, parent):
    """size (R,), mean (R, C), edges (E, 2), border (E,), contour (E,) or (0,); parent (R,) int32 out.

    Returns the number of regions left. Of several edges between two regions the first one walked takes in the others,
    whose border becomes 0.

    The heap holds a pair of regions once for every time that its cost changed. `merged` counts the merges inside a
    region, so the sum over both ends is a time stamp of the pair: an entry with another stamp is out of date.
    """
    count, n_edges = len(size), len(edges)
    size, mean, border, contour = size.copy(), mean.copy(), border.copy(), contour.copy()
    head, tail, follow, target = _half_edges(edges, count)
    merged = np.zeros(count, np.int64)
    key, item = np.empty(2 * n_edges + 16, np.float64), np.empty(2 * n_edges + 16, np.int64)
    for i in range(count):
        parent[i] = i
    for e in range(n_edges):
        key[e], item[e] = _cost(size, mean, border, contour, edges[e, 0], edges[e, 1], e), e
    length = n_edges
    for i in range(length // 2 - 1, -1, -1):
        _sift_down(key, item, i, length)
    seen, kept = np.full(count, -1, np.int32), np.empty(count, np.int32)
    around = np.empty(count, np.int32)
    left = count
    while length > 0 and left > n_regions:
        top = item[0]
        length -= 1
        key[0], item[0] = key[length], item[length]
        _sift_down(key, item, 0, length)
        a, b = root(parent, edges[top % n_edges, 0]), root(parent, edges[top % n_edges, 1])
        if a == b or merged[a] + merged[b] != top // n_edges:
            continue
        a, b = min(a, b), max(a, b)
        _unite(size, mean, a, b)
        merged[a] += merged[b] + 1
        parent[b] = a
        follow[tail[a]], tail[a] = head[b], tail[b]
        left -= 1
        # One walk over the neighbours of both: drop what points inside, fold what repeats a neighbour into the first.
        near, before, h = 0, -1, head[a]
        while h >= 0:
            b, e = root(parent, target[h]), h // 2
            if b == a or border[e] == 0 or seen[b] == left:
                if b != a and border[e] > 0 and len(contour):
                    contour[kept[b]] += contour[e]
                    border[kept[b]] += border[e]
                    border[e] = 0
                if before < 0:
                    head[a] = follow[h]
                else:
                    follow[before] = follow[h]
            else:
                seen[b], kept[b] = left, e
                around[near] = b
                near += 1
                before = h
            h = follow[h]
        tail[a] = before
        for i in range(near):
            b, e = around[i], kept[around[i]]
            if length == len(key):
                key, item = np.append(key, np.empty_like(key)), np.append(item, np.empty_like(item))
            key[length] = _cost(size, mean, border, contour, a, b, e)
            item[length] = (merged[a] + merged[b]) * n_edges + e
            _sift_up(key, item, length)
            length += 1
    return number_roots(parent)
