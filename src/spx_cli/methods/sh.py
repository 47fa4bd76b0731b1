"""SH (Wei et al., TIP 2018): superpixel hierarchy, Boruvka's minimum spanning tree on regions; one build, every count.

In each round every region merges with the neighbour whose mean colour is nearest, and the mean colours are computed
anew. The order of the merges is the hierarchy: the first H W - k of them give k regions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.errors import ParameterError
from spx_cli.methods._smoothing import smooth
from spx_cli.methods.base import Method, check_count
from spx_cli.params import param
from spx_cli.regions.runs import number_roots, root
from spx_cli.types import Assignment, Features, Image, Labels, check_image


@dataclass(frozen=True)
class Hierarchy:
    """The merges of an image's pixels, in order; `labels` cuts them at any count.

    size : (height, width). first, second : int32 (H W - 1,), a pixel of each of the two regions that merge.
    cost : float32 (H W - 1,), distance of their mean colours. rounds : where each round of merges begins, and the end.
    """

    size: tuple[int, int]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    cost: NDArray[np.float32]
    rounds: NDArray[np.int64]

    def labels(self, n_segments: int) -> Labels:
        """Return the map of n_segments regions, int32 (H, W), 4-connected, ids in raster order.

        A map with fewer regions only merges regions of one with more. ParameterError unless 1 <= n_segments <= H W.
        """
        pixels = self.size[0] * self.size[1]
        if not 1 <= n_segments <= pixels:
            raise ParameterError(f"n_segments must be between 1 and the number of pixels, {pixels}, not {n_segments}")
        merges = pixels - n_segments
        # Rounds stand in order; within the one that the count cuts, the cheapest merges come first.
        last = int(np.searchsorted(self.rounds, merges, side="right")) - 1
        begin, end = self.rounds[last], self.rounds[min(last + 1, len(self.rounds) - 1)]
        order = begin + np.argsort(self.cost[begin:end], kind="stable")[: merges - begin]
        labels = np.arange(pixels, dtype=np.int32)
        _unite(self.first[:begin], self.second[:begin], labels)
        _unite(self.first[order], self.second[order], labels)
        number_roots(labels)
        return labels.reshape(self.size)


def hierarchy(features: Features) -> Hierarchy:
    """Return the superpixel hierarchy of a feature map, float32 (H, W, C), such as Lab."""
    height, width, channels = features.shape
    merges = height * width - 1
    first, second, cost = np.empty(merges, np.int32), np.empty(merges, np.int32), np.empty(merges, np.float32)
    mean, size = features.reshape(-1, channels).copy(), np.ones(height * width, np.float32)
    pixel = np.arange(height * width, dtype=np.int32)
    edges = _pixel_edges(height, width)
    done, rounds = 0, [0]
    while done < merges:
        into = np.arange(len(size), dtype=np.int32)
        done, count = _round(mean, size, edges, pixel, into, first, second, cost, done)
        edges = edges[: _contract(edges, into, count)]
        mean, size, pixel = mean[:count], size[:count], pixel[:count]
        rounds.append(done)
    return Hierarchy((height, width), first, second, cost, np.array(rounds))


@dataclass(frozen=True, kw_only=True)
class SH(Method):
    """A tree of merges from pixels to the whole image; follows borders very closely. Connected, and of exact count."""

    name = "sh"
    paper = "doi:10.1109/TIP.2018.2836300"
    oversegmentation = 3.0

    smoothing: int = param(0, "passes of a 3 x 3 binomial filter over Lab before the pixels merge", ge=0, le=100)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the hierarchy cut at n_segments."""
        lab = rgb_to_lab(image)
        return Assignment(hierarchy(smooth(lab, self.smoothing)).labels(n_segments), lab, POSITION)

    def segment_counts(self, image: Image, counts: Iterable[int]) -> list[Labels]:
        """Return a label map for each count, all cut from one hierarchy."""
        check_image(image)
        counts = list(counts)
        for count in counts:
            check_count(count, image)
        lab = rgb_to_lab(image)
        tree = hierarchy(smooth(lab, self.smoothing))
        cuts = [tree.labels(self.asked(image, count, None, native=False)) for count in counts]
        whole = self.along(Assignment(np.zeros(lab.shape[:2], np.int32), lab, POSITION), image, None)
        return [self.finish(whole._replace(labels=cut), count) for cut, count in zip(cuts, counts, strict=True)]


@njit(cache=True, nogil=True)
def _pixel_edges(height, width):
    """Scalars. The result is (E, 2) int32: the 4-neighbour edges of the pixel grid, smaller pixel first."""
    edges = np.empty((height * (width - 1) + (height - 1) * width, 2), np.int32)
    e = 0
    for y in range(height):
        for x in range(width):
            for side in range(2):
                if y + side < height and x + 1 - side < width:
                    edges[e, 0], edges[e, 1] = y * width + x, (y + side) * width + x + 1 - side
                    e += 1
    return edges


@njit(cache=True, nogil=True, error_model="numpy")
def _round(mean, size, edges, pixel, into, first, second, cost, done):
    """mean (R, C), size (R,), edges (E, 2), pixel (R,), into (R,) = 0..R-1: changed in place to the merged regions.

    first, second, cost (H W - 1,) take the merges from `done` on. Returns the new `done` and number of regions.
    """
    count, channels = mean.shape
    nearest, least = np.full(count, -1, np.int32), np.full(count, np.inf, np.float32)
    for e in range(len(edges)):
        a, b = edges[e, 0], edges[e, 1]
        distance = np.float32(0)
        for c in range(channels):
            difference = mean[a, c] - mean[b, c]
            distance += difference * difference
        # Equal distances go to the edge that comes first, for both ends alike, so the choices close no cycle.
        if distance < least[a]:
            least[a], nearest[a] = distance, e
        if distance < least[b]:
            least[b], nearest[b] = distance, e
    for r in range(count):
        u, v = edges[nearest[r]]
        a, b = root(into, u), root(into, v)
        if a != b:
            into[max(a, b)] = min(a, b)
            # The two that touch, not their roots: a cut within the round may take this merge and not earlier ones.
            first[done], second[done], cost[done] = pixel[u], pixel[v], least[r]
            done += 1
    left = number_roots(into)
    # A group has the number of its first member or a smaller one, so the sums fit where members no longer needed stood.
    begun = 0
    for r in range(count):
        group, n = into[r], size[r]
        if group == begun:
            for c in range(channels):
                mean[group, c] = n * mean[r, c]
            size[group], pixel[group] = n, pixel[r]
            begun += 1
        else:
            for c in range(channels):
                mean[group, c] += n * mean[r, c]
            size[group] += n
    for group in range(left):
        for c in range(channels):
            mean[group, c] /= size[group]
    return done, left


@njit(cache=True, nogil=True)
def _contract(edges, into, count):
    """edges (E, 2), into (R,). Edges become those between the `count` merged regions, each once; returns how many."""
    # Sorted by their smaller region, repeated edges are neighbours: on large images much faster than a hash table.
    start = np.zeros(count + 1, np.int32)
    for e in range(len(edges)):
        a, b = into[edges[e, 0]], into[edges[e, 1]]
        if a != b:
            start[min(a, b) + 1] += 1
    for r in range(count):
        start[r + 1] += start[r]
    other, place = np.empty(start[count], np.int32), start[:count].copy()
    for e in range(len(edges)):
        a, b = into[edges[e, 0]], into[edges[e, 1]]
        if a != b:
            low = min(a, b)
            other[place[low]] = max(a, b)
            place[low] += 1
    seen, kept = np.full(count, -1, np.int32), 0
    for low in range(count):
        for i in range(start[low], start[low + 1]):
            if seen[other[i]] != low:
                seen[other[i]] = low
                edges[kept, 0], edges[kept, 1] = low, other[i]
                kept += 1
    return kept


@njit(cache=True, nogil=True)
def _unite(first, second, parent):
    """first, second (M,) pixels to unite; parent (N,) int32 forest as in `runs.root`."""
    for m in range(len(first)):
        a, b = root(parent, first[m]), root(parent, second[m])
        parent[max(a, b)] = min(a, b)
