"""SLIC and SLICO (Achanta et al., TPAMI 2012): k-means in (L, a, b, y, x); each centre searches a 2S x 2S window."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numba import njit

from spx_cli import device
from spx_cli.color import FIXED_POINT, POSITION, lab_planes
from spx_cli.methods._grid import grid_seeds
from spx_cli.methods.base import Along, Method, guides_of
from spx_cli.params import param
from spx_cli.types import Assignment, Image, Labels

_PAD = 32  # columns beside the image, so that the windows of usual superpixels need no clipping
_BAND = 32  # rows of a band in which distances are kept
_LANES = 16  # windows are a multiple of this wide, so that the vectorised loop over a row has no remainder


@dataclass(frozen=True, kw_only=True)
class SLIC(Method):
    """Compact superpixels by local k-means in colour and position; the fastest method here.

    Deterministic. Rounds look at every `row_step`-th row only; a last full round labels every pixel. On CUDA they look
    at all rows, and at nine centres per pixel: nearly the same superpixels.
    """

    name = "slic"
    paper = "doi:10.1109/TPAMI.2012.120"
    oversegmentation = 1.5
    by_edges = False  # the fastest method stays so

    compactness: float = param(18.0, "m, weight of distance in position against distance in Lab", ge=0.01, le=1e6)
    iterations: int = param(5, "rounds of k-means", ge=1, le=1000)
    row_step: int = param(3, "rows: a round visits every row_step-th row; on the CPU", ge=1, le=100)
    device: str = param("cpu", "cpu, cuda, cuda:N or auto")

    def __post_init__(self) -> None:
        super().__post_init__()
        device.check(self.device)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map of the nearest centres; it may be disconnected."""
        # To ask for any other device costs the import of torch.
        if self.device != "cpu" and (where := device.pick(self.device)).type == "cuda":
            from spx_cli.methods import _slic_cuda

            labels = _slic_cuda.cluster(image, n_segments, self.compactness, self.iterations, where)
            planes = lab_planes(image).transpose(1, 2, 0)
            return Assignment(labels, planes, POSITION * FIXED_POINT, unit=FIXED_POINT)
        return _cluster(image, n_segments, self.compactness, self.iterations, self.row_step, adaptive=False)

    def segment_batch(
        self,
        images: Sequence[Image],
        n_segments: int = 200,
        *,
        native_count: bool = False,
        raw: bool = False,
        contours: Sequence[Along] | None = None,
    ) -> list[Labels]:
        """Return the label map of each image; threads finish some while the GPU has others."""
        if self.device == "cpu":
            return super().segment_batch(images, n_segments, native_count=native_count, raw=raw, contours=contours)

        def segment(work: tuple[Image, Along]) -> Labels:
            image, guide = work
            return self.segment(image, n_segments, native_count=native_count, raw=raw, contours=guide)

        work = zip(images, guides_of(images, contours), strict=True)
        return device.each(device.pick(self.device), segment, work)


@dataclass(frozen=True, kw_only=True)
class SLICO(Method):
    """SLIC without a compactness to choose: each superpixel scales colour by the largest distance it met (SLICO)."""

    name = "slico"
    paper = "doi:10.1109/TPAMI.2012.120"
    oversegmentation = 1.5
    by_edges = False

    iterations: int = param(5, "rounds of k-means", ge=1, le=1000)
    row_step: int = param(3, "rows: a round visits every row_step-th row", ge=1, le=100)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the map of the nearest centres; it may be disconnected."""
        return _cluster(image, n_segments, 10.0, self.iterations, self.row_step, adaptive=True)


def _cluster(
    image: Image, n_segments: int, compactness: float, iterations: int, row_step: int, *, adaptive: bool
) -> Assignment:
    height, width, _ = image.shape
    planes = lab_planes(image, pad=_PAD)
    seeds = grid_seeds((height, width), n_segments)
    spacing = sqrt(height * width / len(seeds))
    labels = np.zeros((height, width + 2 * _PAD), np.int32)
    _kmeans(planes, seeds, spacing, compactness, iterations, row_step, adaptive, _PAD, _LANES, labels)
    inside = slice(_PAD, _PAD + width)
    return Assignment(
        labels[:, inside], planes[:, :, inside].transpose(1, 2, 0), POSITION * FIXED_POINT, unit=FIXED_POINT
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _kmeans(planes, seeds, spacing, compactness, iterations, row_step, adaptive, pad, lanes, labels):
    """planes (3, H, W + 2 pad) float32; seeds (K, 2) as (y, x); labels (H, W + 2 pad) int32 out."""
    _, height, stride = planes.shape
    width, count = stride - 2 * pad, len(seeds)
    lab, nearest = planes.reshape(-1), labels.reshape(-1)
    distance = np.empty((_BAND, stride), np.float32)
    centres = np.empty((count, 5), np.float32)
    for k in range(count):
        y, x = seeds[k]
        at = int(y + 0.5) * stride + pad + int(x + 0.5)
        for c in range(3):
            centres[k, c] = lab[c * height * stride + at]
        centres[k, 3], centres[k, 4] = y, x
    # SLICO starts like SLIC and then learns, per centre, the largest squared colour distance among its pixels.
    weight = np.full(count, 1.0 / (compactness * FIXED_POINT) ** 2, np.float32)
    totals = np.empty((count, 6), np.float64)
    for turn in range(iterations + 1):
        step = row_step if turn < iterations else 1
        first = turn % row_step if turn < iterations else 0
        first = min(first, height - 1)
        _assign(lab, centres, weight, spacing, first, step, height, stride, pad, lanes, nearest, distance)
        if turn < iterations:
            _update(lab, nearest, first, step, height, stride, pad, width, totals, centres)
            if adaptive:
                _learn_weight(lab, nearest, first, step, height, stride, pad, width, centres, weight)


@njit(cache=True, nogil=True, error_model="numpy")
def _assign(lab, centres, weight, spacing, first, step, height, stride, pad, lanes, nearest, distance):
    """lab (3 * H * stride,) planes, centres (K, 5) as (L, a, b, y, x); nearest (H * stride,) of rows first::step out.

    Works band by band, so that `distance` (rows of a band, stride) is small and stays in the cache.
    """
    plane = height * stride
    half = int(np.ceil(spacing))
    span = (2 * half + lanes) // lanes * lanes
    per_pixel = np.float32(1.0 / (spacing * spacing))
    for band in range(first, height, step * len(distance)):
        band_end = min(band + step * len(distance), height)
        distance[:] = np.float32(np.inf)
        for k in range(len(centres)):
            l0, a0, b0, y0, x0 = centres[k]
            middle = int(y0 + np.float32(0.5))
            top, bottom = max(middle - half, band), min(middle + half + 1, band_end)
            top += (first - top) % step
            left = max(int(x0 + np.float32(0.5)) + pad - span // 2, 0)
            width = min(span, stride - left)
            shift = np.float32(left - pad) - x0
            colour = weight[k]
            for y in range(top, bottom, step):
                dy = np.float32(y) - y0
                from_row = per_pixel * dy * dy
                at = y * stride + left
                lightness, green_red = lab[at : at + width], lab[plane + at : plane + at + width]
                blue_yellow = lab[2 * plane + at : 2 * plane + at + width]
                best, owner = distance[(y - band) // step, left : left + width], nearest[at : at + width]
                for i in range(width):
                    dl = np.float32(lightness[i]) - l0
                    da = np.float32(green_red[i]) - a0
                    db = np.float32(blue_yellow[i]) - b0
                    dx = shift + np.float32(i)
                    d = colour * (dl * dl + da * da + db * db) + (from_row + per_pixel * dx * dx)
                    # Both stores on either way: a loop without branches is one that the compiler vectorises.
                    before, was = best[i], owner[i]
                    best[i] = min(d, before)
                    owner[i] = np.int32(k) if d < before else was


@njit(cache=True, nogil=True, error_model="numpy")
def _update(lab, nearest, first, step, height, stride, pad, width, totals, centres):
    """Arrays as in _assign; totals (K, 6) float64 scratch. Moves every centre to the mean of its pixels."""
    plane = height * stride
    totals[:] = 0.0
    for y in range(first, height, step):
        at = y * stride + pad
        start = 0
        while start < width:
            k = nearest[at + start]
            l0, a0, b0 = 0, 0, 0
            stop = start
            while stop < width and nearest[at + stop] == k:
                l0 += lab[at + stop]
                a0 += lab[at + stop + plane]
                b0 += lab[at + stop + 2 * plane]
                stop += 1
            n = stop - start
            totals[k, 0] += l0
            totals[k, 1] += a0
            totals[k, 2] += b0
            totals[k, 3] += n * y
            totals[k, 4] += 0.5 * n * (start + stop - 1)
            totals[k, 5] += n
            start = stop
    for k in range(len(centres)):
        if totals[k, 5] > 0:
            for c in range(5):
                centres[k, c] = totals[k, c] / totals[k, 5]


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_weight(lab, nearest, first, step, height, stride, pad, width, centres, weight):
    """Arrays as in _assign; weight (K,) becomes 1 / the largest squared colour distance met, at least 1 in Lab."""
    plane = height * stride
    largest = np.full(len(centres), FIXED_POINT**2, np.float32)
    for y in range(first, height, step):
        for at in range(y * stride + pad, y * stride + pad + width):
            k = nearest[at]
            dl, da, db = lab[at] - centres[k, 0], lab[at + plane] - centres[k, 1], lab[at + 2 * plane] - centres[k, 2]
            largest[k] = max(largest[k], dl * dl + da * da + db * db)
    for k in range(len(centres)):
        weight[k] = 1 / largest[k]
