"""Pictures that are damaged, too large or of another kind."""

import struct
import warnings

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from encoders import DEEP, PHOTO, RNG, chunk, encoded, png, tiff
from spx_cli.errors import ImageError
from spx_cli.io import read_image


class TestBadPictures:
    def refused(self, path, match, **options):
        with pytest.raises(ImageError, match=match) as caught:
            read_image(path, **options)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("samples", "last"),
        [(b"P5 2 1 100\n\x64", 100), (b"P6 1 1 7\n\x07\x00", 7), (b"P5 2 1 1000\n\x03\xe8\x03", 0xE8)],
    )
    def test_samples_above_the_greatest_that_is_declared(self, samples, last):
        assert read_image(samples + bytes([last]))[0, -1, -1] == 255
        with pytest.raises(ImageError, match=r"a sample is \d+, and \d+ the greatest"):
            read_image(samples + bytes([last + 1]))

    def test_no_file(self, tmp_path):
        self.refused(tmp_path / "none.png", "No such file")
        self.refused(tmp_path, "directory")

    def test_empty_and_text(self, tmp_path):
        (tmp_path / "empty.png").write_bytes(b"")
        self.refused(tmp_path / "empty.png", "the file is empty")
        (tmp_path / "note.png").write_text("hello, world")
        self.refused(
            tmp_path / "note.png", r"not a picture \(PNG, JPEG, WebP, BMP, GIF, JPEG 2000, AVIF, PPM or TIFF\).*hello"
        )

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF"])
    @pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
    def test_truncated(self, tmp_path, kind, kept, recwarn):
        noise = RNG.integers(0, 256, (60, 70, 3)).astype(np.uint8)
        data = encoded(noise, kind)
        path = tmp_path / f"cut.{kind.lower()}"
        path.write_bytes(data[: int(kept * len(data))])
        self.refused(path, "damaged|truncated|not a picture")
        assert not recwarn.list

    @pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
    def test_truncated_tiff(self, tmp_path, options):
        (tmp_path / "cut.tif").write_bytes(tiff(DEEP, photometric="rgb", **options)[:-40])
        self.refused(tmp_path / "cut.tif", "truncated")

    def test_bombs_are_not_decoded(self, tmp_path):
        bomb = png(np.zeros((1, 1), int), 8, 0).replace(
            struct.pack(">II", 1, 1) + b"\x08", struct.pack(">II", 60000, 60000) + b"\x08"
        )
        head = bomb[:8] + chunk(b"IHDR", bomb[16:29]) + bomb[33:]
        (tmp_path / "bomb.png").write_bytes(head)
        self.refused(tmp_path / "bomb.png", r"60000 x 60000 = 3,600,000,000 pixels, more than the limit of 178,000,000")
        (tmp_path / "small.png").write_bytes(encoded(PHOTO, "PNG"))
        self.refused(tmp_path / "small.png", "17 x 13 = 221 pixels.*--max-pixels", max_pixels=220)
        assert read_image(tmp_path / "small.png", max_pixels=221).shape == PHOTO.shape
        (tmp_path / "small.tif").write_bytes(tiff(PHOTO))
        self.refused(tmp_path / "small.tif", "17 x 13 = 221 pixels", max_pixels=220)

    def test_pillow_own_limit_is_no_second_one(self, monkeypatch, recwarn):
        monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 50)
        assert read_image(encoded(PHOTO, "PNG"), max_pixels=1000).shape == PHOTO.shape
        assert not recwarn.list

    def test_tiff_of_too_much(self, tmp_path):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.zeros((2, 5, 6, 3), np.uint8), photometric="rgb")
        self.refused(path, "2 pages; split it")
        tifffile.imwrite(path, np.zeros((5, 6, 7), np.uint8), photometric="minisblack", planarconfig="contig")
        self.refused(path, "7 bands; choose three")
        tifffile.imwrite(path, np.zeros((16, 16, 16), np.uint8), photometric="minisblack", volumetric=True)
        self.refused(path, "volume 16 deep")
        tifffile.imwrite(path, np.zeros((5, 6, 3), np.uint8), photometric="cielab")
        self.refused(path, "CIELAB colours")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, tmp_path, value):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.array([[0, value]], np.float32))
        self.refused(path, "1 values are NaN or infinite")
        self.refused(path, "1 values are NaN or infinite", value_range=(0, 2))

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_damage_never_shows_a_traceback(self, data):
        good = data.draw(st.sampled_from(SAMPLES))
        broken = bytearray(good)
        for _ in range(data.draw(st.integers(1, 4))):
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                image = read_image(bytes(broken), max_pixels=1_000_000)
            except ImageError:
                return
        assert image.dtype == np.uint8
        assert image.shape[2] == 3


SAMPLES = [
    *(encoded(PHOTO, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")),
    *(encoded(PHOTO, "TIFF", compression=c) for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")),
    png(DEEP.reshape(13, -1), 16, 6),
    tiff(DEEP, photometric="rgb", compression="zlib"),
]
