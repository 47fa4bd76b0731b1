"""Merging neighbouring regions, the cheapest pair first (`costs`), or the smallest region first."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.regions.costs import Judge, distance_of, expected_loss, know, know_all, set_inputs, share, ward
from spx_cli.regions.graph import SIZE, RegionGraph, slot_of
from spx_cli.regions.runs import root

GROWTH = 1.0625  # by which one of a pair must have grown before the pair is costed anew


def merge(graph: RegionGraph, n_regions: int, judge: Judge, area: float = 1.0) -> NDArray[np.int32]:
    """Return which of `n_regions` each region belongs to after merging the cheapest pair of neighbours again and again.

    area : pixels of the image per region asked for, the unit of sizes in the expected loss.

    The merged regions are numbered in order of their first member. There are more of them only where the graph has
    more connected parts.

    A pair is costed when the graph is given, and again when it is the cheapest and has grown by GROWTH, or is the sum
    of two pairs; meanwhile its cost may be out of date. On BSDS500 that scores as costing all pairs of a region anew at
    once does, within .0002, at less than half the time; and work is O(E log E) even for a background with thousands of
    regions on it.
    """
    into = np.empty(len(graph.sums), np.int32)
    sums, border, contour, palette = (x.copy() for x in (graph.sums, graph.border, graph.contour, graph.palette))
    _merge(sums, graph.edges, border, contour, palette, judge, area, n_regions, into)
    return into


def absorb(graph: RegionGraph, min_size: int, n_regions: int, position: float) -> NDArray[np.int32]:
    """Return which region each one belongs to once those below `min_size` pixels joined their most similar neighbour.

    Similar are near mean features, `position` as in `Judge`. The smallest region goes first, so that a region has at
    least doubled before its neighbours are looked at again. It ends early when only `n_regions` are left.
    """
    into = np.empty(len(graph.sums), np.int32)
    _absorb(graph.sums.copy(), graph.edges, min_size, n_regions, position, into)
    return into


@njit(cache=True, nogil=True, error_model="numpy")
def _sift(heap, i, length):
    """heap (M,) int64, a binary min-heap of which `length` are in use: moves entry i down to its place."""
    entry = heap[i]
    while True:
        child = 2 * i + 1
        if child >= length:
            break
        if child + 1 < length and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = entry


@njit(cache=True, nogil=True, error_model="numpy")
def _pop(heap, length):
    """Heap as in _sift: takes the first entry out."""
    heap[0] = heap[length - 1]
    _sift(heap, 0, length - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _push(heap, length, entry):
    """Heap as in _sift: adds an entry behind `length` others."""
    i = length
    while i > 0 and heap[(i - 1) // 2] > entry:
        heap[i] = heap[(i - 1) // 2]
        i = (i - 1) // 2
    heap[i] = entry


@njit(cache=True, nogil=True, error_model="numpy")
def _make_lists(edges, count):
    """edges (E, 2). Returns a linked list of half-edges for each of `count` regions: follow, tail and degree.

    Half-edge 2e belongs to edges[e, 0], 2e + 1 to edges[e, 1]. follow : (2E + R,), what comes after a half-edge, and at
    2E + r the first of region r; -1 ends a list. tail : (R,) the last of each list, 2E + r of an empty one. degree :
    (R,) how long they are.
    """
    start = 2 * len(edges)
    follow, degree = np.full(start + count, -1, np.int32), np.zeros(count, np.int32)
    tail = np.arange(start, start + count).astype(np.int32)
    for e in range(len(edges)):
        for end in range(2):
            a = edges[e, end]
            follow[tail[a]] = 2 * e + end
            tail[a] = 2 * e + end
            degree[a] += 1
    return follow, tail, degree


@njit(cache=True, nogil=True, error_model="numpy")
def _drop(follow, tail, a, before, h):
    """Take half-edge h, which comes after `before`, out of the list of region a; lists as in _make_lists."""
    follow[before] = follow[h]
    if tail[a] == h:
        tail[a] = before


@njit(cache=True, nogil=True, error_model="numpy")
def _append(follow, tail, a, b):
    """Put the list of region b behind that of region a; lists as in _make_lists."""
    first = follow[len(follow) - len(tail) + b]
    if first >= 0:
        follow[tail[a]] = first
        tail[a] = tail[b]


@njit(cache=True, nogil=True, error_model="numpy")
def _number(parent, into):
    """parent (R,) forest; into (R,) int32 out: the number of the tree, in order of their first members."""
    number, count = np.full(len(parent), -1, np.int32), 0
    for i in range(len(parent)):
        r = root(parent, i)
        if number[r] < 0:
            number[r] = count
            count += 1
        into[i] = number[r]


@njit(cache=True, nogil=True, error_model="numpy")
def _ends(edges, parent, e):
    """edges (E, 2), parent (R,). Scalars: the regions that edge e now lies between."""
    return root(parent, edges[e, 0]), root(parent, edges[e, 1])


@njit(cache=True, nogil=True, error_model="numpy")
def _find(table, edges, parent, alive, a, c):
    """table (M,) of edges: the living one between a and c, or -1; and the slot where it, or a free one, is."""
    low, high = min(a, c), max(a, c)
    mask = len(table) - 1
    slot = slot_of(low, high, mask)
    while table[slot] >= 0:
        e = table[slot]
        if alive[e]:
            u, v = _ends(edges, parent, e)
            if min(u, v) == low and max(u, v) == high:
                return e, slot
        slot = (slot + 1) & mask
    return -1, slot


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(table, edges, parent, alive):
    """Arrays as in _find: leaves only the living edges in the table. Returns their number."""
    table[:] = -1
    count = 0
    for e in range(len(edges)):
        if alive[e]:
            u, v = _ends(edges, parent, e)
            table[_find(table, edges, parent, alive, u, v)[1]] = e
            count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _entry(bits, e):
    """bits (E,) int32, float32 costs seen as integers. Scalar: an int64 that sorts by cost, then by number."""
    b = np.int64(bits[e])
    return ((b if b >= 0 else b ^ 0x7FFFFFFF) << 32) | e


@njit(cache=True, nogil=True, error_model="numpy")
def _merge(sums, edges, border, contour, palette, judge, area, n_regions, into):
    """Arrays as in RegionGraph, changed in place except edges; into (R,) int32 out.

    `parent` is a forest of regions; a root with its sums stands for what was merged. A heap holds the edges by cost, a
    hash table finds the one between two regions. `small` and `large`: sizes at an edge's ends when it was costed, in
    both places by the same lines: a function of theirs would count the references of all that it is given (`costs`).
    """
    count, n_edges = len(sums), len(edges)
    hidden, bias, out, offset = judge.hidden, judge.bias, judge.out, judge.offset
    price, position = judge.border_price, judge.position
    x, units = np.empty(len(hidden), np.float32), np.empty(len(bias), np.float32)
    learned = len(x) > 0
    log_area, per_area = np.float32(np.log(area)), np.float32(1 / area)
    shown = (sums, edges) if learned else (sums[:0], edges[:0])  # Ward's cost asks for none of it
    outline, known, roots = know_all(*shown, border, palette)
    first, (follow, tail, degree) = 2 * n_edges, _make_lists(edges, count)
    parent, alive = np.arange(count).astype(np.int32), np.ones(n_edges, np.bool_)
    cost, heap = np.empty(n_edges, np.float32), np.empty(n_edges, np.int64)
    bits = cost.view(np.int32)
    small, large = np.empty(n_edges, np.float64), np.empty(n_edges, np.float64)
    for e in range(n_edges):
        a, b = edges[e]
        small[e], large[e] = min(sums[a, SIZE], sums[b, SIZE]), max(sums[a, SIZE], sums[b, SIZE])
        if learned:
            set_inputs(known, roots, border, contour, log_area, per_area, a, b, e, x)
            cost[e] = expected_loss(share(hidden, bias, out, offset, x, units), small[e], price, border[e])
        else:
            cost[e] = ward(sums, border, contour, position, a, b, e)
        heap[e] = _entry(bits, e)
    length = n_edges
    for i in range(length // 2 - 1, -1, -1):
        _sift(heap, i, length)
    slots = 16
    while slots < 4 * n_edges:
        slots *= 2
    table = np.empty(slots, np.int32)
    entered = _fill(table, edges, parent, alive)

    left = count
    while left > n_regions and length > 0:
        e = heap[0] & 0x7FFFFFFF
        if not alive[e]:
            _pop(heap, length)
            length -= 1
            continue
        a, b = _ends(edges, parent, e)
        less, more = min(sums[a, SIZE], sums[b, SIZE]), max(sums[a, SIZE], sums[b, SIZE])
        if less > GROWTH * small[e] or more > GROWTH * large[e]:
            small[e], large[e] = less, more
            if learned:
                set_inputs(known, roots, border, contour, log_area, per_area, a, b, e, x)
                cost[e] = expected_loss(share(hidden, bias, out, offset, x, units), less, price, border[e])
            else:
                cost[e] = ward(sums, border, contour, position, a, b, e)
            heap[0] = _entry(bits, e)
            _sift(heap, 0, length)
            continue
        _pop(heap, length)
        length -= 1
        alive[e] = False
        between = border[e]
        if degree[a] < degree[b]:
            a, b = b, a
        # The neighbours of the region with fewer become those of the other; of two edges to a shared one, the cheaper
        # takes in the other and is costed anew when its turn comes.
        degree[a] -= 1
        before, f = first + b, follow[first + b]
        while f >= 0:
            e, keep = f // 2, False
            if alive[e]:
                u, v = _ends(edges, parent, e)
                c = v if u == b else u
                other, slot = _find(table, edges, parent, alive, a, c)
                keep = other < 0 or cost[e] < cost[other]
                if other >= 0:
                    kept, lost = (e, other) if keep else (other, e)
                    border[kept] += border[lost]
                    contour[kept] += contour[lost]
                    small[kept], alive[lost] = 0.0, False
                    degree[c] -= 1
                else:
                    entered += 1
                    degree[a] += 1
                if keep:
                    table[slot] = e
            if keep:
                before = f
            else:
                _drop(follow, tail, b, before, f)
            f = follow[f]
        _append(follow, tail, a, b)
        sums[a] += sums[b]
        parent[b] = a
        left -= 1
        if learned:
            palette[a] += palette[b]
            outline[a] += outline[b] - 2 * between
            know(sums, outline, palette, a, known, roots)
        if 2 * entered > slots:
            entered = _fill(table, edges, parent, alive)
    _number(parent, into)


@njit(cache=True, nogil=True, error_model="numpy")
def _absorb(sums, edges, min_size, n_regions, position, into):
    """Arrays as in RegionGraph, sums changed in place; into (R,) int32 out."""
    count = len(sums)
    first, (follow, tail, _) = 2 * len(edges), _make_lists(edges, count)
    parent, heap, length = np.arange(count).astype(np.int32), np.empty(2 * count, np.int64), 0
    for r in range(count):
        if sums[r, SIZE] < min_size:
            _push(heap, length, (np.int64(sums[r, SIZE]) << 32) | r)
            length += 1
    left = count
    while length > 0 and left > n_regions:
        a, size = heap[0] & 0x7FFFFFFF, heap[0] >> 32
        _pop(heap, length)
        length -= 1
        if parent[a] != a or sums[a, SIZE] != size:
            continue
        best, least = -1, np.inf
        before, f = first + a, follow[first + a]
        while f >= 0:
            b = root(parent, edges[f // 2, 1 - f % 2])
            if b == a:
                _drop(follow, tail, a, before, f)
            else:
                distance = distance_of(sums, position, a, b)
                if distance < least or (distance == least and b < best):
                    best, least = b, distance
                before = f
            f = follow[f]
        if best < 0:
            break
        sums[best] += sums[a]
        parent[a] = best
        _append(follow, tail, best, a)
        left -= 1
        if sums[best, SIZE] < min_size:
            _push(heap, length, (np.int64(sums[best, SIZE]) << 32) | best)
            length += 1
    _number(parent, into)
