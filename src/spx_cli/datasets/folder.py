"""Your own images and label maps, paired by name."""

import re
from collections.abc import Mapping
from pathlib import Path

from spx_cli.datasets.base import Entry, Layout, PictureDataset, missing
from spx_cli.io import IMAGE_SUFFIXES, LABEL_SUFFIXES

PICTURES = frozenset(IMAGE_SUFFIXES)
# A .json beside images is hardly ever a label map; GeoJSON has its own suffix.
MAPS = frozenset(LABEL_SUFFIXES) - {".json"}
ONLY_MAPS = MAPS - PICTURES
LABELS_MARK = ".labels"  # how `spx segment` names a map that lies beside its image: <stem>.labels.png


class Folder(PictureDataset):
    """images/ and labels/, or both in one folder; pairs by path below them without the suffix.

    Further annotations of an image are `<stem>-0`, `<stem>-1`, ... or the files in a folder `<stem>` below labels/. In
    one folder, `<stem>.labels.png` is a label map, so is a .png beside a .jpg of the same stem, and every csv, mat, npy
    or npz. Folders of images without any label map are data for training that needs none.

    split : a folder below images/ and labels/, or a folder that holds images/ and labels/.
    """

    layouts = (Layout(("images/**", "*"), ("labels/**", "*")),)

    def names_split(self, split: str) -> bool:
        """Whether a split that is not in `splits` can be asked for."""
        return split not in ("", ".", "..") and "/" not in split

    def find(self) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Return the samples, and a line for each image or annotation that lacks the other."""
        part = self.split or ""
        places = [(self.root / "images" / part, self.root / "labels" / part)]
        if part:
            places.append((self.root / part / "images", self.root / part / "labels"))
        places.append((self.root / part, self.root / part))
        for images_at, labels_at in places:
            files = [] if not images_at.is_dir() else sorted(p for p in images_at.rglob("*") if _visible(p, images_at))
            if images_at == labels_at:
                images, labels = _sort_out(images_at, files)
            else:
                images = {_name(p, images_at): p for p in files if p.suffix.lower() in PICTURES}
                maps = sorted(p for p in labels_at.rglob("*") if _visible(p, labels_at)) if labels_at.is_dir() else []
                labels = {_name(p, labels_at): p for p in maps if p.suffix.lower() in MAPS}
            if images and not labels:
                self.annotation = None
                return tuple(Entry(name, path) for name, path in sorted(images.items())), ()
            if images or labels:
                return self.pair(images, _annotations(images, labels), None)
        raise missing(self, [f"{images_at.relative_to(self.root)}/<images>" for images_at, _ in places])


def _visible(path: Path, base: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(base).parts)


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).with_suffix("").as_posix().removesuffix(LABELS_MARK)


def _sort_out(base: Path, files: list[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return images and label maps that lie in one folder, by name."""
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    # Photographs first, so that a .png of the same stem is known to be their label map.
    for path in sorted(files, key=lambda p: (p.suffix.lower() == ".png", p)):
        suffix, name = path.suffix.lower(), _name(path, base)
        if suffix in ONLY_MAPS or path.stem.endswith(LABELS_MARK):
            labels[name] = path
        elif suffix == ".png" and name in images:
            labels.setdefault(name, path)
        elif suffix in PICTURES:
            images[name] = path
    # Tables and arrays of other kinds may lie beside the images; only what an image claims is a label map.
    claimed = {path for owner, paths in _annotations(images, labels).items() if owner in images for path in paths}
    return images, {name: path for name, path in labels.items() if path in claimed or path.stem.endswith(LABELS_MARK)}


def _annotations(images: Mapping[str, Path], labels: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Return the label maps of each image: by its name, by name-0, name-1, ... and by a folder of its name."""
    numbered: dict[str, list[tuple[int, str, Path]]] = {}
    for name, path in labels.items():
        owner, order = name, -1
        if name not in images:
            by_number = re.fullmatch(r"(.+)-(\d+)", name)
            parent = name.rpartition("/")[0]
            if by_number and by_number[1] in images:
                owner, order = by_number[1], int(by_number[2])
            elif parent in images:
                owner, order = parent, 0
        numbered.setdefault(owner, []).append((order, name, path))
    return {owner: tuple(path for _, _, path in sorted(found)) for owner, found in numbered.items()}
