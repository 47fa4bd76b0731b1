"""ERS (Liu et al., CVPR 2011): the entropy rate of a random walk on the pixel graph, balanced, maximised greedily.

Edges are added one by one, never closing a cycle, each the one with the largest gain of

    H(A) + lambda B(A),    H: entropy rate of the walk on the chosen edges A (Eq. 4),
                           B: entropy of the cluster sizes less the number of clusters (Eq. 6),

until n_segments clusters are left. Gains only fall as edges are added, so an edge is valued anew when it reaches the
top of the queue, and taken if it is still there (lazy greedy). On 4-neighbours clusters are 4-connected by nature.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.methods._smoothing import smooth
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.regions.finish import SMALL
from spx_cli.types import Assignment, Image

# The queue is one list of edges per bin of gain. A bin is what the upper bits of a float32 leave together, 1/64 of an
# octave, so from 1 to 2^-20, around zero and down to -2^12 its width is a constant share of the gain.
_SHIFT = 17
_LEAST = int(np.float32(2.0**-20).view(np.int32)) >> _SHIFT
_HALF = (int(np.float32(1.0).view(np.int32)) >> _SHIFT) - _LEAST
_BINS = _HALF + (int(np.float32(2.0**12).view(np.int32)) >> _SHIFT) - _LEAST + 1
# Pixels of a strip of the image with a queue of its own, and the bins it works through while the others wait. Small
# clusters of one strip hardly concern the next, and a large image need not leave the cache at every edge.
_STRIP = 1 << 15
_BINS_AT_ONCE = 128
_SMALL = 4  # strips take turns while there are more than so many clusters per cluster asked for
_ATTEMPTS = 4  # to meet the count
_FAINT = 1e-20  # least weight of an edge, so that an image of pure noise still has an order


@dataclass(frozen=True, kw_only=True)
class ERS(Method):
    """Entropy rate superpixels: compact and homogeneous clusters of similar size. Deterministic."""

    name = "ers"
    paper = "doi:10.1109/CVPR.2011.5995323"
    oversegmentation = 6.0

    sigma: float = param(
        3.0, "Lab units, width of the Gaussian that turns colour difference into edge weight", ge=0.01, le=1e6
    )
    balance: float = param(0.5, "lambda', weight of the balancing term", ge=0, le=1e6)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the trees that the chosen edges form, numbered by one of their pixels: n_segments of some size."""
        lab = rgb_to_lab(image)
        weight = _edge_weights(lab, self.sigma, _FAINT)
        asked = n_segments
        for _ in range(_ATTEMPTS):
            labels = _greedy(weight, asked, self.balance, _SHIFT, _LEAST, _HALF, _BINS)
            # Pixels that resemble nothing stay alone. They do not outlive the finishing stage and are not counted.
            lasting = np.count_nonzero(np.bincount(labels.ravel()) >= max(1, int(SMALL * labels.size / n_segments)))
            if lasting >= 0.9 * n_segments:
                break
            asked = min(asked + n_segments - lasting, labels.size)
        return Assignment(labels, smooth(lab, 2), POSITION)


@njit(cache=True, nogil=True, error_model="numpy")
def _edge_weights(lab, sigma, faint):
    """lab (H, W, 3). Returns (H, W, 2) float32: weight of the edges to the right and down; 0 where there is none."""
    height, width, channels = lab.shape
    weight = np.zeros((height, width, 2), np.float32)
    scale = np.float32(-0.5 / (sigma * sigma))
    for y in range(height):
        for x in range(width):
            for side in range(2):
                v, u = y + side, x + 1 - side
                if v < height and u < width:
                    square = np.float32(0)
                    for c in range(channels):
                        difference = lab[y, x, c] - lab[v, u, c]
                        square += difference * difference
                    weight[y, x, side] = max(np.exp(scale * square), np.float32(faint))
    return weight


@njit(cache=True, nogil=True)
def _root(parent, i):
    """parent (N,) int32: the parent, or minus the size at a root. Halves the path on the way."""
    while parent[i] >= 0:
        up = parent[i]
        if parent[up] >= 0:
            parent[i] = parent[up]
        i = up
    return i


@njit(cache=True, nogil=True, error_model="numpy")
def _walk_gain(a, b, w):
    """Scalars: loop weights at both ends of an edge and its weight. The rise of H, times the sum of all weights."""
    # A loop holds at least the edges not yet chosen; rounding may leave it less.
    a, b = max(a, w), max(b, w)
    gain = a * np.log(a) + b * np.log(b) - 2 * w * np.log(w)
    if a > w:
        gain -= (a - w) * np.log(a - w)
    if b > w:
        gain -= (b - w) * np.log(b - w)
    return gain


@njit(cache=True, nogil=True, error_model="numpy")
def _bin(gain, shift, least, half, bins):
    """Scalar: bin of a gain, see _SHIFT."""
    size = max((np.float32(abs(gain)).view(np.int32) >> shift) - least, 0)
    return max(half - size, 0) if gain > 0 else min(half + size, bins - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _greedy(weight, n_segments, balance, shift, least, half, bins):
    """weight (H, W, 2). Returns (H, W) int32: a pixel of the cluster that each pixel belongs to, as its flat index.

    Edge 2 i + side leaves pixel i. The walk starts with no edge, so each pixel's loop has the weight of all its edges.
    """
    height, width, _ = weight.shape
    pixels = height * width
    w = weight.reshape(-1)
    step = (1, width)
    loop = np.zeros(pixels, np.float32)
    for i in range(pixels):
        for side in range(2):
            if w[2 * i + side] > 0:
                loop[i] += w[2 * i + side]
                loop[i + step[side]] += w[2 * i + side]
    largest = 0.0
    for e in range(2 * pixels):
        if w[e] > 0:
            largest = max(largest, _walk_gain(loop[e >> 1], loop[(e >> 1) + step[e & 1]], w[e]))
    # lambda = lambda' K beta, beta the ratio of the largest gains of H and B (section 4.3). Merging clusters of a and b
    # pixels loses t(a + b) - t(a) - t(b) with t(n) = n log n / N; that it also loses a cluster is the same for all.
    table = np.zeros(pixels + 1, np.float32)
    for n in range(1, pixels + 1):
        table[n] = balance * n_segments / pixels * n * np.log(n)
    strips = (pixels + _STRIP - 1) // _STRIP
    head, follow = np.full((strips, bins), -1, np.int32), np.empty(2 * pixels, np.int32)
    for e in range(2 * pixels - 1, -1, -1):
        if w[e] > 0:
            gain = _walk_gain(loop[e >> 1], loop[(e >> 1) + step[e & 1]], w[e])
            b = _bin(gain / largest - table[2], shift, least, half, bins)
            strip = (e >> 1) // _STRIP
            follow[e], head[strip, b] = head[strip, b], e
    parent = np.full(pixels, -1, np.int32)
    left, low = pixels, 0
    while left > n_segments and low < bins:
        high = min(low + _BINS_AT_ONCE, bins) if left > _SMALL * n_segments else low + 1
        for strip in range(strips):
            queue = head[strip]
            b = low
            while b < high and left > n_segments:
                e = queue[b]
                if e < 0:
                    b += 1
                    continue
                queue[b] = follow[e]
                i, j = e >> 1, (e >> 1) + step[e & 1]
                one, other = _root(parent, i), _root(parent, j)
                if one == other:
                    continue
                n, m = -parent[one], -parent[other]
                gain = _walk_gain(loop[i], loop[j], w[e]) / largest - (table[n + m] - table[n] - table[m])
                now = _bin(gain, shift, least, half, bins)
                if now > b:
                    follow[e], queue[now] = queue[now], e
                    continue
                loop[i] -= w[e]
                loop[j] -= w[e]
                if n < m:
                    one, other = other, one
                parent[other], parent[one] = one, -(n + m)
                left -= 1
        low = high
    labels = np.empty(pixels, np.int32)
    for i in range(pixels):
        labels[i] = _root(parent, i)
    return labels.reshape(height, width)
