"""A label map as horizontal runs of equal labels, joined into 4-connected regions.

A map of superpixels has some ten times fewer runs than pixels, so components, the region graph and relabelling work on
runs: one pass over the pixels finds them, one paints the result.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.types import Labels

_AT_ONCE = 16  # pixels that are painted at once


class Runs(NamedTuple):
    """Runs in raster order, and the 4-connected region of each.

    first : int32 (H + 1,); row y has the runs first[y]:first[y + 1].
    start : int32 (M + 1,), the column where each run begins; a run ends where the next one begins, or with its row.
    region : int32 (M,), 0..R-1 in raster order of the regions' first pixels.
    regions : R. width : W.
    """

    first: NDArray[np.int32]
    start: NDArray[np.int32]
    region: NDArray[np.int32]
    regions: int
    width: int


def find_runs(labels: NDArray[Any]) -> Runs:
    """Return the runs and regions of a map; labels : (H, W) integers of any kind."""
    height, width = labels.shape
    first = np.empty(height + 1, np.int32)
    start = np.empty(labels.size + 1, np.int32)
    found = _find_runs(labels, first, start)
    region = np.empty(found, np.int32)
    count = _join_runs(labels, first, start, region)
    return Runs(first, start[: found + 1].copy(), region, int(count), width)


def paint(runs: Runs, number: NDArray[np.int32]) -> Labels:
    """Return the map, int32 (H, W), in which the pixels of region r have the id number[r]."""
    pixels = np.empty((len(runs.first) - 1) * runs.width + _AT_ONCE, np.int32)
    _paint(runs.first, runs.start, runs.region, runs.width, number, pixels)
    return pixels[:-_AT_ONCE].reshape(-1, runs.width)


@njit(cache=True, nogil=True)
def root(parent, i):
    """parent (M,) int32 forest in which roots are the smallest of their tree; halves the path on the way."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def number_roots(parent):
    """parent (M,) int32 forest as in `root`, becomes the number of the tree in order of roots. Returns their count."""
    count = 0
    for i in range(len(parent)):
        if parent[i] == i:
            parent[i] = count
            count += 1
        else:
            parent[i] = parent[parent[i]]
    return count


@njit(cache=True, nogil=True)
def _find_runs(labels, first, start):
    """labels (H, W); first (H + 1,), start (N + 1,) int32 out. Returns the number of runs."""
    height, width = labels.shape
    found = 0
    for y in range(height):
        row = labels[y]
        first[y] = found
        start[found] = 0
        found += 1
        for x in range(1, width):
            # Written always, kept where the label changes: no branch to mispredict.
            start[found] = x
            found += row[x] != row[x - 1]
    first[height] = found
    return found


@njit(cache=True, nogil=True)
def _join_runs(labels, first, start, region):
    """labels (H, W), first (H + 1,), start (M + 1,); region (M,) int32 out. Returns the number of regions."""
    height, width = labels.shape
    for j in range(first[1]):
        region[j] = j
    for y in range(1, height):
        row, above = labels[y], labels[y - 1]
        i = first[y - 1]
        for j in range(first[y], first[y + 1]):
            region[j] = j
            stop = start[j + 1] if j + 1 < first[y + 1] else width
            label = row[start[j]]
            while True:
                above_stop = width if i + 1 == first[y] else start[i + 1]
                if above[start[i]] == label:
                    a, b = root(region, i), root(region, j)
                    # The smaller root wins, so roots stay in raster order of the first pixel.
                    region[max(a, b)] = min(a, b)
                # The run above that reaches beyond this one also touches the next.
                if above_stop <= stop:
                    i += 1
                if above_stop >= stop:
                    break
    return number_roots(region)


@njit(cache=True, nogil=True)
def _paint(first, start, region, width, number, pixels):
    """first (H + 1,), start (M + 1,), region (M,), number (R,); pixels (H W + _AT_ONCE,) int32 out."""
    for y in range(len(first) - 1):
        for j in range(first[y], first[y + 1]):
            stop = start[j + 1] if j + 1 < first[y + 1] else width
            n = number[region[j]]
            # Too much, for the next run to paint over: most runs are then one store, and no branch is mispredicted.
            # Unsigned, for numba would look at each signed index whether it counts from the end.
            at, end = np.uint64(y * width + start[j]), np.uint64(y * width + stop)
            while at < end:
                for i in range(np.uint64(_AT_ONCE)):
                    pixels[at + i] = n
                at += np.uint64(_AT_ONCE)
