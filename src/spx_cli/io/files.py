"""Files and lines that are whole or count for nothing, and what a decoder may raise on a damaged file."""

import hashlib
import json
import os
import secrets
import shutil
import stat
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image as pillow

from spx_cli.errors import Busy, FormatError, OutputError, SpxError

try:
    import fcntl
except ImportError:  # Windows, where nothing is swept
    fcntl = None  # type: ignore[assignment]

# Everything Pillow, tifffile, SciPy and NumPy were seen to raise on damaged files: tests/test_io_damaged.py has some.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    pillow.DecompressionBombError,
)


_START, _END = ".spx-", ".part"


_LONGEST = 300  # characters of a message that a library gave


def reason(error: BaseException) -> str:
    """Return what went wrong as one line: the system's words for an OSError, else the message or the error's name.

    A message that quotes a damaged file may hold anything: what cannot be printed is escaped, and it is cut short.
    """
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    line = printable(" ".join(text[: 2 * _LONGEST].split()))
    return line if len(line) <= _LONGEST else line[:_LONGEST] + " ..."


def printable(text: str) -> str:
    """Return a text with what cannot be printed escaped: names in a damaged file may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@contextmanager
def reading(path: str | Path, what: str) -> Iterator[BinaryIO]:
    """Open a file to be read as `what`; each error names it, and what a decoder raises becomes a FormatError."""
    try:
        with Path(path).open("rb") as file:
            yield file
    except SpxError as error:
        raise type(error)(f"{path}: {printable(str(error))}") from None
    except DAMAGE as error:
        refused = isinstance(error, OSError) and error.errno is not None  # by the system, not by a decoder
        raise FormatError(f"{path}: {'' if refused else f'not a {what}: '}{reason(error)}") from error


def files_digest(files: Iterable[Path]) -> str:
    """Return what tells one content of files, in their order, from another; FormatError names what cannot be read."""
    total = hashlib.blake2b(digest_size=16)
    for path in files:
        with reading(path, "file") as file:
            total.update(hashlib.blake2b(file.read()).digest())
    return total.hexdigest()


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced to disk and renamed, on error it is removed.

    So a file under its final name is always complete, whatever kills the process. A link stays, and the file that it
    names is replaced; a pipe or a device is written to. The temporary name starts with a dot and ends in `.part`.
    Raises OutputError, naming `path`, when the system refuses (permission, full disk, no such folder) or `path` is a
    folder or the like.

    >>> with atomic("/no/such/folder/labels.png") as temporary:
    ...     temporary.write_bytes(b"...")
    Traceback (most recent call last):
    spx_cli.errors.OutputError: /no/such/folder/labels.png: cannot be written: No such file or directory
    """
    final = Path(path)
    with writing(final):
        is_stream = _is_stream(final)
        target = Path(os.path.realpath(final))
        with _temporary(Path(tempfile.gettempdir()) if is_stream else target.parent) as temporary:
            yield temporary
            if is_stream:
                with temporary.open("rb") as file, final.open("wb") as stream:
                    shutil.copyfileobj(file, stream)
                return
            _sync(temporary, os.O_RDWR)
            _rename(temporary, target)
            with suppress(OSError):  # where a system cannot, its names come to disk in their own time
                _sync(target.parent, os.O_RDONLY)


_only_new: ContextVar[bool] = ContextVar("only_new", default=False)


@contextmanager
def only_new() -> Iterator[None]:
    """Let `atomic` refuse, as long as this context lasts, to replace a file by one with other content."""
    token = _only_new.set(True)
    try:
        yield
    finally:
        _only_new.reset(token)


def _rename(temporary: Path, target: Path) -> None:
    """Give a file its final name; where only new ones are allowed, and the system can, no moment lies before that."""
    if _only_new.get():
        try:
            os.link(temporary, target)
            return
        except FileExistsError:
            if target.read_bytes() == temporary.read_bytes():
                return
            raise OSError(0, "it came to be since the start, and only --overwrite would replace it") from None
        except OSError:  # a file system without links
            pass
    temporary.replace(target)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a refusal by the system into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


def check_output(path: str | Path) -> None:
    """Raise before the work what `atomic` would raise after it, where that is known."""
    with writing(Path(path)):
        if not _is_stream(Path(path)):
            with _temporary(Path(os.path.realpath(path)).parent):
                pass


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a folder for this process, where the system can; Busy where another one has it."""
    with writing(folder):
        handle = os.open(folder, os.O_RDONLY) if fcntl else -1
    try:
        claim(handle, folder)
        yield
    finally:
        if fcntl:
            os.close(handle)


def claim(handle: int, place: Path) -> None:
    """Keep what is open for this process until it is closed or released, where the system can; Busy, naming `place`."""
    if fcntl:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{place}: another process is writing there") from None
        except OSError:  # a file system without locks
            pass


def release(handle: int) -> None:
    """Let others have what `claim` kept."""
    if fcntl:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there; OutputError where the system refuses."""
    with writing(path):
        if path.exists() and not path.is_dir():
            raise OSError("it is no folder")
        path.mkdir(parents=True, exist_ok=True)


def _is_stream(final: Path) -> bool:
    """Return whether bytes go into what stands there, rather than in its place; OSError where neither is right."""
    try:
        mode = final.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    if not stat.S_ISREG(mode):
        raise OSError("it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")
    return False


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Give a new file that is gone in the end; a lock on it tells `sweep` that its process lives."""
    temporary = folder / f"{_START}{secrets.token_hex(8)}{_END}"
    with temporary.open("xb") as held:
        try:
            if fcntl:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(held, fcntl.LOCK_EX)
            else:
                held.close()  # what is open could not be renamed
            yield temporary
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; those of living processes stay."""
    if fcntl:
        for left in folder.glob(f"{_START}*{_END}"):
            with suppress(OSError), left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


def _sync(path: Path, flags: int) -> None:
    """Bring a file's content, or a folder's names, to disk."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sealed(value: Any) -> bytes:
    """Return a value as a line of JSON, with a checksum: a journal of such lines can be trusted line by line."""
    text = json.dumps(value).encode()
    return b'["%08x", %s]\n' % (zlib.crc32(text), text)


def unsealed(line: bytes) -> Any:
    """Return the value of a line that `sealed` made; ValueError for any other, torn or damaged ones too.

    >>> unsealed(sealed({"k": 4}))
    {'k': 4}
    """
    text = line[13:-2]
    if line != b'["%08x", %s]\n' % (zlib.crc32(text), text):
        raise ValueError("not a whole line of a journal")
    return json.loads(text)
