"""Contour maps that lie in a folder, made by `spx contours` or any other tool."""

from pathlib import Path

from spx_cli.datasets import Entry
from spx_cli.datasets.companions import Companions, walk
from spx_cli.errors import DataError
from spx_cli.io import CONTOUR_SUFFIXES

CONTOURS_MARK = ".contours"  # how `spx contours` names a map that lies beside its image: <stem>.contours.png
PICTURE_MARK = ".overlay"  # and a picture of one


class ContourFolder:
    """The contour maps below a folder, named as their images; its name stands for the tool that made them."""

    def __init__(self, root: str | Path) -> None:
        """List the maps; raises DataError where there are none."""
        self.root = Path(root)
        self.name = self.root.resolve().name
        if not self.root.is_dir():
            raise DataError(f"no such folder: {root}; contour maps are given by a folder, named as the images")
        self._maps = Companions()
        count = 0
        for path in walk(self.root, CONTOUR_SUFFIXES):
            name = path.relative_to(self.root).with_suffix("").as_posix().removesuffix(CONTOURS_MARK)
            if not name.endswith(PICTURE_MARK):
                self._maps.add(name, path)
                count += 1
        if not count:
            raise DataError(f"no contour maps in {root}: looked for files ending in {', '.join(CONTOUR_SUFFIXES)}")

    def files(self, entry: Entry) -> tuple[Path, ...]:
        """Return the maps of an image, one if all is well."""
        return self._maps.files(entry)

    def find(self, image: str | Path, id: str = "") -> Path:
        """Return the one map of an image, given by its path and id; DataError unless there is just one."""
        entry = Entry(id or Path(image).stem, Path(image))
        return only(entry, self.files(entry))


def only(entry: Entry, files: tuple[Path, ...]) -> Path:
    """Return the one file among the contour maps of an image; DataError where there is none or more than one."""
    if not files:
        raise DataError(f"no contour map for {entry.id}")
    if len(files) > 1:
        raise DataError(f"{len(files)} contour maps for {entry.id}: {', '.join(map(str, files))}; leave one of them")
    return files[0]
