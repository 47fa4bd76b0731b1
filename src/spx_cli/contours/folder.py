"""Contour maps that lie in a folder, made by `spx contours` or any other tool."""

from collections.abc import Iterable
from pathlib import Path

from spx_cli.datasets import Entry
from spx_cli.datasets.companions import Companions, list_files
from spx_cli.errors import DataError
from spx_cli.io import CONTOUR_SUFFIXES

CONTOURS_MARK = ".contours"  # how `spx contours` names a map that lies beside its image: <stem>.contours.png
PICTURE_MARK = ".overlay"  # and a picture of one


class ContourFolder:
    """The contour maps below a folder, named as their images; its name stands for the tool that made them."""

    def __init__(self, root: str | Path, entries: Iterable[Entry] = ()) -> None:
        """List the maps, for `entries`; raises DataError where there are none, or none of any of these images."""
        self.root = Path(root)
        self.name = self.root.resolve().name
        if not self.root.is_dir():
            what = "not a folder" if self.root.exists() else "no such folder"
            raise DataError(f"{what}: {root}; contour maps are given by a folder, named as the images")
        wanted = tuple(entries)
        self._maps = Companions(wanted)
        for path in (p for p in list_files(self.root) if p.suffix.lower() in CONTOUR_SUFFIXES):
            name = path.relative_to(self.root).with_suffix("").as_posix().removesuffix(CONTOURS_MARK)
            if not name.endswith(PICTURE_MARK):
                self._maps.add(name, path)
        if not len(self._maps):
            raise DataError(f"no contour maps in {root}: looked for files ending in {', '.join(CONTOUR_SUFFIXES)}")
        if wanted and not any(map(self._maps.files, wanted)):
            raise DataError(f"no contour map in {root} is named as an image: {self._maps.why_none(wanted[0])}")

    def __str__(self) -> str:
        return str(self.root)

    def find(self, entry: Entry) -> Path:
        """Return the one map of an image; DataError says what is there where there is none, or more than one."""
        files = self._maps.files(entry)
        if not files:
            raise DataError(f"no contour map for {entry.id}: {self._maps.why_none(entry)}")
        if len(files) > 1:
            which = ", ".join(map(str, files))
            raise DataError(f"{len(files)} contour maps for {entry.id}: {which}; leave one of them")
        return files[0]
