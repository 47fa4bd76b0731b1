"""Files in another folder that are named as the images they belong to: label maps and contour maps made elsewhere."""

from collections.abc import Collection, Iterator
from pathlib import Path

from spx_cli.datasets.base import Entry


class Companions:
    """Files by the name of their image: by its id, else by what of its path both trees share, else by its last part."""

    def __init__(self) -> None:
        self._whole: dict[str, tuple[Path, ...]] = {}
        self._last: dict[str, tuple[Path, ...]] = {}

    def add(self, name: str, path: Path) -> None:
        """Enter the file of the image `name`, a path without suffix, parts parted by '/'."""
        for files, key in ((self._whole, name), (self._last, name.rpartition("/")[2])):
            files[key] = (*files.get(key, ()), path)

    def files(self, entry: Entry) -> tuple[Path, ...]:
        """Return the files of an image, one if all is well."""
        parts = entry.image.with_suffix("").parts
        for name in (entry.id, *("/".join(parts[start:]) for start in range(len(parts)))):
            if found := self._whole.get(name):
                return found
        return self._last.get(entry.id.rpartition("/")[2]) or self._last.get(parts[-1], ())


def walk(root: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Yield the files below `root` with one of the suffixes, sorted; hidden files and folders are passed over."""
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in suffixes and not hidden and path.is_file():
            yield path
