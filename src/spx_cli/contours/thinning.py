"""Lines of one pixel: a mask is thinned, and a label map becomes the boundary that the BSDS benchmark compares.

`thin` is MATLAB's bwmorph(mask, 'thin', Inf), the parallel thinning of Guo and Hall (CACM 1989) with two
sub-iterations; `segment_boundary` is the benchmark's seg2bdry at the size of the image.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.regions.maps import boundaries

Mask = NDArray[np.bool_]


def thin(mask: Mask) -> Mask:
    """Return the lines of a mask, bool (H, W): pixels are peeled off both sides until no line is wider than one.

    Connected parts stay connected, holes stay holes. Pixels outside the picture count as off.

    >>> thin(np.ones((3, 5), bool)).astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0]])
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    _thin(padded.reshape(-1), width + 2, _PEELS)
    return padded[1:-1, 1:-1].astype(np.bool_)


def segment_boundary(labels: NDArray[Any]) -> Mask:
    """Return the thinned boundary between segments, bool (H, W), as the BSDS benchmark draws it.

    labels : (H, W) integers; a pixel with a negative id makes no boundary. See `boundaries`, rule 'corner'.

    >>> segment_boundary(np.array([[0, 0, 1, 1], [0, 0, 1, 1]])).astype(int)
    array([[0, 1, 0, 0],
           [0, 1, 0, 0]])
    """
    return thin(boundaries(labels, "corner"))


def _peeled(code: int) -> int:
    """Return in which sub-iterations a pixel goes: 1 the first, 2 the second, 3 both. Guo and Hall's conditions.

    Bit i of `code` says whether neighbour i is on, anticlockwise from the right: E, NE, N, NW, W, SW, S, SE.
    """
    e, ne, n, nw, w, sw, s, se = ((code >> i) & 1 for i in range(8))
    around = (e, ne, n, nw, w, sw, s, se, e)
    crossings = sum(not around[i] and (around[i + 1] or around[i + 2]) for i in (0, 2, 4, 6))
    pairs = min(
        sum(around[i] or around[i + 1] for i in (0, 2, 4, 6)), sum(around[i + 1] or around[i + 2] for i in (0, 2, 4, 6))
    )
    if crossings != 1 or pairs not in (2, 3):
        return 0
    return int(not ((ne or n or not se) and e)) + 2 * int(not ((sw or s or not nw) and w))


_PEELS = np.array([_peeled(code) for code in range(256)], np.uint8)


@njit(cache=True, nogil=True)
def _thin(mask, width, peels):
    """mask (H W,) uint8 with a frame of zeros; peels (256,) as `_peeled`. Peels it in place.

    A pixel is looked at again only where a neighbour went in one of the last two sub-iterations.
    """
    around = np.array([1, 1 - width, -width, -width - 1, -1, width - 1, width, width + 1])
    candidates = np.flatnonzero(mask)
    seen = np.full(mask.size, -1, np.int32)
    gone = np.empty(candidates.size, np.int64)
    begin = end = 0  # those that went in the last sub-iteration
    step = 0
    while True:
        bit = 1 + step % 2
        first = end
        for p in candidates:
            if mask[p]:
                code = 0
                for i in range(8):
                    code |= mask[p + around[i]] << i
                if peels[code] & bit:
                    gone[end] = p
                    end += 1
        for i in range(first, end):
            mask[gone[i]] = 0
        step += 1
        if step >= 2:
            if end == begin:
                return
            count = 0
            for i in range(begin, end):
                for offset in around:
                    p = gone[i] + offset
                    if mask[p] and seen[p] != step:
                        seen[p] = step
                        count += 1
            candidates = np.empty(count, np.int64)
            count = 0
            for i in range(begin, end):
                for offset in around:
                    p = gone[i] + offset
                    if mask[p] and seen[p] == step:
                        seen[p] = -1
                        candidates[count] = p
                        count += 1
        begin = first
