"""Where every result of a batch goes, decided, and refused where it must be, before any work starts."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spx_cli.batch.inputs import STDIN, Barren, Input, absolute, collect
from spx_cli.batch.manifest import Manifest
from spx_cli.errors import NothingToDo, ParameterError
from spx_cli.io import FORMATS, IMAGE_SUFFIXES
from spx_cli.options import FileOptions
from spx_cli.registry import unknown

_log = logging.getLogger(__name__)


class Task(NamedTuple):
    """One image and where its results go. `data` holds the image where it came by standard input."""

    source: str
    output: Path
    overlay: Path | None
    data: bytes | None = None

    def outputs(self) -> list[Path]:
        """Return every path that this task writes."""
        return [self.output, self.overlay] if self.overlay else [self.output]


class Plan(NamedTuple):
    """What is to be done.

    barren : sources without an image in them, and folders that cannot be entered.
    folder : where the outputs begin; is_tree says that they mirror the inputs.
    """

    tasks: list[Task]
    barren: list[Barren]
    folder: Path
    format: str
    is_tree: bool


class Kind(NamedTuple):
    """What is made of every image.

    name : in the words of messages. mark : what its name has before the suffix where it lies beside the image.
    formats : the suffixes of each, the usual one first; png is one of them.
    """

    name: str
    mark: str
    formats: Mapping[str, tuple[str, ...]]


LABELS = Kind("label map", ".labels", {name: form.suffixes for name, form in FORMATS.items()})


def plan(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None,
    options: FileOptions,
    format: str | None,
    picture: bool,
    kind: Kind,
) -> Plan:
    """Return what is to be done; no file is written.

    inputs : one or several files, folders, patterns, or - for standard input.
    out : for one image a file, or nothing, which means STEM.labels.png in the current folder; else the folder in which
        the tree of the inputs is mirrored, as STEM.png. Overlays lie beside, as STEM.overlay.png, if `picture`.
    format : a name from kind.formats; by default what the suffix of `out` says, else png.

    Raises NothingToDo without a single image, and ParameterError where two images would write one path, where an
    output is one of the inputs or cannot be, or where one exists and neither option `overwrite` nor `resume` allows it.
    """
    if format is not None and format not in kind.formats:
        raise unknown("format", format, kind.formats)
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if other := [one for one in given if not isinstance(one, str | os.PathLike)]:
        raise ParameterError(f"inputs are paths, not a {type(other[0]).__name__}; spx_cli.segment takes an image")
    sources = list(map(str, given))
    if not sources:
        raise NothingToDo("no inputs; name images, folders or patterns, or give a list with --from-file")
    # A pattern or a folder means many, even where it holds but one.
    found, barren, notes = collect(sources, IMAGE_SUFFIXES, exclude=None if out is None else Path(out))
    if not found:
        raise NothingToDo("; ".join(f"{source}: {why}" for source, why in barren))
    for line in notes:
        _log.warning(line)
    one = len(sources) == 1 and found[0].source == sources[0]
    file = _file(out, one, kind)
    if file is None and out is None and not one:
        raise ParameterError("more than one image needs a folder for the results: -o FOLDER")
    if file and not one:
        raise ParameterError(f"more than one image needs a folder for the results, and {file} is a file")

    if file:
        format = _format_of(file, format, kind)
        folder, names = file.parent, [file.name]
    else:
        format = format or "png"
        folder, tail = Path(out or "."), ("" if out else kind.mark) + kind.formats[format][0]
        names = [f"{item.relative.with_suffix('')}{tail}" for item in found]
    above = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if above is not None and not above.is_dir():
        raise ParameterError(f"{above} is a file, not a folder; choose another -o")
    tasks = [_task(item, folder / name, picture, kind) for item, name in zip(found, names, strict=True)]
    _check_distinct(tasks)
    if not options.overwrite:
        _check_free(tasks, Manifest(folder) if options.resume else None)
    return Plan(tasks, barren, folder, format, file is None and out is not None)


def _file(out: str | Path | None, one: bool, kind: Kind) -> Path | None:
    """Return `out` where it names a file, None where it names a folder."""
    if out is None or str(out).endswith(("/", os.sep)) or Path(out).is_dir():
        return None
    path = Path(out)
    known = [suffix for suffixes in kind.formats.values() for suffix in suffixes]
    return path if path.exists() or (one and path.suffix) or path.suffix.lower() in known else None


def _format_of(file: Path, format: str | None, kind: Kind) -> str:
    """Return `format`, or what the suffix says; they must agree, for the suffix decides when the map is read."""
    if _is_stream(file):
        return format or "png"
    suffix = file.suffix.lower()
    if format is not None:
        if suffix not in kind.formats[format]:
            raise ParameterError(f"{file} does not name a {format} file; end it in {kind.formats[format][0]}")
        return format
    for name, suffixes in kind.formats.items():
        if suffix in suffixes:
            return name
    known = [suffix for suffixes in kind.formats.values() for suffix in suffixes]
    raise unknown(f"suffix of a {kind.name}", suffix, known)


def _is_stream(path: Path) -> bool:
    """Whether there is a pipe or a device, which is written to and which nobody reads by its suffix."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _task(item: Input, output: Path, picture: bool, kind: Kind) -> Task:
    overlay = output.with_name(output.stem.removesuffix(kind.mark) + ".overlay.png") if picture else None
    data = sys.stdin.buffer.read() if item.source == STDIN else None
    return Task(item.source, output, overlay, data)


def _check_distinct(tasks: Sequence[Task]) -> None:
    inputs = {_place(Path(task.source)): task.source for task in tasks if task.data is None}
    writers: dict[Any, str] = {}
    for task in tasks:
        for path in task.outputs():
            place = _place(path)
            if place in inputs:
                raise ParameterError(f"the result of {task.source} would replace the input {path}; choose another -o")
            if place in writers:
                raise ParameterError(f"{writers[place]} and {task.source} would both write {path}; make them apart")
            writers[place] = task.source


def _place(path: Path) -> tuple[int, int] | Path:
    """Return what tells one file from another, by whatever links it is reached; where there is none yet, its path."""
    try:
        found = path.stat()
    except OSError:
        return absolute(path)
    return found.st_dev, found.st_ino


def _check_free(tasks: Sequence[Task], manifest: Manifest | None) -> None:
    taken = [task.output for task in tasks if any(path.exists() and not _is_stream(path) for path in task.outputs())]
    if manifest:
        taken = [path for path in taken if not manifest.get(path)]
    if taken:
        more = f" and {len(taken) - 1} more exist" if len(taken) > 1 else " exists"
        ways = "no earlier run made it; --overwrite replaces it" if manifest else "--overwrite or --resume"
        raise ParameterError(f"{taken[0]}{more}: {ways}")
