"""Which images a command works on, and where each lies below the folder it was found in.

A source is a file, a folder (searched for images), a glob pattern, or - for standard input. `Input.relative` is the
place of the file in the tree that outputs mirror: folders and patterns are mirrored below themselves, files that were
named one by one below the folder they all share.
"""

import glob
import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from spx_cli.errors import ParameterError
from spx_cli.io.walk import Found, kinds, walk

STDIN = "-"


class Input(NamedTuple):
    """One image to be read. `source` is a path or STDIN."""

    source: str
    relative: Path


class Barren(NamedTuple):
    """A source, or a folder in it, that gave no image, and why."""

    source: str
    why: str


class Collected(NamedTuple):
    """`barren` holds the folders and patterns in which there was no image, `notes` what was passed over in others."""

    inputs: list[Input]
    barren: list[Barren]
    notes: list[str]


def collect(sources: Iterable[str], suffixes: Sequence[str], *, exclude: Path | None = None) -> Collected:
    """Return the images that `sources` name, each once, folders in sorted order.

    Hidden files are passed over without a word; links are followed, but none that leads back to where it lies.
    suffixes : what an image in a folder ends with, in lower case, such as ".png".
    exclude : a folder that is passed over, for outputs that go into the tree they come from.

    A file that is named and does not exist is returned as well: reading it will say so.
    """
    named: list[str] = []
    found: dict[str, Path] = {}
    barren: list[Barren] = []
    notes: list[str] = []
    for source in sources:
        path = Path(source)
        if source == STDIN or path.is_file() or not (path.is_dir() or glob.has_magic(source)):
            named.append(source)
            continue
        root = path if path.is_dir() else _fixed_part(path)
        (files, loops, closed), folders = (walk(path), []) if path.is_dir() else _match(source, root)
        if exclude is not None and absolute(root) in absolute(exclude).parents:
            files = [f for f in files if absolute(exclude) not in absolute(f).parents]
        images = {str(f): f.relative_to(root) for f in files if f.suffix.lower() in suffixes}
        others = [f for f in files if f.suffix.lower() not in suffixes]
        if not images:
            barren.append(Barren(source, "no images in there" + (f", but {kinds(others)}" if others else "")))
        elif others:
            notes.append(f"{source}: passed over what is no picture by its name: {kinds(others)}")
        if folders:
            notes.append(f"{source}: passed over {len(folders)} folders, such as {folders[0]}; name them, or use **")
        notes += (f"{loop}: leads back to a folder in which it lies; not followed" for loop in loops)
        barren += (Barren(str(folder), why) for folder, why in closed)
        found |= images
    shared = _shared_folder(named)
    inputs = {name: Path("stdin") if name == STDIN else Path(os.path.relpath(name, shared)) for name in named}
    return Collected([Input(*pair) for pair in (inputs | found).items()], barren, notes)


def read_list(source: str, *, null: bool = False) -> list[str]:
    """Return the names in a file (- for standard input), one a line, or each ended by NUL. Empty lines are skipped."""
    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
    except OSError as error:
        raise ParameterError(f"cannot read the list {source}: {error.strerror}") from None
    data = data.removeprefix(BOM_UTF8)
    names = data.split(b"\0") if null else (line.rstrip(b"\r") for line in data.split(b"\n"))
    return [os.fsdecode(name) for name in names if name]


def _match(pattern: str, root: Path) -> tuple[Found, list[Path]]:
    """Return the files and the folders that fit a pattern, of which `root` is the part without wildcards."""
    parts = Path(pattern).relative_to(root).parts
    if "**" in parts:
        everything = walk(root)
        return everything._replace(files=[f for f in everything.files if _fits(f.relative_to(root).parts, parts)]), []
    paths = [Path(path) for path in sorted(glob.glob(pattern))]  # noqa: PTH207 - pathlib takes no absolute pattern
    files = [path for path in paths if path.is_file() or not path.exists()]
    return Found(files, [], []), [path for path in paths if path.is_dir()]


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return _fits(names, pattern[1:]) or (bool(names) and _fits(names[1:], pattern))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])


def absolute(path: str | Path) -> Path:
    """Return the path from the root, without '..', as it is written: links are not followed, no file is asked for."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _fixed_part(pattern: Path) -> Path:
    """Return the folder above the first wildcard."""
    return next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))


def _shared_folder(names: Sequence[str]) -> str:
    folders = [str(Path(name).absolute().parent) for name in names if name != STDIN]
    return os.path.commonpath(folders) if folders else "."
