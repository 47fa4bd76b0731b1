"""Pillow's decoders, opened without its remarks and made to hand over both bytes of a 16-bit sample."""

import threading
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_quiet = threading.Lock()  # warnings.catch_warnings is not safe in threads, and batches decode in threads


def quietly(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return call(*arguments), without the warnings that Pillow issues about odd tags."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*arguments)


def open_header(decoder: Callable[[BinaryIO], Any], file: BinaryIO) -> Any:
    """Return what a Pillow decoder makes of the header of `file`; nothing is decoded yet."""
    file.seek(0)
    return quietly(decoder, file)


def unpacked(image: Any, rawmode: str) -> NDArray[Any]:
    """Return the pixels of an opened Pillow image with its bytes unpacked as `rawmode`, not as Pillow chose."""
    tile = image.tile[0]
    image.tile = [tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:]))]
    pixels: NDArray[Any] = quietly(np.asarray, image)  # Pillow reads further tags as it decodes a TIFF
    return pixels


def join_bytes(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return high * 256 + low. Pillow keeps one byte of a 16-bit colour, and the other if told the other byte order."""
    joined = high.astype(np.uint16)
    joined <<= 8
    joined |= low
    return joined
