"""Merging neighbouring regions, the cheapest pair first, by one of two costs.

**Expected loss** (`Judge.loss`). Cost = the pixels that a merge is expected to lose = min(n1, n2) x r, where r in 0..1
is the share of the smaller region that is expected to end on the wrong side. A network of a few hundred weights
predicts it from what the graph knows of the pair. Achievable segmentation accuracy is one less the sum of such losses,
so that the order of merges follows the metric itself. `border_price` takes that many pixels off for each pixel side of
border that disappears.

**Ward** (`Judge.ward`). Two regions with n1 and n2 pixels and mean features m1 and m2 cost

    |m1 - m2|^2 (n1 n2 / (n1 + n2))^(3/4) (FAINT + contour strength along the common border)

With exponent 1 the first two factors are Ward's criterion, the increase of the squared error; with 3/4 large even
regions merge a little sooner.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.regions.graph import COLOURS, COLUMN, FEATURES, FRAME, INSIDE, ROW, SIZE, SQUARE, RegionGraph, slot_of
from spx_cli.regions.runs import root

FAINT = 0.01  # what a border without any contour counts
GROWTH = 1.0625  # by which one of a pair must have grown before the pair is costed anew

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


class _Pairs(NamedTuple):
    """What the cost of a pair depends on, and scratch.

    sums, border, contour, palette : as in RegionGraph. outline : (R,) pixel sides towards other regions. known :
        (R, MEANS + C), and roots : (R, COLOURS), see `_know`; (0, 0) for Ward's cost.
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
def _make_pairs(sums, edges, border, contour, palette, area, inputs, hidden):
    """Arrays as in RegionGraph, scalars. Returns what the cost depends on, all regions known if there are inputs."""
    outline = np.zeros(len(sums), np.int64)
    for e in range(len(edges)):
        outline[edges[e, 0]] += border[e]
        outline[edges[e, 1]] += border[e]
    known = np.empty((len(sums), sums.shape[1] - FEATURES + MEANS) if inputs else (0, 0), np.float32)
    roots, x = np.empty((len(known), palette.shape[1]), np.float32), np.empty(inputs, np.float32)
    units, log_area, per_area = np.empty(hidden, np.float32), np.float32(np.log(area)), np.float32(1 / area)
    pairs = _Pairs(sums, border, contour, palette, outline, known, roots, log_area, per_area, x, units)
    for r in range(len(known)):
        _know(pairs, r)
    return pairs


@njit(cache=True, nogil=True)
def _know(pairs, r):
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
    pairs = _make_pairs(sums, edges, border, contour, palette, area, inputs.shape[1], 0)
    for e in range(len(edges)):
        _inputs(pairs, edges[e, 0], edges[e, 1], e, inputs[e])


@njit(cache=True, nogil=True, inline="always")
def _cost(pairs, judge, a, b, e):
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
def _distance(sums, position, a, b):
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
    return np.float32(_distance(sums, position, a, b) * np.sqrt(n * np.sqrt(n)) * strength)


class _Lists(NamedTuple):
    """A linked list of half-edges for each region: 2e belongs to edges[e, 0], 2e + 1 to edges[e, 1]."""

    head: NDArray[np.int32]  # (R,)
    tail: NDArray[np.int32]  # (R,)
    follow: NDArray[np.int32]  # (2E,)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _pop(heap, length):
    """Heap as in _sift: takes the first entry out."""
    heap[0] = heap[length - 1]
    _sift(heap, 0, length - 1)


@njit(cache=True, nogil=True)
def _push(heap, length, entry):
    """Heap as in _sift: adds an entry behind `length` others."""
    i = length
    while i > 0 and heap[(i - 1) // 2] > entry:
        heap[i] = heap[(i - 1) // 2]
        i = (i - 1) // 2
    heap[i] = entry


@njit(cache=True, nogil=True)
def _make_lists(edges, count):
    """edges (E, 2). Returns the lists of `count` regions, and how long they are, (R,)."""
    head, tail = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    follow, degree = np.full(2 * len(edges), -1, np.int32), np.zeros(count, np.int32)
    for e in range(len(edges)):
        for end in range(2):
            h, a = 2 * e + end, edges[e, end]
            if head[a] < 0:
                head[a] = h
            else:
                follow[tail[a]] = h
            tail[a] = h
            degree[a] += 1
    return _Lists(head, tail, follow), degree


@njit(cache=True, nogil=True)
def _drop(lists, a, before, h):
    """Scalars: takes half-edge h out of the list of region a, in which it comes after `before` (-1: first)."""
    if before < 0:
        lists.head[a] = lists.follow[h]
    else:
        lists.follow[before] = lists.follow[h]
    if lists.tail[a] == h:
        lists.tail[a] = before


@njit(cache=True, nogil=True)
def _append(lists, a, b):
    """Scalars: the list of region b goes behind that of region a."""
    if lists.head[b] >= 0:
        if lists.head[a] < 0:
            lists.head[a] = lists.head[b]
        else:
            lists.follow[lists.tail[a]] = lists.head[b]
        lists.tail[a] = lists.tail[b]


@njit(cache=True, nogil=True)
def _number(parent, into):
    """parent (R,) forest; into (R,) int32 out: the number of the tree, in order of their first members."""
    number, count = np.full(len(parent), -1, np.int32), 0
    for i in range(len(parent)):
        r = root(parent, i)
        if number[r] < 0:
            number[r] = count
            count += 1
        into[i] = number[r]


@njit(cache=True, nogil=True)
def _ends(edges, parent, e):
    """edges (E, 2), parent (R,). Scalars: the regions that edge e now lies between."""
    return root(parent, edges[e, 0]), root(parent, edges[e, 1])


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _entry(bits, e):
    """bits (E,) int32, float32 costs seen as integers. Scalar: an int64 that sorts by cost, then by number."""
    b = np.int64(bits[e])
    return ((b if b >= 0 else b ^ 0x7FFFFFFF) << 32) | e


@njit(cache=True, nogil=True)
def _merge(sums, edges, border, contour, palette, judge, area, n_regions, into):
    """Arrays as in RegionGraph, changed in place except edges; into (R,) int32 out.

    `parent` is a forest of regions; a root with its sums stands for what was merged. A heap holds the edges by cost, a
    hash table finds the one between two regions. `small` and `large`: sizes at an edge's ends when it was costed.
    """
    count, n_edges = len(sums), len(edges)
    pairs = _make_pairs(sums, edges, border, contour, palette, area, *judge.hidden.shape)
    lists, degree = _make_lists(edges, count)
    parent, alive = np.arange(count).astype(np.int32), np.ones(n_edges, np.bool_)
    cost, heap = np.empty(n_edges, np.float32), np.empty(n_edges, np.int64)
    bits = cost.view(np.int32)
    small, large = np.empty(n_edges, np.float64), np.empty(n_edges, np.float64)
    for e in range(n_edges):
        a, b = edges[e]
        small[e], large[e] = min(sums[a, SIZE], sums[b, SIZE]), max(sums[a, SIZE], sums[b, SIZE])
        cost[e] = _cost(pairs, judge, a, b, e)
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
            cost[e] = _cost(pairs, judge, a, b, e)
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
        before, f = -1, lists.head[b]
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
                _drop(lists, b, before, f)
            f = lists.follow[f]
        _append(lists, a, b)
        sums[a] += sums[b]
        parent[b] = a
        left -= 1
        if len(pairs.known):
            palette[a] += palette[b]
            pairs.outline[a] += pairs.outline[b] - 2 * between
            _know(pairs, a)
        if 2 * entered > slots:
            entered = _fill(table, edges, parent, alive)
    _number(parent, into)


@njit(cache=True, nogil=True)
def _absorb(sums, edges, min_size, n_regions, position, into):
    """Arrays as in RegionGraph, sums changed in place; into (R,) int32 out."""
    count = len(sums)
    lists, _ = _make_lists(edges, count)
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
        before, f = -1, lists.head[a]
        while f >= 0:
            b = root(parent, edges[f // 2, 1 - f % 2])
            if b == a:
                _drop(lists, a, before, f)
            else:
                distance = _distance(sums, position, a, b)
                if distance < least or (distance == least and b < best):
                    best, least = b, distance
                before = f
            f = lists.follow[f]
        if best < 0:
            break
        sums[best] += sums[a]
        parent[a] = best
        _append(lists, best, a)
        left -= 1
        if sums[best, SIZE] < min_size:
            _push(heap, length, (np.int64(sums[best, SIZE]) << 32) | best)
            length += 1
    _number(parent, into)
