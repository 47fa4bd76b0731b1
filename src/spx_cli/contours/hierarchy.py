"""The regions that an ultrametric contour map encloses at each threshold, and the BSDS region benchmark of them.

Such a map (Arbelaez et al., TPAMI 2011) has 2 H + 1 rows and 2 W + 1 columns: pixels lie at odd places, the cracks
between them beside; two pixels are of one region at a threshold if a way between them crosses no stronger crack.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.errors import FormatError
from spx_cli.metrics.region import covering_parts, rand_index, variation_of_information
from spx_cli.regions.maps import group, overlap_compact
from spx_cli.regions.runs import number_roots, root
from spx_cli.types import Contours, Labels

Values = NDArray[np.float64]


class RegionCounts(NamedTuple):
    """How the regions of one image fare at T thresholds.

    covered : (T,) pixels of true segments, each times the intersection over union with its best region, summed over
        annotations. best : the same with the best threshold of each segment. pixels : pixels of all segments.
    rand, information : (T,) Rand index and variation of information in bits, mean over annotations.
    """

    covered: Values
    best: float
    pixels: int
    rand: Values
    information: Values

    def kept(self) -> dict[str, Any]:
        """Return the counts as JSON can hold them; `read` gives them back."""
        return {name: np.asarray(value).tolist() for name, value in self._asdict().items()}

    @classmethod
    def read(cls, held: Mapping[str, Any]) -> Self:
        """Return counts from what `kept` gave."""
        values: Any = {name: np.array(value) if isinstance(value, list) else value for name, value in held.items()}
        return cls(**values)


class RegionScores(NamedTuple):
    """Scores with one threshold for all images; `_ois`: with that of each image; `_best`: with that of each segment."""

    covering: float
    covering_ois: float
    covering_best: float
    ri: float
    ri_ois: float
    voi: float
    voi_ois: float


def enclosed(ultrametric: Contours, level: float) -> Labels:
    """Return the regions at a threshold, int32 (H, W), ids in raster order; FormatError for a map of even sides.

    >>> crack = np.zeros((3, 5), np.float32)
    >>> crack[:, 2] = 0.5
    >>> enclosed(crack, 0.4), enclosed(crack, 0.5)
    (array([[0, 1]], dtype=int32), array([[0, 0]], dtype=int32))
    """
    height, width = ultrametric.shape
    if min(height, width) < 3 or height % 2 == 0 or width % 2 == 0:
        raise FormatError(f"an ultrametric map has 2 H + 1 rows and 2 W + 1 columns, not {height} x {width}")
    labels = np.arange((height // 2) * (width // 2), dtype=np.int32)
    _join(ultrametric, level, labels)
    return labels.reshape(height // 2, width // 2)


def region_counts(ultrametric: Contours, truths: Sequence[Labels], levels: Values) -> RegionCounts:
    """Return the counts of one image.

    ultrametric : (2 H + 1, 2 W + 1), 0 to 1. truths : compact label maps, -1 where there is none. levels : (T,).
    """
    number = len(levels)
    covered, rand, information = np.zeros(number), np.zeros(number), np.zeros(number)
    best = [np.zeros(int(truth.max()) + 1) for truth in truths]
    joined = -1
    for i, level in enumerate(levels):
        if (found := int(np.count_nonzero(ultrametric <= level))) == joined:
            covered[i], rand[i], information[i] = covered[i - 1], rand[i - 1], information[i - 1]
            continue
        joined = found
        regions = group(enclosed(ultrametric, float(level)))
        for truth, most in zip(truths, best, strict=True):
            table = overlap_compact(regions, truth)
            parts = covering_parts(table)
            np.maximum(most, parts, out=most)
            covered[i] += parts.sum()
            rand[i] += rand_index(table) / len(truths)
            information[i] += variation_of_information(table) / len(truths)
    pixels = sum(int(np.count_nonzero(truth >= 0)) for truth in truths)
    return RegionCounts(covered, float(sum(most.sum() for most in best)), pixels, rand, information)


def summarise_regions(counts: Iterable[RegionCounts]) -> RegionScores:
    """Return the scores of a data set, as the benchmark's collect_eval_reg does; NaN without an image."""
    images = list(counts)
    if not images:
        return RegionScores(*[float("nan")] * len(RegionScores._fields))
    pixels = sum(image.pixels for image in images)
    return RegionScores(
        covering=float(np.sum([image.covered for image in images], 0).max() / pixels),
        covering_ois=float(sum(image.covered.max() for image in images) / pixels),
        covering_best=float(sum(image.best for image in images) / pixels),
        ri=float(np.mean([image.rand for image in images], 0).max()),
        ri_ois=float(np.mean([image.rand.max() for image in images])),
        voi=float(np.mean([image.information for image in images], 0).min()),
        voi_ois=float(np.mean([image.information.min() for image in images])),
    )


@njit(cache=True, nogil=True)
def _join(ultrametric, level, parent):
    """ultrametric (2 H + 1, 2 W + 1); parent (H W,) int32 = 0.. becomes the number of the region of each pixel."""
    height, width = ultrametric.shape[0] // 2, ultrametric.shape[1] // 2
    for y in range(height):
        for x in range(width):
            p = y * width + x
            if x + 1 < width and ultrametric[2 * y + 1, 2 * x + 2] <= level:
                _unite(parent, p, p + 1)
            if y + 1 < height and ultrametric[2 * y + 2, 2 * x + 1] <= level:
                _unite(parent, p, p + width)
    return number_roots(parent)


@njit(cache=True, nogil=True)
def _unite(parent, p, q):
    a, b = root(parent, p), root(parent, q)
    parent[max(a, b)] = min(a, b)
