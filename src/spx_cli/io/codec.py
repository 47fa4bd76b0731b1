"""Pillow's decoders, opened without its remarks and made to hand over both bytes of a 16-bit sample."""

import threading
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
)

Decoder = Callable[[BinaryIO], Any]
CheckSize = Callable[[int, int], None]  # of height and width; raises what is to be said of a size that cannot be


class Kind(NamedTuple):
    """A kind of picture: whether the first 16 bytes of a file are its mark, and what opens it."""

    accepts: Callable[[bytes], bool]
    decoder: Decoder
    lossless: bool = True


# Opened by class, not by PIL.Image.open, whose own pixel limit is a process-wide setting that belongs to the user.
KINDS = {
    "PNG": Kind(lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "JPEG": Kind(lambda head: head.startswith(b"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile, lossless=False),
    "WebP": Kind(
        lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", WebPImagePlugin.WebPImageFile, lossless=False
    ),
    "BMP": Kind(lambda head: head.startswith(b"BM"), BmpImagePlugin.BmpImageFile),
    "GIF": Kind(lambda head: head.startswith((b"GIF87a", b"GIF89a")), GifImagePlugin.GifImageFile),
    "JPEG 2000": Kind(
        lambda head: head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        lossless=False,
    ),
    "AVIF": Kind(
        lambda head: head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"),
        AvifImagePlugin.AvifImageFile,
        lossless=False,
    ),
    "PPM": Kind(lambda head: head[:1] == b"P" and head[1:2] in b"123456f", PpmImagePlugin.PpmImageFile),
}
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SPREAD = {"L;2": 85, "L;4": 17}  # by what Pillow multiplies the levels of such pixels

_quiet = threading.Lock()  # warnings.catch_warnings is not safe in threads, and batches decode in threads


def quietly(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return call(*arguments), without the warnings that Pillow issues about odd tags."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*arguments)


def recognise(head: bytes) -> str | None:
    """Return the name in KINDS of a file that begins so, None where it is no picture of these."""
    return next((name for name, kind in KINDS.items() if kind.accepts(head)), None)


def open_header(decoder: Decoder, file: BinaryIO) -> Any:
    """Return what a Pillow decoder makes of the header of `file`; nothing is decoded yet."""
    file.seek(0)
    return quietly(decoder, file)


def unpacked(image: Any, rawmode: str) -> NDArray[Any]:
    """Return the pixels of an opened Pillow image with its bytes unpacked as `rawmode`, not as Pillow chose."""
    tile = image.tile[0]
    image.tile = [tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:]))]
    pixels: NDArray[Any] = quietly(np.asarray, image)  # Pillow reads further tags as it decodes a TIFF
    return pixels


def is_png16(image: Any) -> bool:
    """Whether an opened picture is a PNG of 16 bits a sample."""
    raw = image.tile[0].args if image.tile else None
    return isinstance(image, PngImagePlugin.PngImageFile) and isinstance(raw, str) and raw.endswith(";16B")


def png16(image: Any, file: BinaryIO) -> NDArray[np.uint16]:
    """Return the samples (H, W, C) of a 16-bit PNG, of which Pillow by itself keeps the high bytes only."""
    raw = image.tile[0].args
    if raw == "I;16B":
        return np.asarray(image)[..., None].astype(np.uint16)
    if raw == "LA;16B":
        return unpacked(image, "RGBA").view(">u2").astype(np.uint16)  # four bytes a pixel either way
    high = np.asarray(image)
    return join_bytes(high, unpacked(open_header(type(image), file), raw.removesuffix("B") + "L"))


def stored(image: Any) -> tuple[NDArray[Any], int]:
    """Return the pixels of an opened picture as they stand in the file, and the greatest number there can be.

    Pillow spreads grey levels of under 8 bits over 0..255, and those of a PGM over 0..255 or 0..65535.
    """
    raw = image.tile[0].args if image.tile else None
    if image.format == "PPM" and isinstance(raw, tuple):
        _check_levels(image, raw[-1])
    values: NDArray[Any] = np.asarray(image)
    spread = 65535 if image.mode in ("I", "I;16") else 255
    if raw in _SPREAD:
        return values // np.uint8(_SPREAD[raw]), 255 // _SPREAD[raw]
    if image.format == "PPM" and isinstance(raw, tuple):
        top = raw[-1]
        return np.rint(values * (top / spread)).astype(np.uint8 if top < 256 else np.uint16), top
    return values, spread


def _check_levels(image: Any, top: int) -> None:
    """Raise ValueError for an opened binary PGM or PPM with samples above `top`, of which Pillow would make white."""
    tile = image.tile[0]
    if tile.codec_name == "ppm":  # of one in plain text Pillow says so itself
        kind = np.dtype(">u2" if top > 255 else "u1")
        image.fp.seek(tile.offset)
        samples = np.frombuffer(image.fp.read(image.width * image.height * len(image.getbands()) * kind.itemsize), kind)
        if samples.size and (highest := samples.max()) > top:
            raise ValueError(f"a sample is {highest}, and {top} the greatest that the file declares")


def join_bytes(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return high * 256 + low. Pillow keeps one byte of a 16-bit colour, and the other if told the other byte order."""
    joined = high.astype(np.uint16)
    joined <<= 8
    joined |= low
    return joined
