"""What has been made in a folder, and from what: one JSON line for each step, so that a killed run can be taken up.

Before an output is made a line names it with its recipe; once it lies under its final name a second line adds the
digests of its input and of what was written. An output whose last line has none was perhaps being written when the run
died: it is remade, and so is one that has another content by now. Lines are only ever appended, each by one write; a
line that was cut short, or damaged, counts for nothing.
"""

import os
from pathlib import Path
from typing import NamedTuple, Self

from spx_cli.errors import OutputError
from spx_cli.io.files import sealed, unsealed

NAME = ".spx-manifest.jsonl"


class Made(NamedTuple):
    """The last word on one output. `digest` is '' until it is done; `k` is its number of regions, then.

    written : the digest of what lies there then, its overlay included.
    """

    recipe: str
    digest: str
    k: int
    written: str = ""


class Manifest:
    """The manifest of `folder`. Use it as a context manager to append; reading needs none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1
        self.entries: dict[str, Made] = {}
        if not self.path.is_file():
            return
        with self.path.open("rb") as lines:
            for line in lines:
                try:
                    name, *entry = unsealed(line)
                    self.entries[name] = Made(*entry)
                except (ValueError, TypeError):
                    continue

    @property
    def path(self) -> Path:
        """Where the manifest lies."""
        return self._folder / NAME

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None
        if (size := os.fstat(self._file).st_size) and os.pread(self._file, 1, size - 1) != b"\n":
            self._append(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def get(self, output: Path) -> Made | None:
        """Return the last word on an output, None where it was never begun."""
        return self.entries.get(self._key(output))

    def begin(self, output: Path, recipe: str) -> None:
        """Say that an output is about to be made."""
        self._write(output, Made(recipe, "", 0))

    def done(self, output: Path, entry: Made) -> None:
        """Say that an output lies under its final name."""
        self._write(output, entry)

    def _key(self, output: Path) -> str:
        return output.relative_to(self._folder).as_posix()

    def _write(self, output: Path, entry: Made) -> None:
        self.entries[self._key(output)] = entry
        self._append(sealed([self._key(output), *entry]))

    def _append(self, data: bytes) -> None:
        try:
            if os.write(self._file, data) < len(data):
                raise OutputError(f"cannot write {self.path}: no space left")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None
