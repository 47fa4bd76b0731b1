"""From the values a picture file stores to uint8 RGB: range, alpha on white, orientation."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import ImageError, ParameterError
from spx_cli.types import Image

ValueRange = tuple[float, float] | str | None  # two values, or "auto"

_BLOCK = 1 << 18  # samples brought to float at a time, so that memory stays bounded and in the cache
_SAMPLES = 1 << 24  # so many values, evenly spread, are enough to find percentiles
PERCENTILES = (0.5, 99.5)  # what a range of "auto" makes black and white
_SLACK = 1e-5  # floats may leave 0 to 1 by so much, as arithmetic makes them
_FEW = 4  # values that span less than the range divided by this are worth a word


def check_range(value_range: ValueRange) -> ValueRange:
    """Return None, "auto" or (black, white); ParameterError unless the range is one, or two finite numbers in order."""
    if value_range is None or (isinstance(value_range, str) and value_range == "auto"):
        return value_range
    try:
        ends = np.asarray(value_range)
    except ValueError:  # nested, and not of one length
        ends = np.empty(0)
    if ends.shape != (2,) or ends.dtype.kind not in "iuf" or not np.isfinite(ends).all():
        raise ParameterError(f"value_range must be two finite numbers or 'auto', not {value_range!r}")
    black, white = ends.tolist()
    if not black < white:
        raise ParameterError(f"value_range must be two numbers, black below white, not {value_range}")
    return black, white


class Narrow(NamedTuple):
    """Values that use little of the range which makes white: from `low` to `high` of 0 to `white`."""

    low: float
    high: float
    white: float


class Pixels(NamedTuple):
    """What a file stores.

    colour : (H, W) or (H, W, 1 or 3) of any real type.
    full : the value of white, where the format or the type fixes it (black is 0 then), else None.
    alpha : (H, W), 0 transparent to `opaque`; `premultiplied` says that colour has been multiplied by it.
    white_is_zero : the scale runs the other way.
    orientation : EXIF tag 0x0112, 1 to 8.
    left_out : bands that are neither colour nor alpha.
    """

    colour: NDArray[Any]
    full: int | None
    alpha: NDArray[Any] | None = None
    opaque: int = 255
    premultiplied: bool = False
    white_is_zero: bool = False
    orientation: int = 1
    left_out: int = 0


class _Range(NamedTuple):
    black: float
    white: float
    narrow: Narrow | None = None


def to_image(pixels: Pixels, value_range: ValueRange) -> tuple[Image, Narrow | None]:
    """Return the picture as uint8 (H, W, 3), upright, each value rounded to the nearest level; see `read_image`."""
    colour, alpha = pixels.colour, pixels.alpha
    black, white, narrow = _range(pixels, value_range)
    if colour.dtype.kind == "b":
        colour = colour.view(np.uint8)
    if alpha is not None and not (alpha.min() >= 0 and alpha.max() <= pixels.opaque):
        raise ImageError(f"alpha from {alpha.min():g} to {alpha.max():g} lies outside 0 to {pixels.opaque}")
    if alpha is not None and alpha.min() == pixels.opaque:
        alpha = None
    if alpha is not None:
        levels = _by_blocks(pixels._replace(colour=colour, alpha=alpha), black, white)
    elif colour.dtype == np.uint8 and (black, white) == (0, 255) and not pixels.white_is_zero:
        levels = colour
    elif colour.dtype.kind == "u" and colour.dtype.itemsize <= 2:
        every = np.arange(np.iinfo(colour.dtype).max + 1)
        levels = _to_levels(every, black, white, pixels.white_is_zero).round().clip(0, 255).astype(np.uint8)[colour]
    else:
        levels = _by_blocks(pixels._replace(alpha=None), black, white)
    if levels.ndim == 2 or levels.shape[2] == 1:
        levels = np.repeat(levels.reshape(*levels.shape[:2], 1), 3, axis=2)
    return np.require(_upright(levels, pixels.orientation), requirements=("C", "W")), narrow


def number(value: float) -> str:
    """Return a value as one may type it."""
    return f"{int(value)}" if value == int(value) and abs(value) < 2**53 else f"{value:.9g}"


def _range(pixels: Pixels, value_range: ValueRange) -> _Range:
    """Return the values of black and white; ImageError where nothing says what they are."""
    colour, full = pixels.colour, pixels.full
    if value_range is None and full is not None and full <= 255:
        return _Range(0, full)
    lowest, highest = colour.min(), colour.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ImageError(f"{np.count_nonzero(~np.isfinite(colour)):,} values are NaN or infinite")
    if value_range == "auto":
        values = colour.ravel()
        low, high = np.percentile(values[:: 1 + values.size // _SAMPLES], PERCENTILES)
        return _Range(float(low), float(high) if high > low else float(low) + 1)
    if isinstance(value_range, tuple):
        return _Range(*value_range)
    low, high = lowest.item(), highest.item()
    ends = f"{number(low)} {number(high)}"
    advice = f"say which values are black and white: --range {ends} or auto, value_range=({ends.replace(' ', ', ')})"
    if full is None and colour.dtype.kind != "f":
        raise ImageError(f"{colour.dtype} pixels, {low} to {high}, have no agreed range; {advice}")
    white = full or 1
    if full is None and (low < -_SLACK or high > 1 + _SLACK):
        raise ImageError(f"values from {low:g} to {high:g} lie outside 0 to 1; {advice}")
    return _Range(0, white, Narrow(low, high, white) if 0 < high - low < white / _FEW else None)


def _to_levels(values: NDArray[Any], black: float, white: float, inverted: bool) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = (values - np.float64(black)) * 255.0 / (white - black)
    return 255.0 - levels if inverted else levels


def _by_blocks(pixels: Pixels, black: float, white: float) -> Image:
    """Return the levels, a few rows at a time: (H, W) or (H, W, C) as colour is."""
    colour, alpha = pixels.colour, pixels.alpha
    out = np.empty(colour.shape, np.uint8)
    rows = max(1, _BLOCK // (colour.size // colour.shape[0]))
    for top in range(0, colour.shape[0], rows):
        block = slice(top, top + rows)
        if alpha is None:
            levels = _to_levels(colour[block], black, white, pixels.white_is_zero).clip(0, 255)
        else:
            cover = alpha[block].astype(np.float64) / pixels.opaque
            cover = cover.reshape(cover.shape + (1,) * (colour.ndim - 2))
            if pixels.premultiplied:  # black has been multiplied, too
                levels = _to_levels(colour[block] - black * cover, 0, white - black, inverted=False)
                levels = (255.0 * cover - levels if pixels.white_is_zero else levels).clip(0, 255.0 * cover)
            else:
                levels = _to_levels(colour[block], black, white, pixels.white_is_zero).clip(0, 255) * cover
            levels += 255.0 * (1.0 - cover)
        out[block] = levels.round()
    return out


def _upright(image: Image, orientation: int) -> Image:
    """Return the picture turned as its EXIF orientation asks."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    flip_y, flip_x = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
