"""The files below a folder: hidden ones are passed over, links are followed, and what cannot be entered is told."""

import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from spx_cli.io.files import reason


class Found(NamedTuple):
    """What lies below a folder.

    files : regular files and links to nothing, of which reading says so; each folder's before those of its folders.
    loops : links that lead back to a folder in which they lie; they are not followed.
    closed : folders that cannot be listed, and why.
    """

    files: list[Path]
    loops: list[Path]
    closed: list[tuple[Path, str]]


def walk(root: Path) -> Found:
    """Return the files below `root`, sorted within each folder; there are none where it is no folder."""
    found = Found([], [], [])
    # Beside each folder its real path, and the real paths of the folders in which a link led on to it.
    left: list[tuple[Path, str, tuple[str, ...]]] = [(root, os.path.realpath(root), ())]
    while left:
        folder, real, before = left.pop()
        try:
            with os.scandir(folder) as listed:
                entries = sorted((e for e in listed if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            if folder != root or folder.is_dir():
                found.closed.append((folder, reason(error)))
            continue
        below = []
        for entry in entries:
            path = folder / entry.name
            try:
                mode = entry.stat().st_mode
            except OSError:  # a link to nothing, or to itself
                mode = stat.S_IFREG
            if stat.S_ISREG(mode):
                found.files.append(path)
            elif not stat.S_ISDIR(mode):
                continue
            elif not entry.is_symlink():
                below.append((path, os.path.join(real, entry.name), before))  # noqa: PTH118
            elif any(_holds(target := os.path.realpath(path), place) for place in (*before, real)):
                found.loops.append(path)
            else:
                below.append((path, target, (*before, real)))
        left += reversed(below)
    return found


def kinds(files: Iterable[Path]) -> str:
    """Return how many files there are of each suffix, the most first.

    >>> kinds([Path("a.heic"), Path("b.txt"), Path("c.HEIC"), Path("Makefile")])
    '2 .heic, 1 .txt, 1 without suffix'
    """
    counts = Counter(path.suffix.lower() or "without suffix" for path in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())


def _holds(folder: str, place: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)
