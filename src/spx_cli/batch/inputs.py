"""Which images a command works on, and where each lies below the folder it was found in.

A source is a file, a folder (searched for images), a glob pattern, or - for standard input. `Input.relative` is the
place of the file in the tree that outputs mirror: folders and patterns are mirrored below themselves, files that were
named one by one below the folder they all share.
"""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from spx_cli.errors import ParameterError

STDIN = "-"


class Input(NamedTuple):
    """One image to be read. `source` is a path or STDIN."""

    source: str
    relative: Path


class Collected(NamedTuple):
    """`barren` holds the folders and patterns in which there was no image."""

    inputs: list[Input]
    barren: list[str]


def collect(sources: Iterable[str], suffixes: Sequence[str], *, exclude: Path | None = None) -> Collected:
    """Return the images that `sources` name, each once, folders in sorted order; hidden files are passed over.

    suffixes : what an image in a folder ends with, in lower case, such as ".png".
    exclude : a folder that is passed over, for outputs that go into the tree they come from.

    A file that is named and does not exist is returned as well: reading it will say so.
    """
    named: list[str] = []
    found: dict[str, Path] = {}
    barren = []
    for source in sources:
        path = Path(source)
        if source == STDIN or path.is_file() or not (path.is_dir() or glob.has_magic(source)):
            named.append(source)
            continue
        root = path if path.is_dir() else _fixed_part(path)
        files = _walk(path) if path.is_dir() else _match(source)
        if exclude is not None and absolute(root) in absolute(exclude).parents:
            files = (f for f in files if absolute(exclude) not in absolute(f).parents)
        images = {str(f): f.relative_to(root) for f in files if f.suffix.lower() in suffixes}
        if not images:
            barren.append(source)
        found |= images
    shared = _shared_folder(named)
    inputs = {name: Path("stdin") if name == STDIN else Path(os.path.relpath(name, shared)) for name in named}
    return Collected([Input(*pair) for pair in (inputs | found).items()], barren)


def read_list(source: str, *, null: bool = False) -> list[str]:
    """Return the names in a file (- for standard input), one a line, or each ended by NUL. Empty lines are skipped."""
    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
    except OSError as error:
        raise ParameterError(f"cannot read the list {source}: {error.strerror}") from None
    names = data.split(b"\0") if null else (line.rstrip(b"\r") for line in data.split(b"\n"))
    return [os.fsdecode(name) for name in names if name]


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))


def _match(pattern: str) -> Iterator[Path]:
    return (path for path in map(Path, sorted(glob.glob(pattern, recursive=True))) if path.is_file())  # noqa: PTH207 - pathlib takes no absolute pattern


def absolute(path: str | Path) -> Path:
    """Return the path from the root, without '..', as it is written: links are not followed, no file is asked for."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _fixed_part(pattern: Path) -> Path:
    """Return the folder above the first wildcard."""
    return next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))


def _shared_folder(names: Sequence[str]) -> str:
    folders = [str(Path(name).absolute().parent) for name in names if name != STDIN]
    return os.path.commonpath(folders) if folders else "."
