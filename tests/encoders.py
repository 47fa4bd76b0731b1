"""Files by hand, and files as encoders write them, for the tests of decoders."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image as pillow

RNG = np.random.default_rng(7)
PHOTO = RNG.integers(0, 256, (13, 17, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (13, 17, 4)).astype(np.uint16)
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows, depth, colour, *, passes=((0, 0, 1, 1),), extra=b"", size=None):
    """A PNG by hand; rows (H, W * C) are samples, sub-filtered when they fill whole bytes."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    height, width = size or (rows.shape[0], rows.shape[1] // channels)
    samples, data = rows.reshape(height, width, channels), b""
    for y, x, dy, dx in passes:
        for row in samples[y::dy, x::dx] if x < width else ():
            flat = row.ravel()
            if depth == 16:
                packed = flat.astype(">u2").view(np.uint8).astype(int)
                data += (
                    b"\1"
                    + (packed - np.concatenate([np.zeros(2 * channels, int), packed[: -2 * channels]]))
                    .astype(np.uint8)
                    .tobytes()
                )
            else:
                bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
                data += b"\0" + np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, len(passes) > 1)
    end = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + end


def encoded(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, pillow.Image) else pillow.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()
