"""FH (Felzenszwalb and Huttenlocher, IJCV 2004): regions join where no edge between them stands out from within.

Edges of the pixel graph are visited from the lightest to the heaviest; one joins its two regions if its weight is at
most the heaviest edge inside either of them plus k / |region| (Eqs. 3 and 4).
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numba import njit

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.regions.runs import root
from spx_cli.types import Assignment, Image

_PER_UNIT = 32  # bins of the counting sort per unit of Lab: edges are ordered to 1/32 of a unit
# Of edges equal to so many bins, the strips of so many pixels take turns: a large image stays in the cache.
_BINS_AT_ONCE = 8
_STRIP = 1 << 15
_ROUNDS = 6  # of the search for a scale


@dataclass(frozen=True, kw_only=True)
class FH(Method):
    """Regions of any size and shape that keep borders very well: large where the image is even. Deterministic.

    4-neighbours, so that regions are 4-connected. The count is met by a search for k, unless `scale` sets it.
    """

    name = "fh"
    paper = "doi:10.1023/B:VISI.0000022288.19776.77"
    oversegmentation = 5.0

    sigma: float = param(0.6, "pixels, Gaussian that smooths the image first; .8 in the paper", ge=0, le=100)
    scale: float = param(0.0, "k in Lab units: larger k, larger regions; 0 = as the count asks", ge=0, le=1e9)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the regions, at least n_segments of them that are no debris where the image has so many."""
        from scipy.ndimage import gaussian_filter

        lab = rgb_to_lab(image)
        smoothed = gaussian_filter(lab, (self.sigma, self.sigma, 0), truncate=3.0) if self.sigma else lab
        first, second, weight = _sorted_edges(smoothed, _PER_UNIT, _BINS_AT_ONCE, _STRIP)
        labels = np.empty(image.shape[:2], np.int32)
        debris = _debris(labels.size, n_segments)
        scale = self.scale or 2.0 * sqrt(labels.size / n_segments)
        low, high = 0.0, np.inf
        for _ in range(1 if self.scale else _ROUNDS):
            regions = _join(first, second, weight, scale, debris, labels.reshape(-1))
            if n_segments <= regions <= 1.25 * n_segments:
                break
            if regions > n_segments:
                low = scale
            else:
                high = scale
            guess = scale * (regions + 1) / (1.1 * n_segments + 1)
            scale = guess if low < guess < high else (2 * low if high == np.inf else (low + high) / 2)
        return Assignment(labels, lab, POSITION)


def _debris(pixels: int, n_segments: int) -> int:
    """Return the size below which a region will not outlive the finishing stage, so that the search passes it over."""
    return max(1, int(0.06 * pixels / n_segments))


@njit(cache=True, nogil=True)
def _sorted_edges(lab, per_unit, at_once, strip):
    """lab (H, W, 3). Returns 4-neighbour edges, lightest first: pixels first, second (E,), weight (E,) float32."""
    height, width, _ = lab.shape
    count = height * (width - 1) + (height - 1) * width
    key = np.empty(count, np.int32)
    strips = (height * width + strip - 1) // strip
    largest, e = 0, 0
    for y in range(height):
        for x in range(width):
            for side in range(2):
                v, u = y + side, x + 1 - side
                if v < height and u < width:
                    dl, da, db = lab[y, x, 0] - lab[v, u, 0], lab[y, x, 1] - lab[v, u, 1], lab[y, x, 2] - lab[v, u, 2]
                    bin_ = int(per_unit * np.sqrt(dl * dl + da * da + db * db))
                    key[e] = (bin_ // at_once * strips + (y * width + x) // strip) * at_once + bin_ % at_once
                    largest = max(largest, key[e])
                    e += 1
    place = np.zeros(largest + 2, np.int32)
    for e in range(count):
        place[key[e] + 1] += 1
    for b in range(largest + 1):
        place[b + 1] += place[b]
    first, second, weight = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.float32)
    e = 0
    for y in range(height):
        for x in range(width):
            for side in range(2):
                v, u = y + side, x + 1 - side
                if v < height and u < width:
                    at = place[key[e]]
                    place[key[e]] += 1
                    first[at], second[at] = y * width + x, v * width + u
                    weight[at] = (key[e] // (strips * at_once) * at_once + key[e] % at_once) / per_unit
                    e += 1
    return first, second, weight


@njit(cache=True, nogil=True)
def _join(first, second, weight, scale, debris, parent):
    """Edges as `_sorted_edges` gives them; parent (N,) int32 out, the root of each pixel's region.

    Returns the number of regions of at least `debris` pixels.
    """
    count = len(parent)
    size, limit = np.ones(count, np.int32), np.full(count, scale, np.float32)
    for p in range(count):
        parent[p] = p
    for e in range(len(weight)):
        a, b = root(parent, first[e]), root(parent, second[e])
        # `limit` is the heaviest edge inside, which is the last one that joined, plus k over the size.
        if a != b and weight[e] <= min(limit[a], limit[b]):
            a, b = min(a, b), max(a, b)
            parent[b] = a
            size[a] += size[b]
            limit[a] = weight[e] + scale / size[a]
    regions = 0
    for p in range(count):
        parent[p] = root(parent, p)
        regions += parent[p] == p and size[p] >= debris
    return regions
