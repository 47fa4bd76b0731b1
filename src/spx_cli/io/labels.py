"""Label maps in every format of the table FORMATS; what is written is read back exactly."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from spx_cli.errors import FormatError, LabelError, SizeError, SpxError
from spx_cli.io import tiff
from spx_cli.io.files import DAMAGE, atomic, reason
from spx_cli.io.ids import read_ids
from spx_cli.io.image import MAX_PIXELS, PNG_OPTIONS
from spx_cli.registry import unknown
from spx_cli.types import Labels

Size = tuple[int, int]
_MAX_ID: int = np.iinfo(np.int32).max
_MAX_PNG: int = np.iinfo(np.uint16).max


class Wanted(NamedTuple):
    """What the reader of a format is told of the map: its size where it is known, and its greatest size."""

    size: Size | None = None
    max_pixels: int = MAX_PIXELS
    colours: bool = False

    def check(self, height: int, width: int) -> None:
        """Raise SizeError or FormatError for a size that the map cannot have; called before pixels are decoded."""
        if self.size is not None and (height, width) != tuple(self.size):
            raise SizeError(f"the map is {height} x {width}, expected {self.size[0]} x {self.size[1]}")
        tiff.check_pixels(height, width, self.max_pixels, FormatError)


def read_labels(
    path: str | Path, *, size: Size | None = None, max_pixels: int = MAX_PIXELS, colours: bool = False
) -> Labels:
    """Return the label map in a file, int32 (H, W), ids as they stand there: any tool's, perhaps with gaps.

    The suffix decides on the format: those of FORMATS, and pictures of ids in .bmp, .gif and .pgm. In a picture of any
    depth the ids are grey levels or palette indices as stored; colour is grey where its channels agree (or are 0 all
    over). An .npz or .mat file holds `labels`, or one array only. Whole numbers stored as floats are accepted.

    size : (height, width) that the map must have, for example its image's; GeoJSON of another tool may need it.
    max_pixels : a larger map is refused before it is decoded.
    colours : in a picture of 8 bits, colours are ids too, red * 65536 + green * 256 + blue.

    Raises UnknownName for another suffix, FormatError for a file that is not what its name says, LabelError for an id
    that is not a whole number from 0 to 2147483647 and for pixels without an id, SizeError for another size.
    """
    read = READERS.get(Path(path).suffix.lower())
    if read is None:
        raise unknown("suffix of a label map", Path(path).suffix, READERS)
    wanted = Wanted(size, max_pixels, colours)
    try:
        with Path(path).open("rb") as file:
            labels = _checked(read(file, wanted))
        wanted.check(*labels.shape)
    except SpxError as error:
        raise type(error)(f"{path}: {error}") from None
    except DAMAGE as error:
        refused = isinstance(error, OSError) and error.errno is not None
        raise FormatError(f"{path}: {'' if refused else 'not a label map: '}{reason(error)}") from error
    return labels


def write_labels(
    path: str | Path, labels: NDArray[Any], *, format: str | None = None, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a label map, whole or not at all; `read_labels` gives it back exactly.

    labels : (H, W), integers from 0 to 2147483647.
    format : a name from FORMATS; by default the suffix decides.
    metadata : whatever JSON can hold about how the map was made; kept by npz, as the JSON text `metadata`.

    Raises UnknownName for an unknown format or suffix, LabelError for anything but a label map, FormatError for ids
    that the format cannot hold, SpxError where the system refuses.
    """
    if format is not None and format not in FORMATS:
        raise unknown("label format", format, FORMATS)
    form = FORMATS[format or _format_of(path)]
    try:
        if isinstance(labels, np.ma.MaskedArray):
            raise LabelError("a label map must not be masked: every pixel has an id; labels.filled(ID) gives them one")
        checked = _checked(np.asarray(labels))
        with atomic(path) as temporary, temporary.open("wb") as file:
            form.write(file, checked, metadata or {})
    except (FormatError, LabelError) as error:
        raise type(error)(f"{path}: {error}") from None


def _format_of(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    for name, form in FORMATS.items():
        if suffix in form.suffixes:
            return name
    raise unknown("suffix of a label map", suffix, [s for form in FORMATS.values() for s in form.suffixes])


def _checked(values: NDArray[Any]) -> Labels:
    """Return a map as int32 (H, W), C order; LabelError names the first thing wrong with it."""
    if values.ndim != 2 or values.size == 0:
        raise LabelError(f"a label map has shape (H, W), at least 1 x 1, not {values.shape}")
    if values.dtype.kind not in "buif":
        raise LabelError(f"ids must be whole numbers, not {values.dtype}")
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


def _read_npy(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    return np.lib.format.read_array(file, allow_pickle=False)


def _write_npy(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    np.lib.format.write_array(file, labels)


def _read_npz(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
        return np.asarray(archive[_the_array(archive.files)])


def _write_npz(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    np.savez_compressed(file, labels=labels, metadata=np.array(json.dumps(dict(metadata))))


def _read_mat(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        held = loadmat(cast(Any, file))
    except NotImplementedError:
        raise FormatError("a MATLAB 7.3 file; save it with -v7") from None
    except MatReadError as error:
        raise FormatError(f"not a MATLAB file: {reason(error)}") from error
    maps = {name: v for name, v in held.items() if isinstance(v, np.ndarray) and v.ndim == 2 and v.dtype.kind in "buif"}
    return maps[_the_array(list(maps))]


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
        raise FormatError(f"needs an array named 'labels' or one array only, found {', '.join(names) or 'none'}")
    return names[0]


def _read_csv(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    text = file.read().decode("utf-8-sig")
    if not text.strip():
        raise FormatError("the file is empty")
    return np.loadtxt(text.splitlines(), np.float64, delimiter=",", ndmin=2)


def _write_csv(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    for row in labels.tolist():
        file.write((",".join(map(str, row)) + "\n").encode())


def _read_geojson(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    from spx_cli.io import polygons

    return polygons.from_geojson(json.load(file), wanted.size)


def _write_geojson(file: BinaryIO, labels: Labels, metadata: Mapping[str, Any]) -> None:
    from spx_cli.io import polygons

    file.write(json.dumps(polygons.to_geojson(labels), separators=(",", ":")).encode())


def _read_svg(file: BinaryIO, wanted: Wanted) -> NDArray[Any]:
    from spx_cli.io import polygons

    return polygons.from_svg(file.read(), wanted.size)


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
