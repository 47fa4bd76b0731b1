"""Pictures of a label map over its image: boundary lines, mean colours, arbitrary colours, and image beside lines."""

from collections.abc import Callable
from functools import cache
from math import sqrt
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import ImageColor

from spx_cli.errors import LabelError, ParameterError
from spx_cli.registry import unknown
from spx_cli.types import Image, Labels, check_image

Colour = NDArray[np.uint8]  # (3,) RGB

LINE = "#ffe14d"  # a yellow rare in photographs; its dark seam carries it over white, sand and flowers
SEAM = 0.45  # opacity of the seam, dark along a light line and light along a dark one
REFERENCE_SIDE = 480  # pixels of the longer side at which a line is one pixel wide; it widens with the square root
REGION_SIDE = 8  # pixels of the side of regions that bear a line of one pixel; smaller ones get fainter lines, no seam
MOST_THICKNESS = 100


def render(
    image: Image,
    labels: NDArray[Any],
    mode: str = "boundaries",
    *,
    color: str | None = None,
    thickness: float | None = None,
) -> Image:
    """Return a picture of `labels` over `image`, uint8 (H, W, 3); side-by-side is wider.

    mode : a name from OVERLAYS.
    labels : (H, W), whole numbers of any size from 0, perhaps with gaps or in scattered regions.
    color : of the lines, a name or #rrggbb as Pillow's ImageColor reads it; yellow by default. The modes mean and
        random have lines only where it is given.
    thickness : of the lines, pixels. By default it grows with the image, and shrinks, down to faint lines, where
        regions are so small that lines would hide them.

    Raises UnknownName for another mode, ParameterError for a colour or a thickness that does not exist, ImageError for
    anything but a uint8 (H, W, 3) array, LabelError for a map that does not fit it or has negative ids.

    >>> image = np.zeros((1, 2, 3), np.uint8)
    >>> render(image + np.array([[[0], [9]]], np.uint8), np.array([[4, 4]]), "mean").tolist()
    [[[5, 5, 5], [5, 5, 5]]]
    """
    if not isinstance(mode, str):
        raise ParameterError(f"mode must be one of {', '.join(OVERLAYS)}, not {mode!r}")
    if mode not in OVERLAYS:
        raise unknown("overlay", mode, OVERLAYS)
    check_image(image)
    _check_map(labels, image)
    if thickness is not None and not (isinstance(thickness, Real) and 0 < thickness <= MOST_THICKNESS):
        raise ParameterError(f"thickness must be above 0 and at most {MOST_THICKNESS} pixels, not {thickness!r}")
    image = np.require(image, requirements=("C", "W"))  # one layout, lest the kernels be compiled for each
    return OVERLAYS[mode](image, _compact(labels), Pen(None if color is None else parse_color(color), thickness))


def _check_map(labels: NDArray[Any], image: Image) -> None:
    """Raise LabelError unless `labels` are whole numbers from 0 for every pixel of a valid image."""
    if not isinstance(labels, np.ndarray):
        found = type(labels).__name__
        raise LabelError(f"a label map must be an array, not a {found}; numpy.asarray(labels) makes one of numbers")
    if isinstance(labels, np.ma.MaskedArray):
        raise LabelError("a label map must not be masked: every pixel has an id; labels.filled(ID) gives them one")
    if labels.shape != image.shape[:2]:
        raise LabelError(f"the label map is {labels.shape} and the image {image.shape[:2]}; they must be of one size")
    if labels.dtype.kind not in "ui":
        raise LabelError(f"ids must be whole numbers, not {labels.dtype}")
    if (lowest := labels.min()) < 0:
        raise LabelError(f"ids must not be negative, found {lowest}")


class Pen(NamedTuple):
    """How lines are drawn: None for the usual colour, or thickness."""

    colour: Colour | None = None
    thickness: float | None = None


def boundaries(image: Image, labels: Labels, pen: Pen) -> Image:
    """Return the image under boundary lines with a contrasting seam."""
    line = parse_color(LINE) if pen.colour is None else pen.colour
    seam = np.full(3, 0 if line @ np.array([0.299, 0.587, 0.114]) > 110 else 255, np.uint8)
    side = sqrt(labels.size / np.count_nonzero(np.bincount(labels.ravel())))  # of a region, were all equal squares
    width = pen.thickness or min(max(1, round(sqrt(max(image.shape[:2]) / REFERENCE_SIDE))), side / REGION_SIDE)
    margin = min(max(1.0, width / 2), max(0.0, side / REGION_SIDE - 1))
    radius = int(width / 2 + margin + 0.5)
    far = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1])
    stamp = np.stack([(width / 2 + 0.5 - far).clip(0, 1), SEAM * (width / 2 + margin + 0.5 - far).clip(0, 1)])
    picture: Image = _draw(image, labels, line, seam, (stamp * 255).round().astype(np.uint8))
    return picture


def mean(image: Image, labels: Labels, pen: Pen) -> Image:
    """Return the image with every region in its mean colour."""
    picture: Image = _means(image, labels, int(labels.max()) + 1)
    return picture if pen.colour is None else boundaries(picture, labels, pen)


def random(image: Image, labels: Labels, pen: Pen) -> Image:
    """Return the regions in colours that depend on the map alone and differ clearly between neighbours."""
    picture: Image = _paint(labels, int(labels.max()) + 1, _palette().astype(np.int64))
    return picture if pen.colour is None else boundaries(picture, labels, pen)


def side_by_side(image: Image, labels: Labels, pen: Pen) -> Image:
    """Return the image, a white gap and the image under lines, from left to right."""
    gap = np.full((image.shape[0], max(2, image.shape[1] // 80), 3), 255, np.uint8)
    return np.concatenate([image, gap, boundaries(image, labels, pen)], axis=1)


OVERLAYS: dict[str, Callable[[Image, Labels, Pen], Image]] = {
    "boundaries": boundaries,
    "mean": mean,
    "random": random,
    "side-by-side": side_by_side,
}


def parse_color(name: str) -> Colour:
    """Return red, green, blue of a color, a name or #rrggbb; ParameterError for any other."""
    try:
        if isinstance(name, str):
            return np.array(ImageColor.getrgb(name)[:3], np.uint8)
    except ValueError:
        pass
    raise ParameterError(f"unknown color {name!r}; use a name such as 'red' or '#rrggbb'")


def _compact(labels: NDArray[Any]) -> Labels:
    """Return the map as int32 with ids below the number of pixels, so that they can index tables."""
    if labels.max() >= labels.size:
        labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return np.require(labels, np.int32, ("C", "W"))


@cache
def _palette() -> Image:
    """Return (60, 3) colours: 20 hues in three lightnesses, of equal chroma in Oklab (Ottosson 2020)."""
    lightness, hue = np.meshgrid((0.5, 0.68, 0.86), np.arange(20) * np.pi / 10, indexing="ij")
    lab = np.stack([lightness, 0.13 * np.cos(hue), 0.13 * np.sin(hue)], -1).reshape(-1, 3)
    to_lms = [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    to_rgb = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    linear = ((lab @ np.transpose(to_lms)) ** 3 @ np.transpose(to_rgb)).clip(0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    palette: Image = (rgb * 255).round().astype(np.uint8)
    return palette


@njit(cache=True, nogil=True)
def _draw(image, labels, line, seam, stamp):
    """image (H, W, 3), labels (H, W), line, seam (3,), stamp (2, D, D) uint8 opacities of both. Returns (H, W, 3)."""
    height, width = labels.shape
    radius = stamp.shape[1] // 2
    cover = np.zeros((2, height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            right = x + 1 < width and labels[y, x + 1] != label
            if not (right or (y + 1 < height and labels[y + 1, x] != label)):
                continue
            for dy in range(max(-radius, -y), min(radius + 1, height - y)):
                for dx in range(max(-radius, -x), min(radius + 1, width - x)):
                    for layer in range(2):
                        opacity = stamp[layer, dy + radius, dx + radius]
                        if opacity > cover[layer, y + dy, x + dx]:
                            cover[layer, y + dy, x + dx] = opacity
    out = image.copy()
    for y in range(height):
        for x in range(width):
            under, over = np.int32(cover[1, y, x]), np.int32(cover[0, y, x])
            if under or over:
                for c in range(3):
                    value = (image[y, x, c] * (255 - under) + seam[c] * under + 127) // 255
                    out[y, x, c] = (value * (255 - over) + line[c] * over + 127) // 255
    return out


@njit(cache=True, nogil=True)
def _means(image, labels, count):
    """image (H, W, 3), labels (H, W) below count. Returns (H, W, 3) uint8, means rounded half up."""
    sums = np.zeros((count, 4), np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            of = sums[labels[y, x]]
            of[0] += image[y, x, 0]
            of[1] += image[y, x, 1]
            of[2] += image[y, x, 2]
            of[3] += 1
    means = np.empty((count, 3), np.uint8)
    for i in range(count):
        n = max(sums[i, 3], 1)
        for c in range(3):
            means[i, c] = (2 * sums[i, c] + n) // (2 * n)
    out = np.empty(image.shape, np.uint8)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            of = means[labels[y, x]]
            out[y, x, 0] = of[0]
            out[y, x, 1] = of[1]
            out[y, x, 2] = of[2]
    return out


@njit(cache=True, nogil=True)
def _paint(labels, count, palette):
    """labels (H, W) below count, palette (N, 3) int64. Returns (H, W, 3) uint8.

    Region after region takes, of a few colours drawn by its id, the one farthest from its neighbours' colours.
    """
    height, width = labels.shape
    ends = np.zeros(count + 1, np.int64)
    for y in range(height):
        for x in range(width):
            a = labels[y, x]
            if x + 1 < width and labels[y, x + 1] != a:
                ends[max(a, labels[y, x + 1]) + 1] += 1
            if y + 1 < height and labels[y + 1, x] != a:
                ends[max(a, labels[y + 1, x]) + 1] += 1
    for i in range(count):
        ends[i + 1] += ends[i]
    smaller = np.empty(
        ends[count], np.int32
    )  # neighbours of region i with smaller ids, repeated: ends[i] to ends[i + 1]
    free = ends[:-1].copy()
    for y in range(height):
        for x in range(width):
            a = labels[y, x]
            for dy, dx in ((0, 1), (1, 0)):
                if y + dy < height and x + dx < width and labels[y + dy, x + dx] != a:
                    b = labels[y + dy, x + dx]
                    smaller[free[max(a, b)]] = min(a, b)
                    free[max(a, b)] += 1
    chosen = np.empty(count, np.int32)
    for i in range(count):
        best = -1
        state = np.uint64(i) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
        for _ in range(8):
            state ^= state >> np.uint64(29)
            state *= np.uint64(0xBF58476D1CE4E5B9)
            state ^= state >> np.uint64(32)
            candidate = np.int64(state % np.uint64(palette.shape[0]))
            nearest = 1 << 30
            for j in range(ends[i], ends[i + 1]):
                other = chosen[smaller[j]]
                distance = 0
                for c in range(3):
                    difference = palette[candidate, c] - palette[other, c]
                    distance += difference * difference
                nearest = min(nearest, distance)
            if nearest > best:
                best = nearest
                chosen[i] = candidate
    out = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                out[y, x, c] = palette[chosen[labels[y, x]], c]
    return out
