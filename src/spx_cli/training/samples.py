"""What training sees: the splits of a data set, every annotation a sample, and batches of random views of them."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spx_cli.contours.guide import FileGuide, NetworkGuide
from spx_cli.datasets import READ_OPTIONS, Dataset, Entry, Sample, open_dataset
from spx_cli.errors import DataError, ParameterError, UnknownName
from spx_cli.io.files import reading
from spx_cli.io.remarks import Remarks
from spx_cli.methods._recipe import Recipe
from spx_cli.options import ReadOptions
from spx_cli.regions import maps
from spx_cli.training import augment
from spx_cli.training.augment import Truth
from spx_cli.types import Image

_log = logging.getLogger(__name__)

# Samples whose files a resumed run is to find again, and bytes at both ends of each.
_LOOKED_AT, _END = 200, 1 << 20
# Decoded samples are kept up to this many bytes, later ones are read again each time.
MEMORY = 8 << 30


class Samples(Protocol):
    """What a data set is to training."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


Place = tuple[Dataset, int]


class Chosen:
    """Samples of one or more data sets in a row."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        samples, i = self.places[index]
        return samples[i]

    def outline(self, index: int) -> tuple[str, int]:
        """Return a sample's id and the number of its annotations, without decoding it."""
        samples, i = self.places[index]
        entry = samples.entries[i]
        return entry.id, samples.annotations(entry)

    def entry(self, index: int) -> Entry:
        """Return the files of a sample."""
        samples, i = self.places[index]
        return samples.entries[i]

    def content(self) -> str:
        """Return what tells one content of the files from another: by both ends of them, of some hundred samples."""
        total = hashlib.sha256()
        few = range(0, len(self), max(1, len(self) // _LOOKED_AT))
        for path in dict.fromkeys(path for i in few for path in (self.entry(i).image, *self.entry(i).truths)):
            with reading(path, "file") as file:
                total.update(file.read(_END))
                total.update(str(size := file.seek(0, os.SEEK_END)).encode())
                file.seek(max(0, size - _END))
                total.update(file.read(_END))
        return total.hexdigest()[:16]


class Splits(NamedTuple):
    """Samples to train on, samples to validate on, and what they are, in words."""

    train: Samples
    val: Samples
    about: str


def open_samples(
    layout: str,
    root: Path,
    split: str | None = None,
    val_split: str | None = None,
    reading: ReadOptions = READ_OPTIONS,
) -> Splits:
    """Return what to train and to validate on, from a data set as `datasets.open_dataset` reads it.

    split : one or more splits with '+' between; without it the split train, or where there is none all samples.
    val_split : likewise, or none; without it the split val, or where there is none every tenth sample, which is then
        taken out of the training. Nothing is validated where val itself is trained on, nor among images alone.
    reading : how images are read.

    Raises DataError for a folder without such data, UnknownName for a split or layout that does not exist.
    """
    trained = split or "train"
    train = _places(layout, root, split, reading) if split else _try(layout, root, "train", reading)
    if not train:
        trained, train = "all", _places(layout, root, None, reading)
    val: list[Place] = []
    if val_split == "none" or (val_split is None and "val" in trained.split("+")):
        validated = "nothing"
    elif val_split is not None:
        validated, val = val_split, _places(layout, root, val_split, reading)
    else:
        validated, val = "val", _try(layout, root, "val", reading) if trained != "all" else []
        if not val and not any(samples.annotations(samples.entries[i]) for samples, i in train):
            validated = "nothing"
        elif not val and len(train) < 10:
            validated = "nothing"
            _log.warning("of fewer than ten images none is held back: nothing is validated, no best weights are kept")
        elif not val:
            validated, val, train = "every tenth", train[9::10], [p for i, p in enumerate(train) if i % 10 != 9]
    values = f", values {reading.value_range}" if reading.value_range else ""
    return Splits(Chosen(train), Chosen(val), f"{layout} {trained}{values}, validated on {validated}")


def open_named(layout: str, root: Path, splits: str | None, reading: ReadOptions) -> list[Dataset]:
    """Return splits of a data set, '+' between their names, or all of it; the log tells what is left out of them.

    Raises as `open_dataset` does, and DataError where nothing is left.
    """
    names: list[str | None] = [None] if splits is None else [*splits.split("+")]
    opened = [open_dataset(layout, root, name, reading) for name in names]
    if lost := [line for samples in opened for line in samples.unpaired]:
        few = "; ".join(lost[:3]) + (f"; and {len(lost) - 3} more" if len(lost) > 3 else "")
        if not any(map(len, opened)):
            raise DataError(f"nothing to train on in {root}: {few}")
        _log.warning("left out: %s", few)
    return opened


def _places(layout: str, root: Path, splits: str | None, reading: ReadOptions) -> list[Place]:
    return [(samples, i) for samples in open_named(layout, root, splits, reading) for i in range(len(samples))]


def _try(layout: str, root: Path, split: str, reading: ReadOptions) -> list[Place]:
    try:
        return _places(layout, root, split, reading)
    except (DataError, UnknownName):
        return []


class Pair(NamedTuple):
    """An image with one of its annotations, or None where it has none.

    truth : (H, W) ids 0..G-1 and -1 where it says nothing; or flow, float32 (H, W, 2), NaN where it is not known; or
        contours, float32 (H, W).
    """

    id: str
    image: Image
    truth: NDArray[Any] | None


Teacher = Callable[[Image, np.random.Generator], NDArray[Any]]


class Pairs:
    """Every (image, annotation) pair of a data set: an image with five annotations is five samples.

    teacher : makes an annotation of each view of an image; those of the data set are then left alone, and an image is
        one sample.
    guide : gives the contours of an image, in place of the teacher.
    """

    def __init__(
        self, samples: Samples, teacher: Teacher | None = None, guide: NetworkGuide | FileGuide | None = None
    ) -> None:
        """Take the names of all samples; each is decoded when it is first asked for. DataError where there is none."""
        self._samples, self.teacher = samples, teacher
        entries = [entry for i in range(len(samples)) if (entry := self._entry(i)) is not None]
        self._guide = guide and guide.among(entries)
        self._remarks = Remarks()
        self._kept: dict[int, list[Pair]] = {}
        self._used, self._keeping = 0, Lock()
        self._names = [self._named(i) for i in range(len(samples))]
        self._places = [(i, j) for i, names in enumerate(self._names) for j in range(len(names))]
        if not self._places:
            raise DataError("no samples to train on: the data set is empty")
        order = hashlib.sha256()
        for names in self._names:
            order.update("\n".join(names).encode())
        #: A hash of the order of images and annotations, which a resumed run must find again.
        self.order = order.hexdigest()[:16]
        #: What tells their content from another, '' where they come from no files.
        self.content = samples.content() if isinstance(samples, Chosen) else ""

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Pair:
        """Return a pair, read if need be; callable from several threads."""
        sample, annotation = self._places[index]
        return (self._kept.get(sample) or self._read(sample))[annotation]

    def _named(self, index: int) -> list[str]:
        if isinstance(self._samples, Chosen):
            id, annotations = self._samples.outline(index)
            return _names(id, annotations if self.teacher is None else 0)
        return [pair.id for pair in self._decode(index)]

    def _read(self, index: int) -> list[Pair]:
        pairs = self._decode(index)
        if [pair.id for pair in pairs] != self._names[index]:
            raise DataError(f"{pairs[0].id}: the file has changed since the training began")
        size = pairs[0].image.nbytes + sum(pair.truth.nbytes for pair in pairs if pair.truth is not None)
        with self._keeping:
            if index not in self._kept and self._used + size <= MEMORY:
                self._kept[index] = pairs
                self._used += size
        return pairs

    def _decode(self, index: int) -> list[Pair]:
        sample = self._samples[index]
        self._remarks.add(sample.id, sample.traits)
        if self.teacher is None:
            return _pairs(sample)
        contours = None if self._guide is None else self._guide.along(sample.image, self._entry(index))
        return [Pair(sample.id, sample.image, contours)]

    def _entry(self, index: int) -> Entry | None:
        return self._samples.entry(index) if isinstance(self._samples, Chosen) else None


def _names(id: str, annotations: int) -> list[str]:
    return [f"{id}:{i}" for i in range(annotations)] or [id]


def _pairs(sample: Sample) -> list[Pair]:
    if sample.flow is not None:
        unknown = np.isnan(sample.flow[..., :1]) if sample.valid is None else ~sample.valid[..., None]
        return [Pair(sample.id, sample.image, np.where(unknown, np.float32(np.nan), sample.flow))]
    if not sample.truths:
        return [Pair(sample.id, sample.image, None)]
    pairs = []
    for name, truth in zip(_names(sample.id, len(sample.truths)), sample.truths, strict=True):
        ids = maps.compact(truth, ignore_label=sample.ignore_label, what=f"annotation {name}")
        pairs.append(Pair(name, sample.image, ids.astype(np.int16) if ids.max() < 2**15 else ids))
    return pairs


class Batch(NamedTuple):
    """images uint8 (B, H, W, 3); truth int64 (B, H, W), -1 where unknown, or float32 (B, [2,] H, W), or None."""

    ids: list[str]
    images: Image
    truth: Truth | None


def make_batch(pairs: Pairs, recipe: Recipe, first: int) -> Batch:
    """Return the samples at positions first, first + 1, ... of a training run, as many as the recipe's batch size.

    Raises ParameterError for views of different sizes, which whole images may have, DataError where only some samples
    have an annotation.
    """
    ids: list[str] = []
    images: list[Image] = []
    truths: list[NDArray[Any] | None] = []
    for position in range(first, first + recipe.batch_size):
        pair = pairs[augment.index(recipe.seed, position, len(pairs))]
        height, width, _ = pair.image.shape
        view = augment.draw(augment.generator(recipe.seed, position), (height, width), recipe)
        image, truth = augment.look(pair.image, pair.truth, view)
        if pairs.teacher is not None and truth is None:
            taught = pairs.teacher(image, augment.generator(recipe.seed, position, stream=2))
            truth = taught if taught.dtype.kind == "f" else taught.astype(np.int64)
        ids.append(pair.id)
        images.append(image)
        truths.append(truth)
    if len({image.shape for image in images}) > 1:
        raise ParameterError(f"images of different sizes in one batch ({', '.join(ids)}): set crop, or batch_size=1")
    known = [truth for truth in truths if truth is not None]
    if known and len(known) < len(truths):
        raise DataError(f"images with and without annotation in one batch: {', '.join(ids)}")
    return Batch(ids, np.stack(images), np.stack(known) if known else None)
