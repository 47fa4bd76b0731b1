"""Files that claim to be, or that would become, more than memory holds, and files that did harm before."""

import io
import json
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image as pillow
from scipy.io import savemat

from encoders import PHOTO, encoded, png, tiff
from spx_cli.errors import FormatError, ImageError, SizeError, SpxError
from spx_cli.io import (
    read_ground_truth,
    read_image,
    read_labels,
)


def head_of_npy(shape, descr="<i4"):
    head = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head


def head_of_mat(shape, inside=b""):
    body = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<II2i", 5, 8, *shape) + struct.pack("<II8s", 1, 6, b"labels")
    body += struct.pack("<II", 9, 8 * (shape[0] * shape[1] & 0xFFFFFFF)) + inside
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 14, len(body)) + body


def zipped(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


WIDE = json.dumps({"type": "FeatureCollection", "bbox": [0, 0, 2**30, 2**30], "features": []}).encode()
COMB = {"type": "Polygon", "coordinates": [[[i % 2, 4000 * (i % 2)] for i in range(20000)]]}
COMBS = {
    "type": "FeatureCollection",
    "bbox": [0, 0, 2, 4000],
    "features": [{"properties": {"id": 1}, "geometry": COMB}],
}


class TestHostileMaps:
    """Small files that claim to be, or that would become, more than memory holds: refused for what their head says."""

    BOMBS = {  # noqa: RUF012
        "a.npy": head_of_npy((2**30, 2**30)),
        "b.npy": head_of_npy((2**62, 2**62)),
        "a.npz": zipped("labels.npy", head_of_npy((2**20, 2**20))),
        "a.mat": head_of_mat((2**30, 2**30)),
        "four.mat": struct.pack("<5i7s", 0, 2**30, 2**30, 0, 7, b"labels\0"),
        "a.png": png(np.zeros((1, 1), int), 8, 0, size=(1, 1)).replace(
            struct.pack(">II", 1, 1), struct.pack(">II", 2**30, 2**30)
        ),
        "a.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b",",
        "a.pgm": b"P5 100000 100000 255\n",
        "a.csv": b"1," * 2**21,
        "rows.csv": b"1\n" * 2**21,
        "a.geojson": WIDE,
        "comb.geojson": json.dumps(COMBS).encode(),
        "a.svg": b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1073741824 1073741824">'
        b'<path data-id="4" d="M0 0h2v1h-2z"/></svg>',
        "lol.svg": b'<!DOCTYPE l [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg">&b;</svg>',
    }

    @pytest.mark.parametrize("size", [None, (40, 60)])
    @pytest.mark.parametrize("name", BOMBS)
    def test_bombs(self, tmp_path, name, size):
        (tmp_path / name).write_bytes(self.BOMBS[name])
        tracemalloc.start()
        started = time.process_time()
        with pytest.raises(SpxError, match=name) as caught:
            read_labels(tmp_path / name, size=size, max_pixels=10**5)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(str(caught.value)) < 400
        assert used < 2**27
        assert time.process_time() - started < 20  # they took minutes

    def test_a_bomb_of_tiff(self, tmp_path):
        data = tiff(np.zeros((3, 5), np.uint8))
        big = data.replace(struct.pack("<HHII", 256, 4, 1, 5), struct.pack("<HHII", 256, 4, 1, 2**30))
        big = big.replace(struct.pack("<HHIHH", 256, 3, 1, 5, 0), struct.pack("<HHII", 256, 4, 1, 2**30))
        assert big != data
        (tmp_path / "a.tif").write_bytes(big)
        with pytest.raises(FormatError, match="more than the limit of"):
            read_labels(tmp_path / "a.tif")
        with pytest.raises(SizeError, match="expected 3 x 5"):
            read_labels(tmp_path / "a.tif", size=(3, 5))
        with pytest.raises(ImageError, match="more than the limit of"):
            read_image(big)

    @pytest.mark.parametrize("code", [8, 34925])
    def test_strips_that_inflate_without_end(self, code, monkeypatch):
        data = tiff(np.zeros((300, 500), np.uint8), compression=code)
        monkeypatch.setattr("spx_cli.io.tiff._HARMLESS", 50)
        assert read_image(data).shape == (300, 500, 3)
        small = data.replace(struct.pack("<HHII", 256, 4, 1, 500), struct.pack("<HHII", 256, 4, 1, 50))
        small = small.replace(struct.pack("<HHIHH", 256, 3, 1, 500, 0), struct.pack("<HHIHH", 256, 3, 1, 50, 0))
        assert small != data
        with pytest.raises(ImageError, match="inflate to more than the 15,000 of a strip or tile"):
            read_image(small)

    def test_pages_in_a_circle(self):
        data = tiff(np.zeros((3, 5), np.uint8))
        first = struct.unpack("<I", data[4:8])[0]
        count = struct.unpack("<H", data[first : first + 2])[0]
        link = first + 2 + 12 * count
        assert data[link : link + 4] == bytes(4)
        with pytest.raises(ImageError, match="follow each other in a circle"):
            read_image(data[:link] + struct.pack("<I", first) + data[link + 4 :])

    def test_what_libtiff_says_is_an_error_and_not_printed(self, capfd):
        data = bytearray(encoded(PHOTO, "TIFF", compression="tiff_lzw"))
        data[12:48] = b"\xff" * 36
        with pytest.raises(ImageError, match=r"<bytes>: damaged: Using code not yet in table$"):
            read_image(bytes(data))
        assert capfd.readouterr().err == ""
        with pytest.raises(OSError, match="decoder"):  # read by Pillow alone it prints as ever
            pillow.open(io.BytesIO(data)).load()
        assert "not yet in table" in capfd.readouterr().err

    def test_what_pillow_logs_is_not_printed(self):
        code = (
            "import logging, spx_cli.io; logging.getLogger('PIL.TiffImagePlugin').error('odd'); "
            "logging.getLogger('tifffile').error('odd')"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr == b""

    def test_files_that_once_did_harm(self, shared, capfd):
        for path in sorted((shared / "cases/damaged").glob("images/*")):
            with pytest.raises(ImageError, match=path.name) as caught:
                read_image(path)
            assert len(str(caught.value)) < 500
        for path in sorted((shared / "cases/damaged").glob("[lt]*/*.mat")):
            for read in (read_labels, read_ground_truth):
                with pytest.raises(FormatError, match=path.name):
                    read(path)
        assert capfd.readouterr().err == ""

    def test_bombs_by_pillows_own_limit(self):
        for data in (
            b"GIF89a\1\0\1\0\0\0\0," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\2\0;",
            b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 2) + b"\xff" * 6,
        ):
            with pytest.raises(ImageError, match=r"<bytes>: "):
                read_image(data)

    def test_messages_are_short_and_printable(self, tmp_path):
        np.savez(tmp_path / "a.npz", **{f"an_array_of_a_long_name_{i:05}": np.zeros(1) for i in range(300)})
        savemat(tmp_path / "a.mat", {f"v{i:05}": np.zeros((2, 2)) for i in range(300)})
        (tmp_path / "four.mat").write_bytes(struct.pack("<5i99s", 0, 2, 1, 0, 99, b"\n\0\x1b[2J" * 20) + bytes(8))
        for name in ("a.npz", "a.mat", "four.mat"):
            with pytest.raises(FormatError) as caught:
                read_labels(tmp_path / name)
            text = str(caught.value).removeprefix(str(tmp_path))
            assert len(text) < 700
            assert text.isprintable()
