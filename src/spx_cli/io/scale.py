"""From the values a picture file stores to uint8 RGB: range, alpha on white, orientation."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import ImageError
from spx_cli.types import Image

_BLOCK = 1 << 18  # samples brought to float at a time, so that memory stays bounded and in the cache


class Pixels(NamedTuple):
    """What a file stores.

    colour : (H, W) or (H, W, 1 or 3) of any real type.
    full : the value of white, where the format or the type fixes it (black is 0 then), else None.
    alpha : (H, W), 0 transparent to `opaque`; `premultiplied` says that colour has been multiplied by it.
    white_is_zero : the scale runs the other way.
    orientation : EXIF tag 0x0112, 1 to 8.
    """

    colour: NDArray[Any]
    full: int | None
    alpha: NDArray[Any] | None = None
    opaque: int = 255
    premultiplied: bool = False
    white_is_zero: bool = False
    orientation: int = 1


def to_image(pixels: Pixels, value_range: tuple[float, float] | None) -> Image:
    """Return the picture as uint8 (H, W, 3), upright, each value rounded to the nearest level; see `read_image`."""
    colour, alpha = pixels.colour, pixels.alpha
    black, white = _range(pixels, value_range)
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
        levels = _by_blocks(pixels, black, white)
    if levels.ndim == 2 or levels.shape[2] == 1:
        levels = np.repeat(levels.reshape(*levels.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(_upright(levels, pixels.orientation))


def _range(pixels: Pixels, value_range: tuple[float, float] | None) -> tuple[float, float]:
    """Return the values of black and white; ImageError where some value lies outside or nothing says what they are."""
    colour = pixels.colour
    stated = value_range is not None and (pixels.full is None or pixels.full > 255)
    if not stated and pixels.full is not None:
        return 0, pixels.full
    lowest, highest = colour.min(), colour.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ImageError(f"{np.count_nonzero(~np.isfinite(colour)):,} values are NaN or infinite")
    advice = "say which values are black and white: --range LOW,HIGH, value_range=(low, high)"
    if value_range is None and colour.dtype.kind != "f":
        raise ImageError(f"{colour.dtype} pixels, {lowest} to {highest}, have no agreed range; {advice}")
    black, white = value_range if value_range is not None else (0.0, 1.0)
    if lowest < black or highest > white:
        raise ImageError(f"values from {lowest:g} to {highest:g} lie outside {black:g} to {white:g}; {advice}")
    return black, white


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
        levels = _to_levels(colour[block], black, white, pixels.white_is_zero)
        if alpha is not None:
            cover = alpha[block].astype(np.float64) / pixels.opaque
            cover = cover.reshape(cover.shape + (1,) * (levels.ndim - 2))
            if not pixels.premultiplied:
                levels *= cover
            levels += 255.0 * (1.0 - cover)
        out[block] = np.minimum(levels.round(), 255.0)
    return out


def _upright(image: Image, orientation: int) -> Image:
    """Return the picture turned as its EXIF orientation asks."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    flip_y, flip_x = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
