"""Files in another folder that are named as the images they belong to: label maps and contour maps made elsewhere."""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from copy import copy
from pathlib import Path

from spx_cli.datasets.base import Entry
from spx_cli.errors import DataError
from spx_cli.io.walk import walk

_log = logging.getLogger(__name__)

# What tools add to the stem of an image or of its map: X_img.jpg, X_img.csv, X_label.png belong together.
_ADDED = re.compile(r"_(?:img|image|labels?)$")
_SHOWN = 3  # so many names stand in a message


class Companions:
    """Files by the name of their image: its id, or its path from the folder of the data set or any folder below that.

    A name that suits several images, such as that of equally named files in two folders, suits none of them; so no
    image ever gets the file of another. Where no file has its name, one is taken that differs by what tools add to
    stems (`_img`, `_label`), if there is just one such.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Make room for the files of some images; without `entries` nothing is known of what else they could suit."""
        entries = set(entries)
        self._suits = Counter(name for entry in entries for name in _names(entry))
        self._suits_loosely = Counter(name for entry in entries for name in {plain(n) for n in _names(entry)})
        self._files: dict[str, tuple[Path, ...]] = {}
        self._by_plain: dict[str, tuple[Path, ...]] = {}

    def alike(self) -> "Companions":
        """Return room for other files of the same images."""
        other = copy(self)
        other._files, other._by_plain = {}, {}
        return other

    def __len__(self) -> int:
        return len(self._files)

    def add(self, name: str, path: Path) -> None:
        """Enter the file of the image `name`, a path without suffix, parts parted by '/'."""
        for files, key in ((self._files, name), (self._by_plain, plain(name))):
            files[key] = (*files.get(key, ()), path)

    def files(self, entry: Entry) -> tuple[Path, ...]:
        """Return the files of an image, one if all is well."""
        names = _names(entry)
        found = [path for name in names if self._suits[name] <= 1 for path in self._files.get(name, ())]
        if not found:
            loose = dict.fromkeys(map(plain, names))
            found = [p for name in loose if self._suits_loosely[name] <= 1 for p in self._by_plain.get(name, ())]
        return tuple(found)

    def why_none(self, entry: Entry) -> str:
        """Return what is to be known where `files` finds none: names that suit others as well, and what is there."""
        names = _names(entry)
        for name in names:
            if name in self._files and self._suits[name] > 1:
                return f"{self._files[name][0]} could belong to {self._suits[name]} images; name it {names[0]}"
        shown = [str(files[0]) for files in self._files.values()][:_SHOWN]
        more = f", ... ({len(self._files)} in all)" if len(self._files) > _SHOWN else ""
        return f"it would be named {names[0]}; there are {', '.join(shown)}{more}"


def _names(entry: Entry) -> list[str]:
    """Return what a file of this image may be called, without suffix: its id, then its path from any folder down."""
    parts = entry.image.with_suffix("").parts
    return list(dict.fromkeys([entry.id, *("/".join(parts[start:]) for start in range(len(parts)))]))


def plain(name: str) -> str:
    """Return the name of an image or map without what tools add to it.

    >>> plain("scene/100_img"), plain("scene/100_label")
    ('scene/100', 'scene/100')
    """
    return _ADDED.sub("", name)


def list_files(root: Path) -> list[Path]:
    """Return the files below `root`, if it exists, sorted; DataError for a folder there that cannot be entered.

    Hidden files are passed over; links are followed, but none that leads back to where it lies: the log says so.
    """
    files, loops, closed = walk(root)
    if closed:
        raise DataError(f"{closed[0][0]}: {closed[0][1]}")
    for loop in loops:
        _log.warning("%s: leads back to a folder in which it lies; not followed", loop)
    return sorted(files)
