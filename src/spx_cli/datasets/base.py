"""What every data set is: patterns of file names that pair images with annotations, and a reader of annotations."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import DataError, NothingToDo, SizeError, SpxError
from spx_cli.io import MAX_PIXELS, read_labels, read_picture
from spx_cli.io.remarks import Traits
from spx_cli.options import ReadOptions
from spx_cli.registry import unknown
from spx_cli.types import Image

Truth = NDArray[np.int32]
READ_OPTIONS = ReadOptions()


class Sample(NamedTuple):
    """One image of a data set with all its annotations.

    image : uint8 (H, W, 3); `traits` are those of its file.
    truths : int32 (H, W) each, in the order of the file; BSDS500 has about five, a flow data set none.
    flow : (H, W, 2) float32 as (x, y) displacement in pixels; only in flow data sets.
    valid : (H, W) bool, where the flow is known.
    ignore_label : the id in `truths` that marks pixels without an annotation.
    """

    id: str
    image: Image
    truths: tuple[Truth, ...] = ()
    flow: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None
    ignore_label: int | None = None
    traits: Traits = Traits()


class Entry(NamedTuple):
    """The files of one sample; `truths` in order of annotation."""

    id: str
    image: Path
    truths: tuple[Path, ...] = ()


class Layout(NamedTuple):
    """One way the files lie: patterns below the root, '/' between folders.

    `*` stands for a part of the sample's id, `{split}` for the folder name of the split. Several image patterns are
    alternatives; several truth patterns are further annotations of the same image.
    """

    images: tuple[str, ...]
    truths: tuple[str, ...]


class Dataset(ABC):
    """A data set in a folder: `len()`, and `[i]` reads a Sample. Immutable and picklable; holds paths, never pixels.

    entries : the complete samples, sorted by id.
    unpaired : one line for each image without annotation and each annotation without image.
    """

    layouts: ClassVar[tuple[Layout, ...]]
    # Folders below the given one in which archives of this data set unpack.
    nested: ClassVar[tuple[str, ...]] = ()
    # From the name of a split to the word that stands for it in paths.
    splits: ClassVar[Mapping[str, str]] = {}
    # The split that the field reports on, where there is one.
    default_split: ClassVar[str | None] = None
    ignore_label: ClassVar[int | None] = None
    # What `read` gives beside the image, None for nothing.
    annotation: Literal["truth", "flow"] | None = "truth"
    # Whether images without annotation are usual in this data set, rather than a fault of the folder.
    spare_images: ClassVar[bool] = False

    def __init__(self, root: str | Path, split: str | None = None, reading: ReadOptions = READ_OPTIONS) -> None:
        """Find the files; raises DataError where there are none, UnknownName for a split that does not exist.

        reading : how images are read.
        """
        if split is not None and split not in self.splits and not self.names_split(split):
            known = self.splits or ["no splits"]
            raise unknown(f"split of {type(self).__name__}", split, known)
        self.root, self.split, self.reading = Path(root), split, reading
        self.entries, self.unpaired = self.find()

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; see `load`."""
        return self.load(self.entries[index])

    def load(self, entry: Entry) -> Sample:
        """Read the sample of an entry; raises ImageError, DataError or LabelError naming the file that is at fault."""
        limit = self.reading.max_pixels or MAX_PIXELS
        image, traits = read_picture(entry.image, max_pixels=limit, value_range=self.reading.value_range)
        try:
            sample = self.check(self.read(entry, image), entry)
        except SizeError as error:
            if traits.orientation < 5:
                raise
            hint = f"{entry.image} is turned by 90 degrees by its EXIF tag; turn the annotation alike, or drop the tag"
            raise SizeError(f"{error}; {hint}") from None
        # An annotation that fits a turned image tells that it has been turned, too, if they are not square.
        height, width = image.shape[:2]
        told = not sample.truths or (traits.orientation >= 5 and height != width)
        return sample._replace(traits=traits._replace(orientation=1) if told else traits)

    def reading_said(self) -> dict[str, Any]:
        """Return what decides on the values of images, nothing where all is as usual."""
        return {"range": self.reading.value_range} if self.reading.value_range else {}

    def reader(self) -> Self:
        """Return a data set without entries that can still `load` them: small enough to send to every worker."""
        lean = copy(self)
        lean.entries, lean.unpaired = (), ()
        return lean

    def annotations(self, entry: Entry) -> int:
        """Return how many annotations `load` will find, 0 for none or flow, without decoding them."""
        return len(entry.truths) if self.annotation == "truth" else 0

    @abstractmethod
    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""

    def names_split(self, split: str) -> bool:
        """Whether a split that is not in `splits` can be asked for."""
        return False

    def members(self, root: Path) -> set[str] | None:
        """Return the ids of the split asked for, where a list beside the images tells; None takes all."""
        return None

    def find(self) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Return the complete samples, and a line for each image or annotation that lacks the other."""
        words = [w for name, w in self.splits.items() if self.split in (None, name)] or [""]
        for folder in ("", *self.nested):
            base = self.root / folder
            for layout in self.layouts:
                images: dict[str, list[Path]] = {}
                truths: dict[str, list[Path]] = {}
                for word in words if "{split}" in layout.images[0] else [""]:
                    for patterns, files in ((layout.images, images), (layout.truths, truths)):
                        for pattern in patterns:
                            for name, path in matches(base, pattern.replace("{split}", word)):
                                files.setdefault(name, []).append(path)
                if images and truths:
                    return self.pair(images, truths, self.members(base))
        choice = words[0] if len(words) == 1 else "{" + ",".join(words) + "}"
        looked = [p.replace("{split}", choice) for layout in self.layouts for p in (*layout.images, *layout.truths)]
        raise missing(self, looked)

    def pair(
        self, images: Mapping[str, Sequence[Path]], truths: Mapping[str, Sequence[Path]], members: set[str] | None
    ) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Return the entries of ids that have both, and a line for each that lacks one or has two images."""
        wanted = set(images) | set(truths) if members is None else members
        twice = {i for i in wanted & set(images) if len(images[i]) > 1}
        both = sorted((wanted & set(images) & set(truths)) - twice)
        unpaired = [f"{truths[i][0]}: no image of that name" for i in sorted((wanted & set(truths)) - set(images))]
        if not self.spare_images:
            unpaired += [
                f"{images[i][0]}: no annotation of that name" for i in sorted((wanted & set(images)) - set(truths))
            ]
        unpaired += [f"{images[i][0]} and {images[i][1]} are both called {i}; rename one" for i in sorted(twice)]
        unpaired += [f"{i}: listed in split {self.split}, no such file" for i in sorted(wanted - {*images, *truths})]
        return tuple(Entry(i, images[i][0], tuple(truths[i])) for i in both), tuple(unpaired)

    def check(self, sample: Sample, entry: Entry) -> Sample:
        """Return the sample; raises LabelError unless annotations and flow have the image's size."""
        size = sample.image.shape[:2]
        extra = [] if sample.flow is None else [sample.flow]
        for index, array in enumerate([*sample.truths, *extra]):
            if array.shape[:2] != size:
                path = entry.truths[min(index, len(entry.truths) - 1)]
                raise SizeError(f"{path}: annotation {index} is {text(array.shape)}, but {entry.image} is {text(size)}")
        return sample


class PictureDataset(Dataset):
    """A data set whose annotations are pictures of ids, or other label maps."""

    # Whether colours are ids too, each its own; else a picture whose channels differ is refused.
    colours: ClassVar[bool] = False

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""
        truths = tuple(read_labels(path, size=image.shape[:2], colours=self.colours) for path in entry.truths)
        return Sample(entry.id, image, truths, ignore_label=self.ignore_label)


def matches(base: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Yield (id, path) of the files below `base` that fit the pattern; the id is what the stars stand for.

    Hidden files are passed over. Raises DataError for a folder that cannot be entered.
    """
    known = re.compile(re.escape(pattern).replace(r"\*", "([^/]+)"))
    for path in sorted(_fitting(base, pattern.split("/"))):
        match = known.fullmatch(path.relative_to(base).as_posix())
        if match and path.is_file():
            yield "/".join(match.groups()), path


def _fitting(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield what fits a pattern of names below a folder; `Path.glob` would say nothing of what it may not enter."""
    if not folder.is_dir():
        return
    names = [parts[0]]
    if "*" in parts[0]:
        try:
            found = [path.name for path in folder.iterdir()]
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror}") from None
        names = [name for name in found if fnmatchcase(name, parts[0]) and not name.startswith(".")]
    for name in names:
        if parts[1:]:
            yield from _fitting(folder / name, parts[1:])
        else:
            yield folder / name


def missing(dataset: Dataset, looked: Iterable[str]) -> SpxError:
    """Return the error for a folder without such data: what was looked for and what there is."""
    root = dataset.root
    if not root.exists():
        return DataError(f"no such folder: {root}")
    if not root.is_dir():
        return DataError(f"not a folder: {root}; a data set is given by its folder")
    if not any(root.iterdir()):
        return NothingToDo(f"{root} is empty: looked for {' and '.join(looked)}")
    inside = sorted(p.name + "/" * p.is_dir() for p in root.iterdir())
    found = ", ".join(inside[:12]) + (f", ... ({len(inside)} in all)" if len(inside) > 12 else "")
    below = f" (also below {', '.join(f'{folder}/' for folder in dataset.nested)})" if dataset.nested else ""
    return DataError(
        f"no {type(dataset).__name__} data in {root}: looked for {' and '.join(looked)}{below}; "
        f"the folder holds {found or 'nothing'}"
    )


def text(shape: tuple[int, ...]) -> str:
    """Return the size of an array as people write it: width x height."""
    return f"{shape[1]}x{shape[0]}" if len(shape) >= 2 else f"of shape {shape}"
