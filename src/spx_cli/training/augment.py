"""Random magnification, turning, crop, mirroring and tones of an image, as a function of (seed, position) alone.

Position p is the p-th sample of a training run, counted over all steps and processes. So a run that was killed and
resumed, or spread over several processes, sees the same samples as one that was not.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.errors import ParameterError
from spx_cli.methods._recipe import Recipe
from spx_cli.types import Image

_SAME = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)  # every value shown as itself
Truth = NDArray[np.int64] | NDArray[np.float32]


class View(NamedTuple):
    """A window on a magnified image: `size` pixels from (top, left) of the image enlarged by `scale`, then mirrored.

    angle : radians by which the window is turned about its centre. tones : uint8 (256, 3), the value that each value of
    each channel is shown as, or None.
    """

    scale: tuple[float, float]
    top: int
    left: int
    size: tuple[int, int]
    flip_y: bool
    flip_x: bool
    angle: float = 0.0
    tones: NDArray[np.uint8] | None = None


def generator(seed: int, position: int, stream: int = 0) -> np.random.Generator:
    """Return the random numbers of one position; Philox is counter-based, so none has to be drawn to reach it."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, 0, position]))


def index(seed: int, position: int, count: int) -> int:
    """Return which of `count` samples stands at a position: each epoch is a permutation of its own."""
    return int(_permutation(seed, position // count, count)[position % count])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(seed, epoch, stream=1).permutation(count)


def draw(rng: np.random.Generator, size: tuple[int, int], recipe: Recipe) -> View:
    """Return a random view of an image of `size` (height, width).

    The magnification never makes an image smaller than the crop; an image that is itself smaller is enlarged to it.
    """
    height, width = size
    if recipe.scale_sd > 0:
        scale = float(np.clip(rng.normal(1.0, recipe.scale_sd), recipe.scale_min, recipe.scale_max))
    else:
        scale = float(np.exp(rng.uniform(np.log(recipe.scale_min), np.log(recipe.scale_max))))
    scale = max(scale, recipe.crop / min(size), 1 / min(size))
    rows, columns = max(round(height * scale), recipe.crop), max(round(width * scale), recipe.crop)
    crop = (recipe.crop, recipe.crop) if recipe.crop else (rows, columns)
    top, left = int(rng.integers(rows - crop[0] + 1)), int(rng.integers(columns - crop[1] + 1))
    flip_y, flip_x = rng.random(2) < 0.5
    return View(
        (rows / height, columns / width),
        top,
        left,
        crop,
        bool(flip_y and recipe.flips == "hv"),
        bool(flip_x and recipe.flips != "none"),
        # Recipes without these draw the same numbers as before there were any.
        float(np.radians(rng.uniform(-recipe.rotate, recipe.rotate))) if recipe.rotate > 0 else 0.0,
        _tones(rng, recipe.jitter) if recipe.jitter > 0 else None,
    )


def _tones(rng: np.random.Generator, jitter: float) -> NDArray[np.uint8]:
    """Return a table of values (256, 3): gamma and contrast common to the channels, gain of all and of each."""
    gamma, contrast, gain = np.exp(jitter * rng.uniform(-1, 1, 3))
    balance = np.exp(0.4 * jitter * rng.uniform(-1, 1, 3))
    level = (np.arange(256)[:, None] / 255) ** gamma
    shown = ((level - 0.5) * contrast + 0.5) * gain * balance
    return np.asarray(np.clip(255 * shown + 0.5, 0, 255), np.uint8)


def look(image: Image, truth: NDArray[Any] | None, view: View) -> tuple[Image, Truth | None]:
    """Return what a view shows: the image uint8 (h, w, 3), bilinear, and the annotation, nearest.

    truth : (H, W) ids 0..G-1, and -1 for pixels without one; they come back as int64 (h, w), numbered anew in raster
        order, from 0 without gaps, so that a crop holds no id it does not show. Or flow, float32 (H, W, 2) as (x, y) in
        pixels; it comes back as (2, h, w), magnified and mirrored like the image. Or contours, float32 (H, W); they
        come back as (h, w). A view of either must not be turned.
    """
    seen = np.empty((*view.size, 3), np.uint8)
    labelled = truth is not None and truth.dtype.kind != "f"
    ids = np.empty(view.size if labelled else (0, 0), np.int64)
    source = truth if truth is not None and labelled else np.empty((0, 0), np.int16)
    table = np.full(int(source.max(initial=0)) + 1, -1, np.int64)
    turn = np.sin(view.angle), np.cos(view.angle)
    tones = _SAME if view.tones is None else view.tones
    _look(image, source, table, *view.scale, view.top, view.left, view.flip_y, view.flip_x, *turn, tones, seen, ids)
    if truth is None or labelled:
        return seen, ids if labelled else None
    if view.angle:
        raise ParameterError("optical flow and contours cannot be rotated: set rotate=0")
    return seen, _look_at_flow(truth, view) if truth.ndim == 3 else np.ascontiguousarray(truth[_nearest(truth, view)])


def _nearest(values: NDArray[Any], view: View) -> tuple[NDArray[np.intp], ...]:
    """Return where in an array (H, W, ...) what a view shows lies, as indices of rows and columns."""
    places = []
    for first, count, scale, flip, old in zip(
        (view.top, view.left), view.size, view.scale, (view.flip_y, view.flip_x), values.shape[:2], strict=True
    ):
        near = np.minimum((first + np.arange(count) + 0.5) / scale, old - 1).astype(np.intp)
        places.append(near[::-1] if flip else near)
    return np.ix_(*places)


def _look_at_flow(flow: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    stretch = np.array([s * (-1 if f else 1) for s, f in zip(view.scale, (view.flip_y, view.flip_x), strict=True)])
    seen: NDArray[np.float32] = flow[_nearest(flow, view)] * stretch[::-1].astype(np.float32)
    return np.ascontiguousarray(seen.transpose(2, 0, 1))


@njit(cache=True, nogil=True)
def _look(image, truth, table, scale_y, scale_x, top, left, flip_y, flip_x, sine, cosine, tones, seen, ids):
    """Image (H, W, 3), truth (H, W) or empty, table (G,) of -1, tones (256, 3); fills seen (h, w, 3) and ids (h, w)."""
    height, width = image.shape[:2]
    rows, columns = seen.shape[:2]
    following = 0
    for i in range(rows):
        down = (rows - 1 - i if flip_y else i) + 0.5 - 0.5 * rows
        for j in range(columns):
            right = (columns - 1 - j if flip_x else j) + 0.5 - 0.5 * columns
            y = (top + 0.5 * rows + cosine * down + sine * right) / scale_y
            x = (left + 0.5 * columns - sine * down + cosine * right) / scale_x
            outside = not (0 <= y < height and 0 <= x < width)
            near_y, near_x = min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)
            y, x = min(max(y - 0.5, 0.0), height - 1.0), min(max(x - 0.5, 0.0), width - 1.0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            fy, fx = np.float32(y - y0), np.float32(x - x0)
            for c in range(3):
                upper = image[y0, x0, c] + fx * (np.float32(image[y0, x1, c]) - np.float32(image[y0, x0, c]))
                lower = image[y1, x0, c] + fx * (np.float32(image[y1, x1, c]) - np.float32(image[y1, x0, c]))
                seen[i, j, c] = tones[np.uint8(upper + fy * (lower - upper) + np.float32(0.5)), c]
            if truth.size:
                old = truth[near_y, near_x]
                if old < 0 or outside:
                    ids[i, j] = -1
                else:
                    if table[old] < 0:
                        table[old] = following
                        following += 1
                    ids[i, j] = table[old]
