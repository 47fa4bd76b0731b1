"""The one decoder: any picture file becomes uint8 (H, W, 3) RGB, or an ImageError that names it and says why."""

import io
from contextlib import AbstractContextManager, nullcontext
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image as pillow

from spx_cli.errors import FormatError, ImageError, ParameterError, SpxError
from spx_cli.io import tiff
from spx_cli.io.codec import (
    KINDS,
    TIFF_HEADS,
    CheckSize,
    Decoder,
    is_png16,
    open_header,
    png16,
    quietly,
    recognise,
    stored,
)
from spx_cli.io.files import DAMAGE, atomic, printable, reason
from spx_cli.io.remarks import Remarks, Traits
from spx_cli.io.scale import Pixels, ValueRange, check_range, to_image
from spx_cli.registry import unknown
from spx_cli.types import Image

MAX_PIXELS = 178_000_000  # Pillow's own limit

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpx", ".jpf", ".avif"),
)

# zlib's run-length strategy takes a quarter of the time of Pillow's default for the same size
PNG_OPTIONS = {"compress_level": 1, "compress_type": 3}
_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", PNG_OPTIONS),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}


class Picture(NamedTuple):
    """A picture as `read_image` gives it, and what of its file a reader may want to know."""

    image: Image
    traits: Traits


def read_image(
    source: str | Path | bytes | BinaryIO, *, max_pixels: int | None = MAX_PIXELS, value_range: ValueRange = None
) -> Image:
    """Return a picture as uint8 (H, W, 3) RGB, upright (EXIF orientation applied once).

    source : path, the bytes of a file, or an open binary file. The content decides on the format: PNG, JPEG, WebP,
        BMP, GIF, PPM/PGM/PFM, JPEG 2000, AVIF (Pillow) or TIFF (tifffile).
    max_pixels : a larger picture is refused before it is decoded; None for the usual limit.
    value_range : (black, white), for values of any type and depth; those outside are clipped. "auto" takes the 0.5th
        and the 99.5th percentile of all values. Without it integers of up to 16 bits without sign are scaled by their
        full range, floats must lie in [0, 1], and wider or signed integers are refused.

    Values are rounded to the nearest level. Alpha is composited on white; a further TIFF band is alpha only where the
    file says so, else it is left out. Of an animation the first frame is read; a TIFF of several pages is an error.
    The log tells of values that use less than a quarter of their range, and of a band that is left out.
    Raises ImageError, naming the source, for anything missing, damaged, not a picture, too large, out of range or not
    finite; ParameterError for a source, a limit or a range of another kind.
    """
    image, traits = read_picture(source, max_pixels=max_pixels, value_range=value_range)
    Remarks().add(_name(source), traits._replace(orientation=1))
    return image


def read_picture(
    source: str | Path | bytes | BinaryIO, *, max_pixels: int | None = MAX_PIXELS, value_range: ValueRange = None
) -> Picture:
    """Return a picture and the traits of its file, of which nothing is logged; else as `read_image`."""
    _check_source(source)
    value_range, limit = check_range(value_range), check_limit(max_pixels)
    try:
        with _open(source) as file:
            pixels = _decode(file, limit)
            image, narrow = to_image(pixels, value_range)
            return Picture(image, Traits(pixels.orientation, narrow, pixels.left_out))
    except SpxError as error:
        raise ImageError(f"{_name(source)}: {printable(str(error))}") from None
    except DAMAGE as error:
        refused = isinstance(error, OSError) and error.errno is not None  # by the system, not by a decoder
        raise ImageError(f"{_name(source)}: {'' if refused else 'damaged or truncated: '}{reason(error)}") from error


def write_image(path: str | Path, image: Image) -> None:
    """Write a uint8 (H, W, 3) RGB picture, whole or not at all; the suffix decides on the format.

    Raises UnknownName for a suffix that is not .png, .jpg, .jpeg, .webp, .bmp, .tif or .tiff, FormatError for a picture
    that the format cannot hold (WebP ends at 16,383 pixels a side), SpxError where the system refuses.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise unknown("picture suffix", suffix, _WRITERS)
    kind, options = _WRITERS[suffix]
    with atomic(path) as temporary:
        try:
            pillow.fromarray(image).save(temporary, kind, **options)
        except ValueError as error:
            raise FormatError(f"{path}: {kind} cannot hold a picture of {image.shape[:2]}: {reason(error)}") from error


def check_limit(max_pixels: int | None) -> int:
    """Return how many pixels there may be, the usual number for None; ParameterError for what is no number."""
    if max_pixels is not None and not isinstance(max_pixels, Real):
        raise ParameterError(f"max_pixels must be a number, not {max_pixels!r}")
    return MAX_PIXELS if max_pixels is None else max_pixels


def _check_source(source: object) -> None:
    """Raise ParameterError unless `source` is a path, bytes or open; of text there are no bytes to read."""
    if isinstance(source, io.TextIOBase) or not (isinstance(source, str | Path | bytes) or hasattr(source, "read")):
        found = type(source).__name__
        raise ParameterError(f"an image is read from a path, the bytes of a file or an open binary file, not a {found}")


def _name(source: str | Path | bytes | BinaryIO) -> str:
    if isinstance(source, bytes):
        return "<bytes>"
    return str(source if isinstance(source, str | Path) else getattr(source, "name", "<stream>"))


def _open(source: str | Path | bytes | BinaryIO) -> AbstractContextManager[BinaryIO]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, str | Path):
        return Path(source).open("rb")
    return nullcontext(io.BytesIO(source.read()))


def _decode(file: BinaryIO, max_pixels: int) -> Pixels:
    def check_size(height: int, width: int) -> None:
        tiff.check_pixels(height, width, max_pixels, ImageError)

    head = file.read(16)
    if not head:
        raise ImageError("the file is empty")
    if head.startswith(TIFF_HEADS):
        file.seek(0)
        return _from_tiff(tiff.read_tiff(file, ImageError, check_size))
    kind = recognise(head)
    if kind is None:
        raise ImageError(f"not a picture ({', '.join(KINDS)} or TIFF); it begins with {head!r}")
    return _by_pillow(KINDS[kind].decoder, file, check_size)


def _by_pillow(decoder: Decoder, file: BinaryIO, check_size: CheckSize) -> Pixels:
    image = open_header(decoder, file)
    check_size(image.height, image.width)
    raw = image.tile[0].args if image.tile else None
    transparent = image.info.get("transparency")
    full: int | None
    if is_png16(image):
        samples, full = png16(image, file), 65535
        if transparent is not None and samples.shape[2] != 4:
            opaque = (samples != np.array(transparent)).any(-1, keepdims=True)
            samples = np.concatenate([samples, opaque * np.uint16(full)], axis=2)
    elif image.mode == "F":
        samples, full = np.asarray(image)[..., None], None
    elif image.mode in ("I", "I;16", "L", "RGB") and transparent is None:
        samples, full = stored(image)
        samples = np.atleast_3d(samples.astype(np.uint16) if full > 255 else samples)
    else:
        if transparent is not None and raw in ("L;2", "L;4"):
            # Pillow spreads the grey levels over 0..255 but leaves the transparent one as stored
            image.info["transparency"] = transparent * (85 if raw == "L;2" else 17)
        mode = "RGBA" if image.has_transparency_data else "RGB"
        samples, full = np.array(image if image.mode == mode else image.convert(mode)), 255
    colour, alpha = (samples[..., :-1], samples[..., -1]) if samples.shape[2] in (2, 4) else (samples, None)
    return Pixels(colour, full, alpha, full or 1, orientation=_orientation(image))


def _orientation(image: Any) -> int:
    try:
        return int(quietly(image.getexif).get(0x0112, 1))
    except DAMAGE:  # a picture with damaged tags is still a picture
        return 1


def _from_tiff(page: tiff.Tiff) -> Pixels:
    """Return the pixels of a TIFF page with its photometric interpretation and extra samples read out."""
    samples, bands = page.samples, page.samples.shape[2]
    full = (1 << page.bits) - 1 if samples.dtype.kind in "ub" and page.bits <= 16 else None
    colours = 3 if bands >= 3 else 1
    if page.photometric == tiff.PALETTE:
        if page.colormap is None:
            raise ImageError("the TIFF has a palette photometric but no palette")
        # many writers shift 8-bit colours up by 8 instead of scaling them
        shifted = not (page.colormap & 255).any()
        colour = (page.colormap >> 8 if shifted else page.colormap).T[samples[..., 0]]
        return Pixels(colour, 255 if shifted else 65535, orientation=page.orientation)
    if page.photometric == tiff.CMYK:
        if bands != 4 or full is None:
            raise ImageError(f"a CMYK TIFF must have 4 unsigned bands, not {bands} of {samples.dtype}")
        ink = samples.astype(np.float64)
        return Pixels((full - ink[..., :3]) * (full - ink[..., 3:]) / full, full, orientation=page.orientation)
    alpha = None
    if bands in (2, 4) and page.extra[-1:] in ((tiff.PREMULTIPLIED,), (tiff.STRAIGHT,)):
        alpha = samples[..., -1]
    return Pixels(
        samples[..., :colours],
        full,
        alpha,
        opaque=full or 1,
        premultiplied=alpha is not None and page.extra[-1] == tiff.PREMULTIPLIED,
        white_is_zero=page.photometric == tiff.WHITE_IS_ZERO,
        orientation=page.orientation,
        left_out=bands - colours - (alpha is not None),
    )
