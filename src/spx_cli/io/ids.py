"""Ids stored in a picture: the number of each pixel as it stands in the file, whatever its depth and bands."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import FormatError
from spx_cli.io import tiff
from spx_cli.io.codec import KINDS, TIFF_HEADS, CheckSize, is_png16, open_header, png16, recognise, stored

_ADVICE = "a label map has one number per pixel; save it as PNG of 8 or 16 bits, grey or palette"


def read_ids(file: BinaryIO, check_size: CheckSize, *, colours: bool = False) -> NDArray[Any]:
    """Return the ids (H, W) in a picture: grey levels or palette indices as they are stored, of 1 to 32 bits.

    Colour is grey where its channels agree, but for those that are 0 all over; alpha must be opaque. Other colours, of
    8 bits, become red * 65536 + green * 256 + blue where `colours` says that they are ids. Raises FormatError for
    anything else.

    check_size : called with height and width before any pixel is decoded.
    """
    head = file.read(16)
    file.seek(0)
    if not head:
        raise FormatError("the file is empty")
    if head.startswith(TIFF_HEADS):
        page = tiff.read_tiff(file, FormatError, check_size)
        if page.photometric == tiff.CMYK:
            raise FormatError(f"a CMYK TIFF; {_ADVICE}")
        alpha = page.extra[-1:] in ((tiff.PREMULTIPLIED,), (tiff.STRAIGHT,))
        return _one_band(page.samples, (1 << page.bits) - 1, alpha, colours)
    kind = recognise(head)
    if kind is None:
        raise FormatError(f"not a picture; it begins with {head!r}")
    if not KINDS[kind].lossless:
        raise FormatError(f"{kind} does not keep numbers as they are; {_ADVICE}")
    image = open_header(KINDS[kind].decoder, file)
    check_size(image.height, image.width)
    if is_png16(image):
        samples, full = png16(image, file), 65535
    elif image.mode in ("1", "L", "P", "I", "I;16", "LA", "RGB", "RGBA"):
        samples, full = np.atleast_3d(stored(image)[0]), 255
    else:
        raise FormatError(f"a {kind} of {image.mode} pixels; {_ADVICE}")
    return _one_band(samples, full, samples.shape[2] in (2, 4), colours)


def _one_band(samples: NDArray[Any], full: int, alpha: bool, colours: bool) -> NDArray[Any]:
    """Return the ids (H, W) in samples (H, W, C), of which the last band may be alpha."""
    if alpha:
        if (samples[..., -1] != full).any():
            raise FormatError(f"some pixels are transparent, so have no id; {_ADVICE}")
        samples = samples[..., :-1]
    bands = [samples[..., band] for band in range(samples.shape[2])]
    if not _agree(bands) and len(bands) == 3 and colours and samples.dtype == np.uint8:
        red, green, blue = (band.astype(np.int32) for band in bands)
        return np.asarray(red * 65536 + green * 256 + blue)
    told = [band for band in bands if band.any()] or bands
    if not _agree(told):
        raise FormatError(f"its {len(bands)} bands differ; {_ADVICE}")
    return told[0]


def _agree(bands: list[NDArray[Any]]) -> bool:
    return all(np.array_equal(bands[0], band) for band in bands[1:])
