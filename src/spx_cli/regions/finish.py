"""The finishing stage: any map becomes Labels with exactly the asked number of regions.

    1. connect: every 4-connected component becomes a region of its own;
    2. merge: regions below SMALL of the mean size join their most similar neighbour, then the cheapest pairs of
       neighbours merge until the count is met (`merging`, `costs`);
    3. split: where there are too few, the largest regions are cut by connected growth inside them.

It runs after every method, so connectivity, cleaning and counts are decided here and nowhere else.
"""

from math import sqrt
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.color import POSITION
from spx_cli.errors import LabelError, ParameterError
from spx_cli.regions.costs import Judge
from spx_cli.regions.graph import RegionGraph, contract, region_graph, with_palette
from spx_cli.regions.maps import components
from spx_cli.regions.merging import absorb, merge
from spx_cli.regions.runs import Runs, find_runs, paint
from spx_cli.types import Assignment, Labels

SMALL = 0.06  # of pixels / n_segments: below it a region is debris, not a superpixel (the share SSN's authors use)
FINE = 48  # pixels / n_segments: below it regions are too many, and too small, for histograms of their colours


def finish(assignment: Assignment, n_segments: int, judge: Judge | None = None, *, exact: bool = True) -> Labels:
    """Return the map as Labels: connected, debris merged, ids in raster order, exactly `n_segments` regions.

    judge : the expected loss that decides on merges; None for Ward's cost in the features of the assignment.
    exact : False keeps the count that the map has once it is clean, pieces of one label counted as one at most; Ward's
        cost decides.

    >>> scattered = np.array([[0, 1, 0, 0], [0, 1, 0, 0]])
    >>> finish(Assignment(scattered, np.zeros((2, 4, 1), np.float32)), 3)
    array([[0, 1, 2, 2],
           [0, 1, 2, 2]], dtype=int32)
    """
    labels = on_host(assignment.labels)
    if labels.min() < 0:
        raise LabelError(
            f"label {labels.min()}: below 0 is kept for pixels outside of every region, which do not exist yet"
        )
    runs = find_runs(labels)
    into = np.arange(runs.regions, dtype=np.int32)
    if runs.regions > n_segments or not exact:
        into = _merged(assignment, runs, n_segments, judge if exact else None, exact=exact)
    regions, count = paint(runs, into), int(into.max()) + 1
    if exact and count < n_segments:
        regions, _ = components(split(regions, count, n_segments))
    return regions


def _merged(
    assignment: Assignment, runs: Runs, n_segments: int, judge: Judge | None, *, exact: bool
) -> NDArray[np.int32]:
    """Return what each region becomes part of: debris goes, then pairs merge until there are few enough."""
    area = assignment.labels.shape[0] * assignment.labels.shape[1] / n_segments
    if judge is not None:
        graph, into = loss_graph(assignment, runs, n_segments)
        return merge(graph, n_segments, judge, area)[into]
    position = assignment.position / sqrt(area)
    graph, into = _without_debris(ward_graph(assignment, runs), area, position, n_segments if exact else 1)
    most = n_segments if exact else len(np.unique(on_host(assignment.labels)))
    return merge(graph, most, Judge.ward(position), area)[into]


def _without_debris(
    graph: RegionGraph, area: float, position: float, least: int
) -> tuple[RegionGraph, NDArray[np.int32]]:
    """Return the graph once regions below SMALL of the area joined their most similar neighbour, and who is where.

    area : pixels / n_segments. position : as in `Judge`. least : when so many are left, it ends.
    """
    into = absorb(graph, int(SMALL * area), least, position)
    return contract(graph, into), into


def ward_graph(assignment: Assignment, runs: Runs) -> RegionGraph:
    """Return the graph of an assignment's regions in the method's own features, where Ward's cost compares them."""
    return region_graph(runs, on_host(assignment.features), contours=_scales(assignment))


def loss_graph(assignment: Assignment, runs: Runs, n_segments: int) -> tuple[RegionGraph, NDArray[np.int32]]:
    """Return the graph in which the expected loss compares an assignment's regions, debris gone, and who is where."""
    colours = on_host(assignment.features if assignment.lab is None else assignment.lab)
    if colours.shape[2] != 3:
        raise ParameterError(f"the expected loss compares Lab, not {colours.shape[2]} features; use merge=ward")
    graph = region_graph(
        runs,
        colours,
        unit=assignment.unit,
        contours=_scales(assignment),
        embedding=on_host(assignment.embedding),
    )
    area = colours.shape[0] * colours.shape[1] / n_segments
    graph, into = _without_debris(graph, area, POSITION / sqrt(area), n_segments)
    return with_palette(graph, colours, runs, into) if area >= FINE else graph, into


def _scales(assignment: Assignment) -> NDArray[np.float32] | None:
    contours: NDArray[np.float32] | None = on_host(assignment.contours)
    return contours[None] if contours is not None and contours.ndim == 2 else contours


def on_host(array: Any) -> Any:
    """Return an array of PyTorch's as one of NumPy's, without a copy from the CPU; anything else as it is."""
    return array.detach().cpu().numpy() if hasattr(array, "detach") else array


def split(labels: Labels, count: int, n_regions: int) -> Labels:
    """Return a map of `n_regions` connected regions made by cutting the largest of the `count` regions of `labels`.

    labels : (H, W) int32, each id one 4-connected region. The parts of a region are about equally large.
    """
    out = labels.copy()
    _split(labels, _parts(np.bincount(labels.ravel(), minlength=count), n_regions), out)
    return out


@njit(cache=True, nogil=True)
def _parts(size, n_regions):
    """size (R,) int64. Returns the parts to cut each region into, (R,) int64, n_regions in all, none above size."""
    count = len(size)
    parts = np.ones(count, np.int64)
    # The least mean part size for which the parts do not exceed n_regions, by bisection; what is missing goes to those
    # that are widest then.
    low, high = 1.0, float(size.max())
    for _ in range(64):
        middle = 0.5 * (low + high)
        total = 0
        for i in range(count):
            total += max(1, int(size[i] / middle))
        if total > n_regions:
            low = middle
        else:
            high = middle
    # At that size quotients that are whole numbers round this way and that; a little above they do not.
    high *= 1 + 1e-9
    total = 0
    for i in range(count):
        parts[i] = max(1, int(size[i] / high))
        total += parts[i]
    while total < n_regions:  # once, for all that are missing are among the widest
        order = np.argsort(-size / parts, kind="mergesort")[: n_regions - total]
        for i in order:
            parts[i] += 1
        total += len(order)
    return parts


@njit(cache=True, nogil=True)
def _flood(labels, label, queue, filled, mark, seen):
    """labels (H, W), label its region; queue (N,) flat indices, `filled` of them set; grows to the whole region.

    seen (H, W) int64 takes `mark` where the flood has been. Returns the length of the queue.
    """
    height, width = labels.shape
    i = 0
    while i < filled:
        y, x = divmod(queue[i], width)
        i += 1
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            v, u = y + dy, x + dx
            if 0 <= v < height and 0 <= u < width and labels[v, u] == label and seen[v, u] != mark:
                seen[v, u] = mark
                queue[filled] = v * width + u
                filled += 1
    return filled


@njit(cache=True, nogil=True)
def _split(labels, parts, out):
    """labels (H, W) int32, parts (R,) int64; out (H, W) int32, a copy of labels, gets new ids from R upwards."""
    height, width = labels.shape
    seen = np.full((height, width), -1, np.int64)
    queue = np.empty(height * width, np.int64)
    seeds = np.empty(parts.max(), np.int64)
    fresh = len(parts)
    for start in range(height * width):
        label = labels[start // width, start % width]
        n = parts[label]
        if n == 1:
            continue
        # Three floods: to find a far end of the region, to order its pixels by distance from there, and to grow the
        # parts from evenly spaced pixels of that order.
        seen[start // width, start % width] = 3 * label
        queue[0] = start
        area = _flood(labels, label, queue, 1, 3 * label, seen)
        queue[0] = queue[area - 1]
        seen[queue[0] // width, queue[0] % width] = 3 * label + 1
        _flood(labels, label, queue, 1, 3 * label + 1, seen)
        for j in range(n):
            seeds[j] = queue[(2 * j + 1) * area // (2 * n)]
        for j in range(n):
            queue[j] = seeds[j]
            y, x = divmod(seeds[j], width)
            seen[y, x] = 3 * label + 2
            out[y, x] = label if j == 0 else fresh + j - 1
        filled, i = n, 0
        while i < filled:
            y, x = divmod(queue[i], width)
            i += 1
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                v, u = y + dy, x + dx
                if 0 <= v < height and 0 <= u < width and labels[v, u] == label and seen[v, u] != 3 * label + 2:
                    seen[v, u] = 3 * label + 2
                    out[v, u] = out[y, x]
                    queue[filled] = v * width + u
                    filled += 1
        fresh += n - 1
        parts[label] = 1
