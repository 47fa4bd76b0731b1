"""Where the label maps come from that are scored: methods that segment on the fly, or folders that any tool filled."""

import re
from collections.abc import Collection, Iterable
from copy import copy
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path

from spx_cli.contours.guide import Guide, open_guide
from spx_cli.datasets import Dataset, Entry
from spx_cli.datasets.companions import Companions, list_files
from spx_cli.datasets.folder import LABELS_MARK, MAPS
from spx_cli.errors import DataError, ParameterError
from spx_cli.io import read_labels
from spx_cli.io.walk import kinds
from spx_cli.methods import create
from spx_cli.methods.base import Method, resident
from spx_cli.types import Image, Labels


@dataclass(frozen=True)
class Segmenter:
    """Label maps that a method makes on the fly, one for each count.

    identity : what the method was when the work began, whatever becomes of the files that it names.
    """

    name: str
    method: Method
    counts: tuple[int, ...]
    native_count: bool
    identity: str
    guide: Guide | None = None

    def __str__(self) -> str:
        native = ", native count" if self.native_count else ""
        return repr(self.method) + native + (f", contours {self.guide}" if self.guide else "")

    def on(self, dataset: Dataset) -> "Segmenter":
        """Return this source, with a contour map for each image if there is a folder of them."""
        return replace(self, guide=self.guide.among(dataset.entries)) if self.guide else self

    def find(self, entry: Entry, count: int | None) -> "Map":
        """Return a map without a file: it is made, of the image and perhaps of a contour map."""
        try:
            return Map(self.name, count, contours=self.guide.file(entry) if self.guide else None)
        except DataError as error:
            return Map(self.name, count, lacking=str(error))

    def label_map(self, image: Image, entry: Entry, count: int) -> Labels:
        """Return the map of an image; raises what the method raises."""
        along = self.guide.along(image, entry) if self.guide else None
        method = resident(self.method, self.identity)
        return method.segment(image, count, native_count=self.native_count, contours=along)


@dataclass(frozen=True)
class Map:
    """A label map that is wanted: who makes it, for which count, and its file where it has one.

    lacking : why there is no file, or no one file, where there should be. contours : the file of what guides a method.
    """

    method: str
    count: int | None
    file: Path | None = None
    lacking: str = ""
    contours: Path | None = None

    def read(self, image: Image) -> Labels:
        """Return the map that the file holds; raises DataError where it is lacking, LabelError for another size."""
        if self.file is None:
            raise DataError(self.lacking)
        return read_labels(self.file, size=image.shape[:2])


# A folder of maps of one count: 400, k400, k_400, SPixelNet_nSpixel_400. Numbers with zeros before are no counts.
_COUNT = re.compile(r"(?:(?:.*[-_. ])?(?:k|n|n?spixels?|nsegments?|superpixels?)[-_=]?)?([1-9]\d*)", re.IGNORECASE)
_WRAPPERS = ("map_csv",)  # folders in which tools keep their maps


class LabelFolder:
    """Label maps that lie in a folder, named as their images; folders below it that are counts are those asked for.

    The folder's name stands for the method. A folder is a count only where no image lies in one of that name. Where
    there is none, the count asked for is None; where there is one, what lies beside it (tables, say) is passed over.
    """

    def __init__(self, root: str | Path) -> None:
        """List the maps below `root`; raises DataError where there are none."""
        self.root = Path(root)
        self.name = self.root.resolve().name
        if not self.root.is_dir():
            what = "not a folder" if self.root.exists() else "no such folder"
            raise DataError(f"{what}: {root}; --labels takes a folder of label maps named as the images")
        files = list_files(self.root)
        self._files = [path for path in files if path.suffix.lower() in MAPS]
        if not self._files:
            there = f"; there are {kinds(files)}" if files else ""
            raise DataError(f"no label maps in {root}: looked for files ending in {', '.join(sorted(MAPS))}{there}")
        self._pair((), ())

    def _pair(self, entries: Iterable[Entry], folders: Collection[str]) -> None:
        """Sort the maps by count and by the images they may belong to, which lie in `folders`."""
        room = Companions(entries)
        self._maps: dict[int | None, Companions] = {}
        for path in self._files:
            count, name = _count_and_name(path.relative_to(self.root).parts, folders)
            self._maps.setdefault(count, room.alike()).add(name, path)
        numbers = sorted(count for count in self._maps if count is not None)
        self.counts: tuple[int | None, ...] = tuple(numbers) or (None,)

    @property
    def identity(self) -> str:
        """Return what the folder is called; its files are looked at one by one."""
        return str(self.root.resolve())

    def __str__(self) -> str:
        return str(self.root)

    def on(self, dataset: Dataset) -> "LabelFolder":
        """Return this folder with its maps paired with the images of a data set; DataError where none is of any."""
        entries, paired = dataset.entries, copy(self)
        paired._pair(entries, set().union(*(_folders(entry, dataset.root) for entry in entries)))
        if entries and not any(paired._maps[count].files(e) for count in paired.counts for e in entries):
            lacking = paired.find(entries[0], paired.counts[0]).lacking
            raise DataError(f"no label map in {self.root} is named as an image of {dataset.root}: {lacking}")
        return paired

    def find(self, entry: Entry, count: int | None) -> Map:
        """Return the map of an image."""
        maps = self._maps[count]
        files = maps.files(entry)
        if len(files) == 1:
            return Map(self.name, count, files[0])
        if files:
            which = ", ".join(map(str, files))
            return Map(self.name, count, None, f"{len(files)} label maps for {entry.id}: {which}; leave one of them")
        return Map(self.name, count, None, f"no label map for {entry.id}: {maps.why_none(entry)}")


def _folders(entry: Entry, root: Path) -> tuple[str, ...]:
    """Return the folders below `root` in which an image lies."""
    return entry.image.relative_to(root).parts[:-1]


def _count_and_name(parts: tuple[str, ...], folders: Collection[str]) -> tuple[int | None, str]:
    """Return the count that a map was made for, None where its path does not say, and the name of its image."""
    match = _COUNT.fullmatch(parts[0]) if len(parts) > 1 and parts[0] not in folders else None
    below = parts[1:] if match else parts
    if len(below) > 1 and below[0] in _WRAPPERS and below[0] not in folders:
        below = below[1:]
    if match and len(below) == 1 and any(folder.isdigit() for folder in folders):
        match, below = None, parts  # a number may be such a folder of images as well
    return int(match[1]) if match else None, Path(*below).with_suffix("").as_posix().removesuffix(LABELS_MARK)


Source = Segmenter | LabelFolder


def make_sources(
    methods: Iterable[str | Method],
    counts: Collection[int],
    labels: Iterable[str | Path] = (),
    *,
    native_count: bool = False,
    contours: str | None = None,
    device: str | None = None,
) -> list[Source]:
    """Return the sources of label maps: each method at all counts, and the folders of maps made elsewhere.

    contours : what guides the methods, as `open_guide` takes it; one network serves them all.
    device : where that network works; by default where the first method does.

    Raises ParameterError for anything but whole numbers from 1, of Python or NumPy.
    """
    for count in counts:
        if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
            raise ParameterError(f"the number of superpixels must be a whole number of at least 1, not {count!r}")
    wanted = tuple(dict.fromkeys(map(int, counts)))
    made = [create(method) if isinstance(method, str) else method for method in methods]
    device = device or next((found for method in made if (found := getattr(method, "device", None))), None)
    guide = None if contours is None else open_guide(contours, device=device)
    segmenters: list[Source] = [Segmenter(m.name, m, wanted, native_count, m.identity(), guide) for m in made]
    return segmenters + [LabelFolder(folder) for folder in labels]
