"""Files that are whole or absent, and what a decoder may raise on a damaged one."""

import os
import secrets
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spx_cli.errors import SpxError

# Everything Pillow, tifffile, SciPy and NumPy were seen to raise on damaged files (tests/test_io.py feeds them some).
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
)


def reason(error: BaseException) -> str:
    """Return what went wrong as one line: the system's words for an OSError, else the message or the error's name."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced to disk and renamed, on error it is removed.

    So a file under its final name is always complete, whatever kills the process. The temporary name starts with a dot
    and ends in `.part`. Raises SpxError, naming `path`, when the system refuses: permission, full disk, no such folder.

    >>> with atomic("/no/such/folder/labels.png") as temporary:
    ...     temporary.write_bytes(b"...")
    Traceback (most recent call last):
    spx_cli.errors.SpxError: /no/such/folder/labels.png: cannot be written: No such file or directory
    """
    final = Path(path)
    temporary = final.with_name(f".spx-{secrets.token_hex(8)}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    except OSError as error:
        raise SpxError(f"{final}: cannot be written: {reason(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
