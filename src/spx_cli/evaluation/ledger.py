"""Results of a long run, kept in a file as they come, so that an interrupted run can go on.

The file holds sealed lines of JSON: first the settings of the run, then one record for each image. A line that is torn
or damaged counts for nothing when the file is opened again; a later record of an image replaces an earlier one.
"""

import json
import os
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from spx_cli.errors import FormatError, OutputError, ParameterError
from spx_cli.io.files import claim, release, sealed, unsealed


class Ledger:
    """Records by name, in a file that is this process's until `release`; memory holds one number for each."""

    def __init__(self, settings: Mapping[str, Any], path: Path | None = None, *, resume: bool = False) -> None:
        """Begin a ledger, or open one to go on.

        path : None keeps the records in a temporary file that goes with this object.
        resume : read what is there; raises ParameterError where it was made with other settings. A file that is not
            there is begun. Without it a ledger that is there is begun anew.

        Raises FormatError where the file is something else, Busy where another process is at it.
        """
        self.path = path
        self._places: dict[str, int] = {}
        self._file: BinaryIO
        if path is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this object lives
        else:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                place = Path(os.path.realpath(path))  # a link stays
                if place.exists() and not place.is_file():
                    raise OSError(0, "it is no regular file")
                self._file = _claimed(place)
                if not resume and place.stat().st_size:
                    with self._file:
                        _check_replaceable(place)
                        place.unlink()  # who reads it still has it
                    self._file = _claimed(place)
            except OSError as error:
                raise OutputError(f"cannot keep results in {path}: {error.strerror}") from None
        weakref.finalize(self, self._file.close)
        # The round trip makes tuples lists, so that what was written compares equal to what is read.
        wanted = json.loads(json.dumps(settings))
        try:
            if self._read(wanted) == 0:
                self._write(wanted)
        except BaseException:
            self._file.close()  # who keeps the error must not keep the file from others
            raise

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> dict[str, Any]:
        self._file.seek(self._places[name])
        record: dict[str, Any] = unsealed(self._file.readline())
        return record

    def __len__(self) -> int:
        return len(self._places)

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        """Append a record; it is in the file when this returns. NaN and infinity are kept."""
        self._places[name] = self._write({"name": name, **record})

    def release(self) -> None:
        """Let other processes go on with the file; what it holds can still be read here."""
        if not self._file.closed:  # as it is where the disk was full
            release(self._file.fileno())

    def _write(self, value: Mapping[str, Any]) -> int:
        place = self._file.seek(0, 2)
        try:
            self._file.write(sealed(value))
            self._file.flush()
        except OSError as error:
            with suppress(OSError):  # what it could not write it would try to write once more
                self._file.close()
            raise OutputError(f"cannot keep results in {self.path or 'a temporary file'}: {error.strerror}") from None
        return place

    def _read(self, wanted: Mapping[str, Any]) -> int:
        """Find the records, cut off a torn end, and return the length of what is kept."""
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                if end == 0:
                    _check_torn(line, self.path)
                break
            try:
                value = unsealed(line)
            except ValueError:
                if end == 0:
                    raise FormatError(f"{self.path} is no file of results, or its first line is damaged") from None
            else:
                if end == 0:
                    self._compare(value, wanted)
                else:
                    self._places[value["name"]] = end
            end += len(line)
        self._file.truncate(end)
        return end

    def _compare(self, found: Any, wanted: Mapping[str, Any]) -> None:
        if not isinstance(found, dict):
            raise FormatError(f"{self.path} is no file of results: its first line holds no settings")
        for key in [*wanted, *found]:
            if found.get(key) != wanted.get(key):
                raise ParameterError(
                    f"{self.path} was made with {key} {found.get(key)!r}, not {wanted.get(key)!r}; "
                    "leave out --resume to begin anew"
                )


def _claimed(place: Path) -> BinaryIO:
    """Open a file, or a new one, for this process alone."""
    while True:
        file = os.fdopen(os.open(place, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            claim(file.fileno(), place)
            if os.path.samestat(os.fstat(file.fileno()), place.stat()):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()  # another process put its own in the place meanwhile


def _check_replaceable(place: Path) -> None:
    """Raise FormatError for a file of something else than a ledger: it is somebody's."""
    with place.open("rb") as file:
        line = file.readline()
    try:
        unsealed(line)
    except ValueError:
        _check_torn(line, place)


def _check_torn(line: bytes, place: Path | None) -> None:
    """Raise FormatError unless a first line is one of ours that a kill cut short."""
    if line.endswith(b"\n") or not line.startswith(b'["'):
        raise FormatError(f"{place} is no file of results, and would be replaced; name another")


def cache_file(name: str) -> Path | None:
    """Return where in the user's cache the ledger of this name lies, None where there is no cache to write to."""
    try:
        home = os.environ.get("SPX_HOME")
        folder = (Path(home) if home else Path.home() / ".cache" / "spx") / "eval"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder / f"{name}.jsonl" if os.access(folder, os.W_OK) else None
