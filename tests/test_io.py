"""Every decoding rule with a file made here, and what is written."""

import errno
import io
import struct
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from PIL import Image as pillow
from PIL import ImageOps

from encoders import ADAM7, DEEP, PHOTO, RNG, chunk, encoded, png, tiff
from spx_cli.errors import FormatError, ImageError, ParameterError, SpxError, UnknownName
from spx_cli.io import (
    IMAGE_SUFFIXES,
    atomic,
    read_image,
    write_image,
    write_labels,
)
from strategies import images


def rounded(share):
    """Levels 0..255 of exact shares of white, rounded to the nearest."""
    return np.vectorize(lambda s: int(s * 255 + Fraction(1, 2)), otypes=[np.uint8])(share)


def on_white(colour, alpha, full):
    shares = [
        Fraction(int(c) * int(a) + full * (full - int(a)), full * full)
        for c, a in zip(colour.ravel(), np.broadcast_to(alpha[..., None], colour.shape).ravel(), strict=True)
    ]
    return rounded(np.array(shares, object).reshape(colour.shape))


class TestPictures:
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
    def test_lossless_colour_is_exact(self, kind):
        image = read_image(encoded(PHOTO, kind))
        np.testing.assert_array_equal(image, PHOTO)
        assert image.dtype == np.uint8
        assert image.flags.writeable
        assert image.flags.c_contiguous

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
    def test_lossy_colour_is_what_the_codec_says(self, kind):
        data = encoded(PHOTO, kind)
        np.testing.assert_array_equal(read_image(data), np.asarray(pillow.open(io.BytesIO(data)).convert("RGB")))

    def test_every_kind_of_source(self, tmp_path):
        path = tmp_path / "a b.unknown"
        path.write_bytes(encoded(PHOTO, "PNG"))
        with path.open("rb") as file:
            for source in (path, str(path), path.read_bytes(), file):
                np.testing.assert_array_equal(read_image(source), PHOTO)

    @pytest.mark.parametrize(
        "source",
        [None, 7, PHOTO, PHOTO.tolist(), pillow.fromarray(PHOTO), bytearray(9), memoryview(b"9"), io.StringIO("P3")],
        ids=lambda source: type(source).__name__,
    )
    def test_what_is_no_source(self, source):
        with pytest.raises(ParameterError, match=f"a path, .* open binary file, not a {type(source).__name__}$"):
            read_image(source)

    def test_limit(self):
        data = encoded(PHOTO, "PNG")
        np.testing.assert_array_equal(read_image(data, max_pixels=None), PHOTO)
        with pytest.raises(ParameterError, match="max_pixels must be a number, not '9'"):
            read_image(data, max_pixels="9")

    @pytest.mark.parametrize("mode", ["1", "L", "P"])
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
    def test_grey_and_palette(self, mode, kind):
        picture = pillow.fromarray(PHOTO).convert(mode)
        np.testing.assert_array_equal(read_image(encoded(picture, kind)), np.asarray(picture.convert("RGB")))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_alpha_lies_on_white(self, kind):
        rgba = (DEEP >> 8).astype(np.uint8)
        rgba[0, :3, 3] = 0, 128, 255
        np.testing.assert_array_equal(read_image(encoded(rgba, kind)), on_white(rgba[..., :3], rgba[..., 3], 255))

    def test_grey_with_alpha(self):
        la = (DEEP[..., :2] >> 8).astype(np.uint8)
        expected = np.repeat(on_white(la[..., :1], la[..., 1], 255), 3, axis=2)
        np.testing.assert_array_equal(read_image(encoded(pillow.fromarray(la, "LA"), "PNG")), expected)

    @pytest.mark.parametrize("transparent", [2, bytes([255, 128, 0, 7])])
    def test_transparent_palette(self, transparent):
        indices = np.arange(4, dtype=np.uint8).reshape(2, 2)
        picture = pillow.fromarray(indices, "L")
        picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 10, 10, 10])
        data = encoded(picture, "PNG", transparency=transparent)
        alpha = np.array([255, 255, 0, 255] if transparent == 2 else list(transparent), np.uint8)
        colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [10, 10, 10]], np.uint8)
        np.testing.assert_array_equal(read_image(data), on_white(colours, alpha, 255).reshape(2, 2, 3))

    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_transparent_grey_level(self, depth):
        """The level named in tRNS is counted as stored, at every bit depth."""
        full = 2**depth - 1
        values = np.array([[0, 1, full - 1, full]])
        data = png(values, depth, 0, extra=chunk(b"tRNS", struct.pack(">H", 1)))
        expected = rounded(np.array([Fraction(int(v), full) if v != 1 else Fraction(1) for v in values[0]], object))
        np.testing.assert_array_equal(read_image(data)[0, :, 0], expected)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_transparent_colour(self, depth):
        full = 2**depth - 1
        values = np.array([[full // 3, 0, 5, full // 3, 0, 6]])
        data = png(values, depth, 2, extra=chunk(b"tRNS", struct.pack(">HHH", *values[0, :3])))
        expected = rounded(np.array([[1, 1, 1], [Fraction(int(v), full) for v in values[0, 3:]]], object))
        np.testing.assert_array_equal(read_image(data)[0], expected)

    @pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_print_and_video_colours(self, mode, kind):
        smooth = pillow.fromarray(np.linspace(0, 255, 3072).reshape(32, 32, 3).astype(np.uint8))
        if (mode, kind) == ("YCbCr", "TIFF"):
            with pytest.raises(ImageError, match="YCBCR"):
                read_image(encoded(smooth.convert(mode), kind))
            return
        image = read_image(encoded(smooth.convert(mode), kind)).astype(int)
        assert np.abs(image - np.asarray(smooth)).max() < 24

    def test_cmyk_tiff_by_hand(self):
        ink = np.array([[[0, 51, 255, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
        image = read_image(tiff(ink, photometric="separated"))
        np.testing.assert_array_equal(image, [[[255, 204, 0], [0, 0, 0], [204, 204, 204]]])

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
    def test_first_frame_of_an_animation(self, kind):
        frames = [pillow.new("RGB", (5, 4), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
        options = {"save_all": True, "append_images": frames[1:], "duration": 40}
        image = read_image(encoded(frames[0], kind, **options, **({"lossless": True} if kind == "WEBP" else {})))
        np.testing.assert_array_equal(image, np.asarray(frames[0]))

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
    def test_orientation_once(self, kind, orientation):
        exif = pillow.Exif()
        exif[0x0112] = orientation
        data = encoded(PHOTO, kind, exif=exif)
        expected = ImageOps.exif_transpose(pillow.open(io.BytesIO(data))).convert("RGB")
        np.testing.assert_array_equal(read_image(data), np.asarray(expected))

    def test_orientation_of_a_16_bit_png(self):
        exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        data = png(np.array([[0, 65535]]), 16, 0, extra=chunk(b"eXIf", exif))
        np.testing.assert_array_equal(read_image(data)[..., 0], [[0], [255]])

    def test_damaged_tags_do_no_harm(self, recwarn):
        data = encoded(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
        assert read_image(data).shape == PHOTO.shape
        assert not recwarn.list


class TestDeepPictures:
    def test_every_16_bit_level(self):
        levels = np.arange(65536).reshape(256, 256)
        expected = rounded(np.array([Fraction(v, 65535) for v in range(65536)], object)).reshape(256, 256)
        np.testing.assert_array_equal(read_image(png(levels, 16, 0))[..., 0], expected)
        np.testing.assert_array_equal(read_image(tiff(levels.astype(np.uint16)))[..., 2], expected)

    @pytest.mark.parametrize("passes", [((0, 0, 1, 1),), ADAM7], ids=["plain", "interlaced"])
    @pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
    def test_16_bit_png(self, colour, channels, passes):
        samples = DEEP[..., :channels]
        image = read_image(png(samples.reshape(13, -1), 16, colour, passes=passes, size=(13, 17)))
        shades = samples[..., :-1] if channels in (2, 4) else samples
        alpha = samples[..., -1] if channels in (2, 4) else np.full((13, 17), 65535)
        expected = on_white(shades, alpha, 65535)
        np.testing.assert_array_equal(image, np.repeat(expected, 3, axis=2) if channels < 3 else expected)

    @pytest.mark.parametrize("bands", [1, 2, 3, 4])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"byteorder": ">"}])
    def test_tiff(self, bands, planar, dtype, options):
        if dtype == np.float32 and "predictor" in options:
            options = {"compression": "zlib"}
        whole = dtype(1.0) if dtype == np.float32 else np.iinfo(dtype).max
        values = (DEEP[..., :bands] / 65535 * whole).astype(dtype)
        values = values[..., 0] if bands == 1 else values
        stored = np.moveaxis(values, -1, 0) if planar == "separate" and bands > 1 else values
        alpha = {"extrasamples": ["unassalpha"]} if bands in (2, 4) else {}
        kind = {"photometric": "rgb" if bands > 2 else "minisblack", **alpha}
        image = read_image(tiff(stored, **kind, **({"planarconfig": planar} if bands > 1 else {}), **options))
        share = values.reshape(13, 17, bands) / np.float64(whole)
        if bands in (2, 4):
            share = share[..., :-1] * share[..., -1:] + 1 - share[..., -1:]
        np.testing.assert_allclose(image / 255, np.broadcast_to(share, image.shape), atol=0.5001 / 255)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg", "group4"])
    def test_every_usual_compression(self, compression):
        """LZW is what most programs write, and what tifffile alone cannot read."""
        picture = pillow.fromarray(PHOTO).convert("1" if compression == "group4" else "RGB")
        data = encoded(picture, "TIFF", compression=compression)
        np.testing.assert_array_equal(read_image(data), np.asarray(pillow.open(io.BytesIO(data)).convert("RGB")))

    def test_16_bit_lzw(self):
        # one LZW strip written by hand: every byte a 9-bit code, cleared before the codes grow
        data = DEEP[:2, :, :3].astype("<u2").tobytes()
        codes = [code for i in range(0, len(data), 200) for code in (256, *data[i : i + 200])] + [257]
        bits = np.array([(code >> shift) & 1 for code in codes for shift in range(8, -1, -1)], np.uint8)
        strip = np.packbits(bits).tobytes()
        plain = bytearray(tiff(DEEP[:2, :, :3], photometric="rgb", metadata=None, software=False))
        with tifffile.TiffFile(io.BytesIO(plain)) as file:
            tags = file.pages[0].tags
            for name, value in (("Compression", 5), ("StripByteCounts", len(strip)), ("StripOffsets", len(plain))):
                size = struct.calcsize(tags[name].dtype.name.lower()[0].replace("s", "H").replace("l", "I"))
                at = tags[name].valueoffset
                plain[at : at + size] = value.to_bytes(size, "little")
        expected = rounded(np.vectorize(lambda v: Fraction(int(v), 65535), otypes=[object])(DEEP[:2, :, :3]))
        np.testing.assert_array_equal(read_image(bytes(plain) + strip), expected)

    def test_white_is_zero(self):
        values = np.array([[0, 100, 255]], np.uint8)
        np.testing.assert_array_equal(read_image(tiff(values, photometric="miniswhite"))[0, :, 0], [255, 155, 0])
        deep = values.astype(np.uint16) * 257
        np.testing.assert_array_equal(read_image(tiff(deep, photometric="miniswhite"))[0, :, 0], [255, 155, 0])
        np.testing.assert_array_equal(
            read_image(encoded(pillow.fromarray(255 - values), "TIFF", compression="tiff_lzw", tiffinfo={262: 0})),
            read_image(tiff(255 - values, photometric="minisblack")),
        )

    @pytest.mark.parametrize("scale", [256, 257])
    def test_tiff_palette(self, scale):
        """Programs disagree on how 8 bits become the 16 of a TIFF palette; both readings give the 8 bits back."""
        colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
        indices = RNG.integers(0, 256, (5, 6)).astype(np.uint8)
        image = read_image(tiff(indices, photometric="palette", colormap=colours * np.uint16(scale)))
        np.testing.assert_array_equal(image, colours.T[indices])

    def test_premultiplied_alpha(self):
        image = read_image(
            tiff(np.array([[[100, 0, 0, 100]]], np.uint8), photometric="rgb", extrasamples=["assocalpha"])
        )
        np.testing.assert_array_equal(image, [[[255, 155, 155]]])

    def test_a_band_that_is_not_alpha_is_left_out(self):
        infrared = (DEEP >> 8).astype(np.uint8)
        image = read_image(tiff(infrared, photometric="rgb", extrasamples=["unspecified"]))
        np.testing.assert_array_equal(image, infrared[..., :3])

    def test_overviews_are_not_pages(self):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(PHOTO, photometric="rgb")
            writer.write(PHOTO[::2, ::2].copy(), photometric="rgb", subfiletype=1)
        np.testing.assert_array_equal(read_image(file.getvalue()), PHOTO)

    def test_deep_pgm_and_pfm(self):
        grey = b"P5 2 1 4095\n" + struct.pack(">HH", 4095, 2048)
        np.testing.assert_array_equal(read_image(grey)[0, :, 0], [255, 128])
        np.testing.assert_array_equal(read_image(b"Pf\n2 1\n-1.0\n" + struct.pack("<ff", 0.25, 1))[0, :, 0], [64, 255])

    def test_value_range(self):
        heat = np.array([[-5, 0, 10, 15]], np.float32)
        with pytest.raises(
            ImageError, match=r"from -5 to 15 lie outside 0 to 1; .*--range -5 15 or auto, value_range=\(-5, 15\)"
        ):
            read_image(tiff(heat))
        np.testing.assert_array_equal(read_image(tiff(heat), value_range=(-5, 15))[0, :, 0], [0, 64, 191, 255])
        np.testing.assert_array_equal(read_image(tiff(heat), value_range=(0, 10))[0, :, 0], [0, 0, 255, 255])
        radar = np.array([[-300, 300]], np.int16)
        with pytest.raises(ImageError, match="int16 pixels, -300 to 300, have no agreed range"):
            read_image(tiff(radar))
        np.testing.assert_array_equal(read_image(tiff(radar), value_range=(-300, 300))[0, :, 0], [0, 255])
        twelve = np.array([[0, 2048, 4095]], np.uint16)
        np.testing.assert_array_equal(read_image(tiff(twelve), value_range=(0, 4095))[0, :, 0], [0, 128, 255])
        np.testing.assert_array_equal(read_image(encoded(PHOTO, "PNG"), value_range=(0, 1)), 255 * (PHOTO > 0))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
    def test_a_range_counts_for_8_bits(self, kind, mode):
        if (kind, mode) == ("PPM", "RGBA"):
            pytest.skip("PPM has no alpha")
        shape = (5, 13, {"L": 1, "RGB": 3, "RGBA": 4}[mode])
        values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) % 13
        if mode == "RGBA":
            values[..., 3] = 255
        picture = pillow.fromarray(values.squeeze(), mode) if mode == "L" else pillow.fromarray(values)
        expected = rounded(np.vectorize(lambda v: min(Fraction(int(v), 11), 1), otypes=[object])(values[..., :3]))
        image = read_image(encoded(picture, kind), value_range=(0, 11))
        np.testing.assert_array_equal(image, np.broadcast_to(expected, image.shape))

    @pytest.mark.parametrize(("data", "top"), [(b"P5 3 1 12\n\0\6\14", 12), (b"P5 3 1 4000\n\0\0\0\6\0\14", 4000)])
    def test_a_range_is_of_stored_values(self, data, top):
        np.testing.assert_array_equal(read_image(data, value_range=(0, 12))[0, :, 0], [0, 128, 255])
        assert read_image(data)[0, 2, 0] == round(12 * 255 / top)

    def test_a_range_is_found(self):
        values = np.linspace(100, 2100, 2001).round()
        for stored in (values.astype(np.uint16), values.astype(np.int32), values.astype(np.float32)):
            image = read_image(tiff(stored[None]), value_range="auto")
            np.testing.assert_array_equal(image, read_image(tiff(stored[None]), value_range=(110, 2090)))
        assert read_image(encoded(PHOTO % 13, "PNG"), value_range="auto").max() == 255
        assert (read_image(tiff(np.full((2, 2), 7, np.int16)), value_range="auto") == 0).all()
        with pytest.raises(ImageError, match="NaN"):
            read_image(tiff(np.array([[np.nan, 1]], np.float32)), value_range="auto")

    def test_rounding_errors_beyond_the_range_of_floats(self):
        values = np.array([[-1e-7, 0.5, 1.0000001]], np.float32)
        np.testing.assert_array_equal(read_image(tiff(values))[0, :, 0], [0, 128, 255])
        with pytest.raises(ImageError, match=r"--range -1\.1e-05 1"):
            read_image(tiff(np.array([[-1.1e-5, 1]])))

    @pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
    @pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
    def test_a_range_under_alpha(self, extra, photometric):
        """Half transparent black, middle and white, and beyond: on white."""
        values, cover = np.array([200, 300, 400, 500, 100]), 0.5
        grey = values * cover if extra == "assocalpha" else values
        stored = np.stack([grey, np.full(5, cover * 65535 // 1)], -1)[None].astype(np.uint16)
        data = tiff(stored, photometric=photometric, planarconfig="contig", extrasamples=[extra])
        levels = np.clip((values - 200) / 200, 0, 1)
        levels = 1 - levels if photometric == "miniswhite" else levels
        expected = 255 * (levels * cover + 1 - cover)
        assert np.abs(read_image(data, value_range=(200, 400))[0, :, 0] - expected).max() <= 1

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            (np.array([[0, 3000]], np.uint16), "0 to 3000, use little of the range from 0 to 65535"),
            (np.array([[60000, 60012]], np.uint16), "say --range 60000 60012 or --range auto"),
            (np.array([[0, 0.125]], np.float32), "0 to 0.125, use little of the range from 0 to 1,"),
            (np.array([[0, 20000]], np.uint16), ""),
            (np.array([[7, 7]], np.uint16), ""),
            (np.array([[0, 12]], np.uint8), ""),
        ],
    )
    def test_values_that_use_little_of_their_range_are_told(self, values, told, caplog):
        caplog.set_level("WARNING", "spx_cli")
        read_image(tiff(values))
        assert (told in caplog.text) if told else not caplog.text
        caplog.clear()
        read_image(tiff(values), value_range=(0, 70000))
        assert not caplog.text

    @pytest.mark.parametrize("bands", [2, 4])
    def test_a_band_that_is_left_out_is_told(self, bands, caplog):
        caplog.set_level("WARNING", "spx_cli")
        read_image(
            tiff(
                DEEP[..., :bands],
                photometric="rgb" if bands == 4 else "minisblack",
                planarconfig="contig",
                extrasamples=["unspecified"],
            )
        )
        assert "its last band is left out" in caplog.text

    @pytest.mark.parametrize("planarconfig", ["contig", "separate"])
    def test_the_advice_on_bands_works(self, tmp_path, monkeypatch, planarconfig):
        monkeypatch.chdir(tmp_path)
        cube = RNG.integers(0, 256, (9, 8, 6)).astype(np.uint8)
        stored = cube.transpose(2, 0, 1) if planarconfig == "separate" else cube
        tifffile.imwrite("cube.tif", stored, planarconfig=planarconfig, photometric="minisblack")
        with pytest.raises(ImageError) as caught:
            read_image("cube.tif")
        advice = str(caught.value).partition("for example with ")[2]
        exec(advice.replace("FILE", "'cube.tif'"), {"tifffile": tifffile})
        np.testing.assert_array_equal(read_image("rgb.tif"), cube[..., [2, 1, 0]])

    @pytest.mark.parametrize("kind", ["JPEG2000", "AVIF"])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
    def test_what_pillow_reads_beside(self, kind, mode):
        smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
        picture = pillow.fromarray(smooth).convert(mode)
        if mode == "RGBA":
            picture.putalpha(128)
        data = encoded(picture, kind, **({"irreversible": False} if kind == "JPEG2000" else {"quality": 100}))
        white = pillow.new("RGBA", picture.size, "white")
        expected = pillow.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
        assert np.abs(read_image(data).astype(int) - np.asarray(expected)).max() <= (1 if kind == "JPEG2000" else 4)

    def test_deep_jpeg_2000(self):
        levels = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
        data = encoded(pillow.fromarray(levels), "JPEG2000")
        np.testing.assert_array_equal(read_image(data)[..., 0], (levels / 257.0).round())

    @pytest.mark.parametrize("given", [[0, 12], np.array([0, 12]), np.array([0.0, 12.0], np.float32)])
    def test_a_range_of_any_kind(self, given):
        data = encoded(PHOTO % 13, "PNG")
        np.testing.assert_array_equal(read_image(data, value_range=given), read_image(data, value_range=(0, 12)))

    @pytest.mark.parametrize("bad", [(1, 0), (0, 0), (0, np.inf), (np.nan, 1), "full", (1, 2, 3)])
    def test_impossible_range(self, bad):
        with pytest.raises(ParameterError, match="value_range"):
            read_image(encoded(PHOTO, "PNG"), value_range=bad)

    @pytest.mark.parametrize("bad", [255, ("0", "9"), (0, None), (0, (1, 2)), (0, 10**400), np.eye(2), np.array(9)])
    def test_what_is_no_range(self, bad):
        with pytest.raises(ParameterError, match="value_range"):
            read_image(encoded(PHOTO, "PNG"), value_range=bad)


class TestWriteImage:
    @pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".tiff"])
    def test_exact(self, tmp_path, suffix):
        write_image(tmp_path / f"a{suffix}", PHOTO)
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), PHOTO)
        assert suffix.lower() in IMAGE_SUFFIXES

    @pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
    def test_close(self, tmp_path, suffix):
        smooth = np.linspace(0, 255, 3072).reshape(32, 32, 3).astype(np.uint8)
        write_image(tmp_path / f"a{suffix}", smooth)
        assert np.abs(read_image(tmp_path / f"a{suffix}").astype(int) - smooth).max() < 16

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(image=images())
    def test_any_image(self, tmp_path, image):
        write_image(tmp_path / "a.png", image)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)

    def test_refusals(self, tmp_path):
        with pytest.raises(UnknownName, match=r"'\.pgn'; did you mean '\.png'"):
            write_image(tmp_path / "a.pgn", PHOTO)
        with pytest.raises(FormatError, match="WEBP cannot hold"):
            write_image(tmp_path / "a.webp", np.zeros((1, 16384, 3), np.uint8))
        assert list(tmp_path.iterdir()) == []


class TestAtomic:
    def test_success(self, tmp_path):
        path = tmp_path / "a.png"
        with atomic(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.startswith(".")
            assert temporary.suffix not in IMAGE_SUFFIXES
            temporary.write_text("new")
            assert not path.exists()
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
    def test_error_keeps_the_old_file(self, tmp_path, error):
        path = tmp_path / "a.png"
        path.write_text("old")

        def interrupted():
            with atomic(path) as temporary:
                temporary.write_text("half")
                raise error

        with pytest.raises((SpxError, KeyboardInterrupt)) as caught:
            interrupted()
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
        assert path.read_text() == "old"
        if isinstance(error, OSError):
            assert str(caught.value) == f"{path}: cannot be written: No space left on device"

    def test_no_folder(self, tmp_path):
        with pytest.raises(SpxError, match=r"a\.png: cannot be written: No such file"):
            write_labels(tmp_path / "none" / "a.png", np.zeros((2, 2), np.int32))

    def test_folder_in_the_way(self, tmp_path):
        (tmp_path / "a.png").mkdir()
        with pytest.raises(SpxError, match=r"a\.png: cannot be written"):
            write_labels(tmp_path / "a.png", np.zeros((2, 2), np.int32))
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
