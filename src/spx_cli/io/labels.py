"""Label maps in every format of the table FORMATS; what is written is read back exactly."""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod
from operator import index
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from spx_cli.errors import FormatError, LabelError, ParameterError, SizeError
from spx_cli.io import mat, tiff
from spx_cli.io.files import atomic, reading, reason
from spx_cli.io.ids import read_ids
from spx_cli.io.image import MAX_PIXELS, PNG_OPTIONS, check_limit
from spx_cli.registry import unknown
from spx_cli.types import Labels

Size = tuple[int, int]
_MAX_ID: int = np.iinfo(np.int32).max
_LONGEST_NUMBER = 64  # characters of a number in a table, with its comma
_LONGEST_TEXT, _LONGEST_PIXEL = 1 << 26, 256  # bytes of a table's line or of polygons; of these for each pixel of a map
_BUFFER = 1 << 20  # bytes: most maps are written at one go, for which threads that write side by side wait less
_MAX_PNG: int = np.iinfo(np.uint16).max


class Wanted(NamedTuple):
    """What the reader of a format is told of the map: its size where it is known, and its greatest size."""

    size: Size | None = None
    max_pixels: int = MAX_PIXELS
    colours: bool = False

    def check(self, height: int, width: int) -> None:
        """Raise SizeError or FormatError for a size that the map cannot have; called before pixels are decoded."""
        if self.size is not None and (height, width) != self.size:
            raise SizeError(f"the map is {height} x {width}, expected {self.size[0]} x {self.size[1]}")
        tiff.check_pixels(height, width, self.max_pixels, FormatError)


def read_labels(
    path: str | Path, *, size: Size | None = None, max_pixels: int | None = MAX_PIXELS, colours: bool = False
) -> Labels:
    """Return the label map in a file, int32 (H, W), ids as they stand there: any tool's, perhaps with gaps.

    The suffix decides on the format: those of FORMATS, and pictures of ids in .bmp, .gif and .pgm. In a picture of any
    depth the ids are grey levels or palette indices as stored; colour is grey where its channels agree (or are 0 all
    over). An .npz or .mat file holds `labels`, or one array only; beside that of a .mat there may be single numbers and
    matrices of another size. Whole numbers stored as floats are accepted.

    size : (height, width) that the map must have, for example its image's; GeoJSON of another tool may need it.
    max_pixels : a larger map is refused before it is decoded; None for the usual limit.
    colours : in a picture of 8 bits, colours are ids too, red * 65536 + green * 256 + blue.

    Raises UnknownName for another suffix, FormatError for a file that is not what its name says, LabelError for an id
    that is not a whole number from 0 to 2147483647 and for pixels without an id, SizeError for another size,
    ParameterError for a size that is not two whole numbers.
    """
    read = READERS.get(Path(path).suffix.lower())
    if read is None:
        raise unknown("suffix of a label map", Path(path).suffix, READERS)
    wanted = Wanted(checked_size(size), check_limit(max_pixels), colours)
    with reading(path, "label map") as file:
        labels = _checked(read(file, wanted))
        wanted.check(*labels.shape)
        return labels


def read_ground_truth(path: str | Path, *, size: Size | None = None) -> tuple[Labels, ...]:
    """Return all segmentations of a BSDS .mat file, int32 (H, W), in the order of the file.

    size : (height, width) that they must have. Raises FormatError for a file of something else, else as `read_labels`.
    """
    wanted = Wanted(checked_size(size))
    with reading(path, "BSDS annotation") as file:
        return tuple(_checked(matrix) for matrix in mat.read_ground_truth(file, wanted.check))


def count_ground_truth(path: str | Path) -> int:
    """Return how many segmentations `read_ground_truth` will find in a .mat file, 0 in one of something else."""
    with reading(path, "MATLAB file") as file:
        return mat.count_ground_truth(file)


def write_labels(
    path: str | Path, labels: NDArray[Any], *, format: str | None = None, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a label map, whole or not at all; `read_labels` gives it back exactly.

    labels : (H, W), integers from 0 to 2147483647.
    format : a name from FORMATS; by default the suffix decides. A suffix that `read_labels` knows must be its own.
    metadata : whatever JSON can hold about how the map was made; kept by npz, as the JSON text `metadata`.

    Raises UnknownName for an unknown format or suffix, ParameterError for a suffix of another format and for metadata
    that JSON cannot hold, LabelError for anything but a label map, FormatError for ids that the format cannot hold,
    SpxError where the system refuses.
    """
    if format is not None and format not in FORMATS:
        raise unknown("label format", format, FORMATS)
    form = FORMATS[format or _format_of(path)]
    if format and not _reads_as(Path(path), form):
        raise ParameterError(f"{path} does not name a {format} file; end it in {form.suffixes[0]}")
    try:
        _check_metadata(metadata)
        if isinstance(labels, np.ma.MaskedArray):
            raise LabelError("a label map must not be masked: every pixel has an id; labels.filled(ID) gives them one")
        checked = _checked(np.asarray(labels))
        with atomic(path) as temporary, temporary.open("wb", buffering=_BUFFER) as file:
            form.write(file, checked, metadata or {})
    except (FormatError, LabelError, ParameterError) as error:
        raise type(error)(f"{path}: {error}") from None


def _format_of(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    for name, form in FORMATS.items():
        if suffix in form.suffixes:
            return name
    raise unknown("suffix of a label map", suffix, [s for form in FORMATS.values() for s in form.suffixes])


def _reads_as(path: Path, form: "Format") -> bool:
    """Whether no reader would take a file for one of another format; of a pipe or a device nobody reads the suffix."""
    suffix = path.suffix.lower()
    return suffix in form.suffixes or suffix not in READERS or (path.exists() and not path.is_file())


def _check_metadata(metadata: Mapping[str, Any] | None) -> None:
    """Raise ParameterError that names what JSON cannot hold, whether or not the format keeps it."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ParameterError(f"metadata must be a mapping of names to values, not a {type(metadata).__name__}")
    for name, value in (metadata or {}).items():
        try:
            json.dumps({name: value})
        except (RecursionError, TypeError, ValueError) as error:
            raise ParameterError(f"metadata {name!r} cannot be JSON: {reason(error)}") from None


def checked_size(size: Size | None) -> Size | None:
    """Return a size as two ints; ParameterError for anything else, such as the shape of an image."""
    if size is None:
        return None
    try:
        height, width = map(index, size)
    except (TypeError, ValueError):
        raise ParameterError(f"size must be two whole numbers, (height, width), not {size!r}") from None
    return height, width


def _check_kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) != 2 or 0 in shape:
        raise LabelError(f"a label map has shape (H, W), at least 1 x 1, not {shape}")
    if dtype.kind not in "buif":
        raise LabelError(f"ids must be whole numbers, not {dtype}")


def _checked(values: NDArray[Any]) -> Labels:
    """Return a map as int32 (H, W), C order; LabelError names the first thing wrong with it."""
    _check_kind(values.shape, values.dtype)
    if values.dtype.kind == "f":
        broken = values[~(np.isfinite(values) & (values == np.trunc(values)))]
        if broken.size:
            raise LabelError(f"ids must be whole numbers, not {broken[0]}")
    if values.dtype.kind in "if" and (lowest := values.min()) < 0:
        raise LabelError(f"ids must not be negative, found {int(lowest)}")
    if values.dtype.itemsize >= 4 and (highest := values.max()) > _MAX_ID:
        raise LabelError(f"ids must be at most {_MAX_ID}, found {int(highest)}")
    return np.ascontiguousarray(values, np.int32)


def _read_picture(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    return read_ids(file, wanted.check, colours=wanted.colours)


def _write_png(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    if (highest := labels.max()) > _MAX_PNG:
        raise FormatError(f"16-bit PNG holds ids up to {_MAX_PNG}, found {highest}; use tiff or npz")
    pillow.fromarray(labels.astype(np.uint16)).save(file, "PNG", **PNG_OPTIONS)


def _write_tiff(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    import tifffile

    tifffile.imwrite(
        file, labels, photometric="minisblack", compression="zlib", predictor=True, metadata=None, software="spx"
    )


def read_npy(file: BinaryIO, check: Callable[[tuple[int, ...], np.dtype[Any]], None]) -> NDArray[Any]:
    """Return the array in a .npy file; `check` raises for a shape or a type that cannot be, before numbers are read."""
    version = np.lib.format.read_magic(file)
    heads = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in heads:
        raise FormatError(f"a NumPy file of version {version}")
    shape, by_columns, dtype = heads[version](file)
    check(shape, dtype)
    if dtype.hasobject:
        raise FormatError(f"an array of {dtype}, which could run code as it is read")
    count = prod(shape)
    content = file.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise FormatError("the numbers end too early")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")


def _read_npy(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    def check(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        _check_kind(shape, dtype)
        wanted.check(*shape)

    return read_npy(file, check)


def _write_npy(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    np.lib.format.write_array(file, labels)


def _read_npz(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    with zipfile.ZipFile(file) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        name = _the_array([name.removesuffix(".npy") for name in members])
        with archive.open(f"{name}.npy") as member:
            return _read_npy(cast(BinaryIO, member), wanted)


def _write_npz(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    np.savez_compressed(file, labels=labels, metadata=np.array(json.dumps(dict(metadata))))


def _read_mat(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    return mat.read_map(file, wanted.size, wanted.check)


def _write_mat(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    from scipy.io import savemat

    savemat(cast(Any, file), {"labels": labels}, do_compression=True)
    file.seek(0)
    file.write(b"MATLAB 5.0 MAT-file, written by spx".ljust(116))  # SciPy puts the time here: same input, same bytes


def _the_array(names: list[str]) -> str:
    """Return 'labels', or the only name."""
    if "labels" in names:
        return "labels"
    if len(names) != 1:
        shown = ", ".join(name[:40] for name in names[:12]) + (", ..." if len(names) > 12 else "")
        raise FormatError(f"needs an array named 'labels' or one array only, found {shown or 'none'}")
    return names[0]


def _read_csv(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    lines = _lines(file, wanted)
    first = next(lines, None)
    if first is None:
        raise FormatError("the file is empty")
    return np.loadtxt(chain([first], lines), np.float64, delimiter=",", ndmin=2)


def _lines(file: BinaryIO, wanted: Wanted) -> Iterator[str]:
    """Yield the lines of a table that are not blank; no more is read than a map may hold."""
    longest = min(_LONGEST_TEXT, _LONGEST_NUMBER * (wanted.size[1] if wanted.size else wanted.max_pixels))
    height = width = 0
    while data := file.readline(longest + 1):
        if len(data) > longest:
            raise FormatError(f"a line of more than {longest:,} bytes")
        line = data.decode("utf-8" if height else "utf-8-sig")
        if line.strip():
            height, width = height + 1, width or line.count(",") + 1
            if not wanted.size:
                wanted.check(height, width)
            elif height > wanted.size[0]:
                raise SizeError(f"the map has more than {wanted.size[0]} rows")
            yield line


def _write_csv(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    for row in labels.tolist():
        file.write((",".join(map(str, row)) + "\n").encode())


def _text(file: BinaryIO, wanted: Wanted) -> bytes:
    """Return the content of a file of polygons, unless it is longer than those of any map of that size can be."""
    pixels = wanted.size[0] * wanted.size[1] if wanted.size else 0
    most = max(_LONGEST_TEXT, _LONGEST_PIXEL * pixels)
    text = file.read(most + 1)
    if len(text) > most:
        told = "" if wanted.size else "; say how large the map is (size=)"
        raise FormatError(f"more than {most:,} bytes of polygons{told}")
    return text


def _read_geojson(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    from spx_cli.io import polygons

    return polygons.from_geojson(json.loads(_text(file, wanted)), wanted.size, wanted.check)


def _write_geojson(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    from spx_cli.io import polygons

    file.write(json.dumps(polygons.to_geojson(labels), separators=(",", ":")).encode())


def _read_svg(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    from spx_cli.io import polygons

    return polygons.from_svg(_text(file, wanted), wanted.size, wanted.check)


def _write_svg(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    from spx_cli.io import polygons

    file.write(polygons.to_svg(labels).encode())


@dataclass(frozen=True)
class Format:
    """A label format: its suffixes, the usual one first, how an open file is read and written, its greatest id."""

    suffixes: tuple[str, ...]
    read: Callable[[BinaryIO, Wanted], NDArray[Any]]
    write: Callable[[BinaryIO, Labels, Mapping[str, Any]], None]
    max_id: int = _MAX_ID


FORMATS = {
    "png": Format((".png",), _read_picture, _write_png, _MAX_PNG),
    "tiff": Format((".tiff", ".tif"), _read_picture, _write_tiff),
    "npy": Format((".npy",), _read_npy, _write_npy),
    "npz": Format((".npz",), _read_npz, _write_npz),
    "mat": Format((".mat",), _read_mat, _write_mat),
    "csv": Format((".csv",), _read_csv, _write_csv),
    "geojson": Format((".geojson", ".json"), _read_geojson, _write_geojson),
    "svg": Format((".svg",), _read_svg, _write_svg),
}

# By suffix, what reads a label map; pictures of ids of other kinds are read, not written.
READERS: dict[str, Callable[[BinaryIO, Wanted], NDArray[Any]]] = {
    **{suffix: form.read for form in FORMATS.values() for suffix in form.suffixes},
    **dict.fromkeys((".bmp", ".gif", ".pgm"), _read_picture),
}
LABEL_SUFFIXES = tuple(READERS)
