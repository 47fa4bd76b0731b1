"""Your own images and label maps, paired by name."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from spx_cli.datasets.base import Entry, Layout, PictureDataset, Sample, missing
from spx_cli.datasets.companions import list_files, plain
from spx_cli.errors import DataError
from spx_cli.io import IMAGE_SUFFIXES, LABEL_SUFFIXES, count_ground_truth, read_ground_truth, read_labels
from spx_cli.io.walk import kinds
from spx_cli.types import Image

_log = logging.getLogger(__name__)

PICTURES = frozenset(IMAGE_SUFFIXES)
# A .json beside images is hardly ever a label map; GeoJSON has its own suffix.
MAPS = frozenset(LABEL_SUFFIXES) - {".json"}
ONLY_MAPS = MAPS - PICTURES
LABELS_MARK = ".labels"  # how `spx segment` names a map that lies beside its image: <stem>.labels.png
_NUMBERED = re.compile(r"(.+)-(\d+)")
_LABEL = re.compile(r"_labels?$")


class Folder(PictureDataset):
    """images/ and labels/, or both in one folder; pairs by path below them without the suffix.

    Further annotations of an image are `<stem>-0`, `<stem>-1`, ... or the files in a folder `<stem>` below labels/,
    unless images themselves are named so. In one folder, `<stem>.labels.png` is a label map, so is a .png beside a .jpg
    of the same stem, `X_label.png` beside `X_img.jpg`, and every csv, mat, npy or npz. Folders of images without any
    label map are data for training that needs none.

    split : a folder below images/ and labels/, or a folder that holds images/ and labels/.
    """

    layouts = (Layout(("images/**", "*"), ("labels/**", "*")),)

    def names_split(self, split: str) -> bool:
        """Whether a split that is not in `splits` can be asked for."""
        return split not in ("", ".", "..") and "/" not in split

    def annotations(self, entry: Entry) -> int:
        """Return how many annotations the files of an entry hold."""
        return sum(_held(path) or 1 for path in entry.truths)

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read; a .mat in the layout of the BSDS holds several annotations."""
        size = image.shape[:2]
        each = (
            read_ground_truth(path, size=size) if _held(path) else (read_labels(path, size=size),)
            for path in entry.truths
        )
        return Sample(entry.id, image, tuple(truth for truths in each for truth in truths))

    def find(self) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Return the samples, and a line for each image or annotation that lacks the other."""
        part = self.split or ""
        places = [(self.root / "images" / part, self.root / "labels" / part)]
        if part:
            places.append((self.root / part / "images", self.root / part / "labels"))
        places.append((self.root / part, self.root / part))
        for images_at, labels_at in places:
            images, labels = _gather(images_at) if images_at == labels_at else _gather_apart(images_at, labels_at)
            if images and not labels:
                self.annotation = None
                return self.pair(images, dict.fromkeys(images, ()), None)
            if images or labels:
                twice = {name: paths for name, paths in labels.items() if len(paths) > 1}
                once = {name: paths[0] for name, paths in labels.items() if name not in twice}
                clear = {name: paths for name, paths in images.items() if name not in twice}
                entries, unpaired = self.pair(clear, _annotations(images, once), None)
                ambiguous = [f"{paths[0]} and {paths[1]}: which is the map of {n}?" for n, paths in twice.items()]
                return entries, (*unpaired, *ambiguous)
        raise missing(self, [f"{images_at.relative_to(self.root)}/<images>" for images_at, _ in places])


def _held(path: Path) -> int:
    """Return how many annotations a .mat in the layout of the BSDS holds, 0 for any other file."""
    return count_ground_truth(path) if path.suffix.lower() == ".mat" else 0


Named = dict[str, list[Path]]


def _gather_apart(images_at: Path, labels_at: Path) -> tuple[Named, Named]:
    """Return the images in one folder and the label maps in another, by name."""
    files, maps = list_files(images_at), list_files(labels_at)
    images = _by_name(images_at, _ending(files, PICTURES, "picture"))
    labels = _by_name(labels_at, _ending(maps, MAPS, "label map"))
    if not labels and any(path.suffix.lower() in PICTURES for path in maps):
        raise DataError(
            f"no label map in {labels_at}, but {kinds(maps)}; label maps end in {', '.join(sorted(MAPS))}: "
            "pictures that lose nothing, or arrays"
        )
    return images, labels


def _gather(base: Path) -> tuple[Named, Named]:
    """Return images and label maps that lie in one folder, by name."""
    return _sort_out(base, _ending(list_files(base), PICTURES | MAPS, "picture or label map"))


def _ending(files: Sequence[Path], suffixes: Collection[str], what: str) -> list[Path]:
    """Return the files that end so; where there are some, the log tells of the others."""
    fit = [path for path in files if path.suffix.lower() in suffixes]
    others = [path for path in files if path.suffix.lower() not in suffixes]
    if fit and others:
        _log.warning("passed over what is no %s by its name, such as %s: %s", what, others[0], kinds(others))
    return fit


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).with_suffix("").as_posix().removesuffix(LABELS_MARK)


def _by_name(base: Path, files: Iterable[Path]) -> Named:
    named: Named = {}
    for path in files:
        named.setdefault(_name(path, base), []).append(path)
    return named


def _sort_out(base: Path, files: list[Path]) -> tuple[Named, Named]:
    """Return images and label maps that lie in one folder, by name."""
    pictures = {_name(path, base) for path in files if path.suffix.lower() in PICTURES}
    partners = {plain(name) for name in pictures if not _LABEL.search(name)}

    def is_map(path: Path, name: str) -> bool:
        marked = path.stem.endswith(LABELS_MARK) or (_LABEL.search(name) and plain(name) in partners)
        return path.suffix.lower() in ONLY_MAPS or bool(marked)

    maps = [path for path in files if is_map(path, _name(path, base))]
    others = [path for path in sorted(set(files) - set(maps)) if path.suffix.lower() in PICTURES]
    images = _by_name(base, (path for path in others if path.suffix.lower() != ".png"))
    for path in others:  # photographs are known by now: a .png of the same stem is their label map
        if path.suffix.lower() == ".png":
            if (name := _name(path, base)) in images:
                maps.append(path)
            else:
                images[name] = [path]
    labels = _by_name(base, maps)
    # Tables and arrays of other kinds may lie beside the images; only what an image claims is a label map.
    first = {name: paths[0] for name, paths in labels.items()}
    claimed = {path for owner, paths in _annotations(images, first).items() if owner in images for path in paths}
    kept = {n: p for n, p in labels.items() if p[0] in claimed or any(q.stem.endswith(LABELS_MARK) for q in p)}
    return images, kept


def _annotations(images: Collection[str], labels: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Return the label maps of each image: by its name, by name-0, name-1, ..., by a folder of its name, by its stem.

    Where images are named a-1, a-2, ... or lie in a folder a, such a map without an image is none of image a.
    """
    series = {match[1] for name in images if (match := _NUMBERED.fullmatch(name))}
    folders = {name.rpartition("/")[0] for name in images}
    loose = Counter(map(plain, images))
    by_stem = {plain(name): name for name in images if loose[plain(name)] == 1}
    numbered: dict[str, list[tuple[int, str, Path]]] = {}
    for name, path in labels.items():
        owner, order = name, -1
        if name not in images:
            by_number = _NUMBERED.fullmatch(name)
            parent = name.rpartition("/")[0]
            if by_number and by_number[1] in images and by_number[1] not in series:
                owner, order = by_number[1], int(by_number[2])
            elif parent in images and parent not in folders:
                owner, order = parent, 0
            elif (similar := by_stem.get(plain(name))) and similar not in labels:
                owner = similar
        numbered.setdefault(owner, []).append((order, name, path))
    return {owner: tuple(path for _, _, path in sorted(found)) for owner, found in numbered.items()}
