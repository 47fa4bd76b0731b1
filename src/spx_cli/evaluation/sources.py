"""Where the label maps come from that are scored: methods that segment on the fly, or folders that any tool filled."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spx_cli.datasets import Entry
from spx_cli.datasets.companions import Companions, walk
from spx_cli.datasets.folder import LABELS_MARK, MAPS
from spx_cli.errors import DataError, ParameterError
from spx_cli.io import read_labels
from spx_cli.methods import create
from spx_cli.methods.base import Method, resident
from spx_cli.types import Image, Labels


@dataclass(frozen=True)
class Segmenter:
    """Label maps that a method makes on the fly, one for each count."""

    name: str
    method: Method
    counts: tuple[int, ...]
    native_count: bool = False

    def __str__(self) -> str:
        return repr(self.method) + (", native count" if self.native_count else "")

    def files(self, entry: Entry, count: int | None) -> tuple[Path, ...]:
        """Return no file: the maps are made."""
        return ()

    def label_map(self, image: Image, count: int) -> Labels:
        """Return the map of an image; raises what the method raises."""
        return resident(self.method).segment(image, count, native_count=self.native_count)


class LabelFolder:
    """Label maps that lie in a folder, named as their images; folders below it that are numbers are counts asked for.

    The folder's name stands for the method. Where no folder is a number, the count asked for is None; where one is,
    what lies beside it (tables of results, say) is passed over.
    """

    def __init__(self, root: str | Path) -> None:
        """List the maps below `root`; raises DataError where there are none."""
        self.root = Path(root)
        self.name = self.root.resolve().name
        if not self.root.is_dir():
            raise DataError(f"no such folder: {root}; --labels takes a folder of label maps named as the images")
        self._maps: dict[int | None, Companions] = {}
        for path in walk(self.root, MAPS):
            parts = path.relative_to(self.root).parts
            number = re.fullmatch(r"(?:k|n)?[-_=]?(\d+)", parts[0]) if len(parts) > 1 else None
            name = Path(*parts[1:] if number else parts).with_suffix("").as_posix().removesuffix(LABELS_MARK)
            self._maps.setdefault(int(number[1]) if number else None, Companions()).add(name, path)
        if not self._maps:
            raise DataError(f"no label maps in {root}: looked for files ending in {', '.join(sorted(MAPS))}")
        numbers = sorted(count for count in self._maps if count is not None)
        self.counts: tuple[int | None, ...] = tuple(numbers) or (None,)

    def __str__(self) -> str:
        return str(self.root)

    def files(self, entry: Entry, count: int | None) -> tuple[Path, ...]:
        """Return the maps of an image, one if all is well."""
        return self._maps[count].files(entry)


Source = Segmenter | LabelFolder


def make_sources(
    methods: Iterable[str | Method],
    counts: Iterable[int],
    labels: Iterable[str | Path] = (),
    *,
    native_count: bool = False,
) -> list[Source]:
    """Return the sources of label maps: each method at all counts, and the folders of maps made elsewhere."""
    wanted = tuple(dict.fromkeys(counts))
    for count in wanted:
        if count < 1:
            raise ParameterError(f"the number of superpixels must be at least 1, not {count}")
    made = [create(method) if isinstance(method, str) else method for method in methods]
    segmenters: list[Source] = [Segmenter(method.name, method, wanted, native_count) for method in made]
    return segmenters + [LabelFolder(folder) for folder in labels]


def read_map(entry: Entry, image: Image, files: Sequence[Path]) -> Labels:
    """Return the label map of an image; raises DataError unless it has one file, LabelError for another size."""
    if not files:
        raise DataError(f"no label map for {entry.id}")
    if len(files) > 1:
        raise DataError(f"{len(files)} label maps for {entry.id}: {', '.join(map(str, files))}; leave one of them")
    return read_labels(files[0], size=image.shape[:2])
