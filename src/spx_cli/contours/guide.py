"""What guides the merging of any method's regions: contours of a network, the user's own maps, or edges of colour."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from spx_cli.contours.folder import ContourFolder
from spx_cli.contours.maps import Learned
from spx_cli.datasets import Entry
from spx_cli.errors import DataError, ParameterError
from spx_cli.io import CONTOUR_SUFFIXES, read_contours
from spx_cli.methods import METHODS, create
from spx_cli.methods.base import EDGES, NONE, Along, Method, resident
from spx_cli.registry import unknown
from spx_cli.types import Contours, Image

if TYPE_CHECKING:
    from spx_cli.methods._torch import TorchMethod

# At which sizes of the image a network looks, mean over them.
SCALES = (0.5, 1.0)


@dataclass(frozen=True)
class Habit:
    """What `Method.along` knows by name: edges of colour, or no contours at all."""

    identity: str

    def __str__(self) -> str:
        return self.identity

    def among(self, entries: Sequence[Entry]) -> Self:
        """Return what guides these images."""
        return self

    def along(self, image: Image, entry: Entry | None = None) -> Along:
        """Return the name."""
        return self.identity

    def file(self, entry: Entry | None) -> Path | None:
        """Return None: no file is read."""
        return None


class NetworkGuide:
    """The contours that a network has learned; those of the last image are kept, for the next method or count.

    identity : what the network was when the work began.
    """

    def __init__(self, method: Method) -> None:
        self.method, self.identity = method, method.identity()
        self._last: tuple[Image, Contours] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def __str__(self) -> str:
        return str(self.method)

    def among(self, entries: Sequence[Entry]) -> Self:
        """Return what guides these images."""
        return self

    def along(self, image: Image, entry: Entry | None = None) -> Contours:
        """Return the contours of an image, float32 (H, W)."""
        last = self._last
        if last is None or last[0] is not image:
            seeing = cast("TorchMethod", resident(self.method, self.identity))
            self._last = last = image, Learned(seeing, SCALES).contours(image)
        return last[1]

    def file(self, entry: Entry | None) -> Path | None:
        """Return None: no file is read but the network's."""
        return None


@dataclass(frozen=True)
class FileGuide:
    """Contour maps of files: a folder with one for each image, or a single file, which is for whatever image comes."""

    source: ContourFolder | Path
    identity: str

    def __str__(self) -> str:
        return str(self.source)

    def among(self, entries: Sequence[Entry]) -> Self:
        """Return what guides these images, by maps that are named as no two of them.

        Raises DataError for a folder without a map of any, ParameterError for one file and several images.
        """
        if isinstance(self.source, ContourFolder):
            return replace(self, source=ContourFolder(self.source.root, entries))
        if len(entries) > 1:
            raise ParameterError(
                f"{self.source} is one contour map, but there are {len(entries)} images; name a folder"
            )
        return self

    def along(self, image: Image, entry: Entry | None = None) -> Contours:
        """Return the contours of an image, float32 (H, W); SpxError names a file that is damaged or does not fit."""
        return read_contours(self.file(entry), size=image.shape[:2])

    def file(self, entry: Entry | None) -> Path:
        """Return the file for an image; DataError where there is none, or more than one."""
        if isinstance(self.source, Path):
            return self.source
        if entry is None:
            raise DataError(f"an image without a name has no contour map in {self.source}; give the map's own path")
        return self.source.find(entry)


Guide = Habit | NetworkGuide | FileGuide


def taking_part(method: Method, guide: Guide | None) -> list[Method]:
    """Return a method and, where there is one, the network that guides it."""
    return [method, guide.method] if isinstance(guide, NetworkGuide) else [method]


def open_guide(source: str | Path | Method, *, device: str | None = None) -> Guide:
    """Return what guides: a method that sees contours, a folder or file of contour maps, `edges` of colour, or `none`.

    device : where a network that is given by name works.

    Raises UnknownName for anything else, ParameterError for a method that has learned no contours, DataError for a
    folder without contour maps.
    """
    if isinstance(source, str) and source in (EDGES, NONE):
        return Habit(source)
    if isinstance(source, Method) or str(source) in METHODS:
        method = source if isinstance(source, Method) else create(str(source))
        if not method.sees_contours or not getattr(method, "contours", True):
            raise ParameterError(f"{method.name} has learned no contours; {', '.join(_seeing())} have")
        return NetworkGuide(create(method, device=device) if device and not isinstance(source, Method) else method)
    path = Path(source)
    if path.is_dir():
        return FileGuide(ContourFolder(path), str(path.resolve()))
    if path.is_file():
        if path.suffix.lower() not in CONTOUR_SUFFIXES:
            raise DataError(f"{path}: a contour map ends in one of {', '.join(CONTOUR_SUFFIXES)}")
        return FileGuide(path, str(path.resolve()))
    raise unknown("contours (nor is it a folder or file of contour maps)", str(source), (EDGES, NONE, *_seeing()))


def _seeing() -> list[str]:
    return [name for name in METHODS if create(name).sees_contours]
