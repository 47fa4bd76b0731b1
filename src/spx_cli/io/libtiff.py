"""What libtiff says of a damaged file: it prints that on standard error, and hands out what it guesses all the same."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import _imaging

_LONGEST = 200
_MOST = 3
_told = threading.local()  # decoders run in threads


@contextmanager
def errors() -> Iterator[list[str]]:
    """Give a list that fills with what libtiff, as Pillow uses it in this thread, reports meanwhile.

    Where Pillow's libtiff cannot be reached the list stays empty, and libtiff prints as ever.
    """
    _take_over()
    _told.lines = lines = list[str]()
    try:
        yield lines
    finally:
        del _told.lines


@cache
def _take_over() -> Any:
    """Set a handler for libtiff's errors, once; return what must live as long as libtiff."""
    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)  # module, format, va_list
    try:
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler  # looked for in what it is linked with, too
        print_to = ctypes.CDLL(None).vsnprintf
    except (OSError, AttributeError, TypeError):
        return None
    print_to.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)
    set_handler.restype = ctypes.c_void_p

    def handle(module: bytes | None, form: bytes, values: int) -> None:
        lines = getattr(_told, "lines", None)
        if lines is None:
            if before:
                before(module, form, values)
        elif len(lines) < _MOST:
            text = ctypes.create_string_buffer(_LONGEST)
            print_to(text, _LONGEST, form, values)
            lines.append(text.value.decode("latin-1").rstrip("."))

    handler = kind(handle)
    replaced = set_handler(handler)
    before = kind(replaced) if replaced else None
    return handler
