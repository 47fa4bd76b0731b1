"""TIFF pixels as stored, with the tags that say what they mean; tifffile, because Pillow misreads several bands."""

import logging
import lzma
import sys
import zlib
from collections.abc import Callable
from itertools import islice
from math import prod
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from spx_cli.errors import SpxError
from spx_cli.io import libtiff
from spx_cli.io.codec import CheckSize, join_bytes, open_header, unpacked

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6  # PhotometricInterpretation
PREMULTIPLIED, STRAIGHT = 1, 2  # ExtraSamples
_JPEG = 7  # Compression; its decoder turns YCbCr into RGB
_REDUCED, _MASK = 1, 4  # NewSubfileType
_MOST_PAGES = 1000
_INFLATERS: dict[int, Callable[[], Any]] = {  # by Compression
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: lzma.LZMADecompressor,
}
_HARMLESS = 1 << 18  # bytes that can hardly become more than memory holds, 1032 times as many

# Without handlers of their own, what these say of odd tags would reach stderr.
for _name_of_library in ("tifffile", "PIL"):
    logging.getLogger(_name_of_library).addHandler(logging.NullHandler())


class Tiff(NamedTuple):
    """One page: samples (H, W, C) of the stored type and what the tags say of them."""

    samples: NDArray[Any]
    photometric: int
    bits: int
    extra: tuple[int, ...]
    colormap: NDArray[np.uint16] | None
    orientation: int


def read_tiff(file: BinaryIO, error: type[SpxError], check_size: CheckSize) -> Tiff:
    """Return the one page of a TIFF file; `error`, with what to do, for several pages, a volume or over 4 bands."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page = _the_page(tiff, error)
        separate, depth, height, width, contiguous = page.shaped
        bands = separate * contiguous
        if depth > 1:
            raise error(f"the TIFF holds a volume {depth} deep; write each slice to a file of its own")
        if bands > 4:
            chosen = "[[2, 1, 0]].transpose(1, 2, 0)" if separate > 1 else "[..., [2, 1, 0]]"
            raise error(
                f"the TIFF has {bands} bands; choose three, for example with "
                f"tifffile.imwrite('rgb.tif', tifffile.imread(FILE){chosen}, photometric='rgb')"
            )
        known = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK)
        if page.photometric not in known and (page.photometric, page.compression) != (YCBCR, _JPEG):
            raise error(f"the TIFF holds {_name(page.photometric)} colours, which spx does not convert; save it as RGB")
        check_size(height, width)
        return Tiff(
            _samples(page, file, error).reshape(height, width, bands),
            int(page.photometric),
            page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample),
            tuple(int(extra) for extra in page.extrasamples),
            page.colormap,
            int(page.tags.valueof("Orientation", default=1)),
        )


def _the_page(tiff: Any, error: type[SpxError]) -> Any:
    """Return the one page; overviews and masks that belong to it are no further ones."""
    pages, places = [], set()
    for page in islice(tiff.pages, _MOST_PAGES):
        if page.offset in places:
            raise error("damaged: its pages follow each other in a circle")
        places.add(page.offset)
        if not page.tags.valueof("NewSubfileType", default=0) & (_REDUCED | _MASK):
            pages.append(page)
    if len(pages) != 1:
        many = f"{len(pages)} pages" + (" or more" if len(places) == _MOST_PAGES else "")
        raise error(
            f"the TIFF holds {many}; split it into one file per page, for example with "
            "tifffile.imwrite('page0.tif', tifffile.imread(FILE, key=0))"
        )
    return pages[0]


def check_pixels(height: int, width: int, limit: float, error: type[SpxError]) -> None:
    """Raise `error` unless there is at least one pixel and at most `limit`."""
    if not 0 < height * width <= limit:
        if height * width <= 0:
            raise error(f"the image has no pixels, its size is {width} x {height}")
        raise error(
            f"{width} x {height} = {width * height:,} pixels, more than the limit of {limit:,}; "
            "if the file can be trusted, raise it: --max-pixels, max_pixels="
        )


def _name(code: Any) -> str:
    return str(getattr(code, "name", code))


def _samples(page: Any, file: BinaryIO, error: type[SpxError]) -> NDArray[Any]:
    """Return the pixels of a page, in a shape that can become (H, W, C)."""
    _check_complete(page, file, error)
    _check_inflated(page, file, error)
    try:
        pixels: NDArray[Any] = page.asarray(squeeze=False)  # (separate, 1, H, W, contiguous)
    except ValueError as cause:
        if "imagecodecs" not in str(cause):
            raise
        # LZW, JPEG and fax need the large package imagecodecs here, but Pillow brings libtiff, which decodes them
        return _samples_by_pillow(page, file, error)
    return np.moveaxis(pixels[:, 0, :, :, 0], 0, -1) if pixels.shape[0] > 1 else pixels[0, 0]


def _samples_by_pillow(page: Any, file: BinaryIO, error: type[SpxError]) -> NDArray[Any]:
    with libtiff.errors() as told:
        try:
            samples = _unpacked_by_pillow(page, file, error)
        except OSError as cause:  # which knows less
            raise error(f"damaged: {'; '.join(told)}") if told else cause from None
    if told:
        raise error(f"damaged: {'; '.join(told)}")
    return samples


def _unpacked_by_pillow(page: Any, file: BinaryIO, error: type[SpxError]) -> NDArray[Any]:
    image = open_header(TiffImageFile, file)
    mode, raw = image.mode, image.tile[0].args[0]
    if mode in ("RGB", "RGBA") and raw == f"{mode};16N" and page.planarconfig == 1:
        order = "LB" if sys.byteorder == "little" else "BL"  # libtiff has put the samples into this machine's order
        high, low = (unpacked(open_header(TiffImageFile, file), f"{mode};16{end}") for end in order)
        return join_bytes(high, low)
    if mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"):
        # as stored: neither inverted nor divided by alpha
        values = unpacked(image, raw.replace(";I", "").replace("RGBa", "RGBA"))
        if values.dtype == page.dtype.newbyteorder("=") and values.size == np.prod(page.shaped):
            return values
    raise error(
        f"{_name(page.compression)} compression of {page.dtype} is beyond Pillow; "
        "pip install imagecodecs, or save the file without compression"
    )


def _check_inflated(page: Any, file: BinaryIO, error: type[SpxError]) -> None:
    """Raise `error` where a strip or tile would inflate to more than its size: tifffile would do it, whatever it is."""
    inflater = _INFLATERS.get(int(page.compression))
    if inflater is None:
        return
    size = prod(page.chunks) * max(1, page.dtype.itemsize)
    for start, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count > _HARMLESS:
            file.seek(start)
            if len(inflater().decompress(file.read(count), size + 1)) > size:
                raise error(f"damaged: {count:,} bytes that inflate to more than the {size:,} of a strip or tile")


def _check_complete(page: Any, file: BinaryIO, error: type[SpxError]) -> None:
    """Raise `error` when the data end before the last strip or tile does: tifffile would fill in zeros."""
    end = max((start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > (size := file.seek(0, 2)):
        raise error(f"the TIFF is truncated: its pixels reach to byte {end:,}, the file ends at {size:,}")
