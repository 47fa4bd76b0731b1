"""Soft contour maps: one number in 0..1 per pixel, as grey pictures of 8 or 16 bits, or as arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import PngImagePlugin

from spx_cli.errors import FormatError, LabelError
from spx_cli.io import tiff
from spx_cli.io.codec import open_header
from spx_cli.io.files import atomic, reading
from spx_cli.io.image import PNG_OPTIONS
from spx_cli.io.labels import FORMATS, Wanted, checked_size, read_npy
from spx_cli.registry import unknown
from spx_cli.types import Contours

# What files in a folder of contour maps end with.
CONTOUR_SUFFIXES = (".png", ".npy", ".tif", ".tiff", ".mat")
_ANY = Wanted()  # of any size that is not beyond reason


def read_contours(path: str | Path, *, size: tuple[int, int] | None = None) -> Contours:
    """Return the contour map in a file, float32 (H, W), 0 to 1: any tool's.

    Unsigned 8 and 16 bits are divided by their greatest value, floats must lie in 0 to 1 already. A .mat file holds one
    array only, such as `ucm2`.
    size : (height, width) that the map must have. A map of 2 H + 1 by 2 W + 1, as ultrametric contour maps are stored,
        with the cracks between pixels in its even rows and columns, is read where they cross: ucm2(3:2:end, 3:2:end).

    Raises UnknownName for another suffix, FormatError for a file that is not what its name says or holds values of
    another kind or outside 0 to 1, LabelError for another size, ParameterError for one that is not two whole numbers.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CONTOUR_SUFFIXES:
        raise unknown("suffix of a contour map", suffix, CONTOUR_SUFFIXES)
    size = checked_size(size)
    with reading(path, "contour map") as file:
        values = _READERS[suffix](file)
        if size is not None and values.shape == (2 * size[0] + 1, 2 * size[1] + 1):
            values = values[2::2, 2::2]
        contours = _scaled(values)
    if size is not None and contours.shape != size:
        found = " x ".join(map(str, contours.shape))
        raise LabelError(f"{path}: the contour map is {found}, expected {size[0]} x {size[1]}")
    return contours


def write_contours(path: str | Path, contours: NDArray[Any], *, format: str = "png") -> None:
    """Write a contour map, (H, W) in 0 to 1, whole or not at all.

    format : a name from CONTOUR_FORMATS; png rounds to 1/255, png16 to 1/65535, npy keeps float32.
    """
    if format not in CONTOUR_FORMATS:
        raise unknown("contour format", format, CONTOUR_FORMATS)
    with atomic(path) as temporary, temporary.open("wb") as file:
        CONTOUR_FORMATS[format].write(file, _scaled(np.asarray(contours)))


def _scaled(values: NDArray[Any]) -> Contours:
    """Return values of any accepted kind as float32 (H, W) in 0 to 1, C order."""
    _check(values.shape, values.dtype)
    if values.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(values / np.float32(np.iinfo(values.dtype).max), np.float32)
    if values.dtype.kind not in "bf":
        raise FormatError(f"a contour map holds 8 or 16 bits without sign, or floats from 0 to 1, not {values.dtype}")
    if values.dtype.kind == "f" and not ((values >= 0) & (values <= 1)).all():  # NaN compares false
        wrong = values[~((values >= 0) & (values <= 1))][0]
        raise FormatError(f"contours of floats lie in 0 to 1, found {wrong}")
    return np.ascontiguousarray(values, np.float32)


def _check(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) != 2 or 0 in shape:
        raise FormatError(f"a contour map has shape (H, W), at least 1 x 1, not {shape}")
    _ANY.check(*shape)


def _read_png(file: BinaryIO) -> NDArray[Any]:
    image = open_header(PngImagePlugin.PngImageFile, file)
    _ANY.check(image.height, image.width)
    if image.mode not in ("1", "L", "I;16"):
        raise FormatError(f"a PNG of mode {image.mode}, not a contour map: that is grey, 8 or 16 bits")
    return np.asarray(image)


def _read_tiff(file: BinaryIO) -> NDArray[Any]:
    page = tiff.read_tiff(file, FormatError, _ANY.check)
    if page.samples.shape[2] != 1 or page.photometric == tiff.PALETTE:
        raise FormatError(f"a TIFF of {page.samples.shape[2]} bands or of colours, not a contour map: that is grey")
    return page.samples[..., 0]


_READERS: dict[str, Callable[[BinaryIO], NDArray[Any]]] = {
    ".png": _read_png,
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".npy": lambda file: read_npy(file, _check),
    ".mat": lambda file: FORMATS["mat"].read(file, _ANY),
}


def _write_png(file: BinaryIO, contours: Contours) -> None:
    pillow.fromarray(np.rint(contours * 255).astype(np.uint8)).save(file, "PNG", **PNG_OPTIONS)


def _write_png16(file: BinaryIO, contours: Contours) -> None:
    pillow.fromarray(np.rint(contours * 65535).astype(np.uint16)).save(file, "PNG", **PNG_OPTIONS)


def _write_npy(file: BinaryIO, contours: Contours) -> None:
    np.lib.format.write_array(file, contours)


@dataclass(frozen=True)
class ContourFormat:
    """A format of contour maps: the suffix of its files and how one is written."""

    suffix: str
    write: Callable[[BinaryIO, Contours], None]


CONTOUR_FORMATS = {
    "png": ContourFormat(".png", _write_png),
    "png16": ContourFormat(".png", _write_png16),
    "npy": ContourFormat(".npy", _write_npy),
}
