"""Label maps of any tool: which numbers of a file are the ids, and what is no label map."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as pillow
from scipy.io import savemat

from encoders import PHOTO, RNG, chunk, encoded, png
from spx_cli.errors import FormatError, LabelError, ParameterError, SizeError, UnknownName
from spx_cli.io import (
    count_ground_truth,
    read_ground_truth,
    read_labels,
    write_labels,
)


class TestReadLabels:
    def saved(self, tmp_path, values):
        np.save(tmp_path / "a.npy", values)
        return tmp_path / "a.npy"

    def test_floats_that_are_whole(self, tmp_path):
        labels = read_labels(self.saved(tmp_path, np.array([[0.0, 3.0]])))
        np.testing.assert_array_equal(labels, [[0, 3]])
        (tmp_path / "a.csv").write_text("1.0,2e0\n3,4\n")
        np.testing.assert_array_equal(read_labels(tmp_path / "a.csv"), [[1, 2], [3, 4]])

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.array([[0, 1.5]]), "not 1.5"),
            (np.array([[0, np.nan]]), "not nan"),
            (np.array([[0, np.inf]]), "not inf"),
            (np.array([[0, -3]]), "negative, found -3"),
            (np.array([[0, -3.0]]), "negative, found -3"),
            (np.array([[0, 2**31]]), "at most 2147483647, found 2147483648"),
            (np.array([[0, 2.0**40]]), "at most 2147483647, found 1099511627776"),
            (np.array([[0, 2**64 - 1]], np.uint64), "found 18446744073709551615"),
            (np.array([["a"]]), "not <U1"),
            (np.array([[1j]]), "not complex128"),
            (np.zeros((2, 2, 3), int), r"not \(2, 2, 3\)"),
            (np.zeros(4, int), r"not \(4,\)"),
            (np.zeros((0, 4), int), r"at least 1 x 1, not \(0, 4\)"),
        ],
    )
    def test_not_ids(self, tmp_path, values, message):
        path = self.saved(tmp_path, values)
        with pytest.raises(LabelError, match=message) as caught:
            read_labels(path)
        assert str(caught.value).startswith(f"{path}: ")
        with pytest.raises(LabelError, match=message):
            write_labels(tmp_path / "b.npy", values) if values.dtype.kind != "f" else read_labels(path)

    def test_no_pickles(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[{}]], object), allow_pickle=True)
        with pytest.raises(LabelError, match="ids must be whole numbers, not object"):
            read_labels(tmp_path / "a.npy")

    def test_names(self, tmp_path):
        with pytest.raises(UnknownName, match=r"'\.pgn'; did you mean '\.png'"):
            read_labels(tmp_path / "a.pgn")
        with pytest.raises(UnknownName, match="unknown label format 'tif'; did you mean 'tiff'"):
            write_labels(tmp_path / "a", np.zeros((1, 1), int), format="tif")
        with pytest.raises(FormatError, match=r"a\.png: No such file"):
            read_labels(tmp_path / "a.png")

    @pytest.mark.parametrize("size", [(2, 3, 3), (2,), 6, "23", (2.0, 3.0), (2, None)])
    def test_what_is_no_size(self, tmp_path, size):
        path = self.saved(tmp_path, np.zeros((2, 3), int))
        with pytest.raises(ParameterError, match="size must be two whole numbers"):
            read_labels(path, size=size)

    @pytest.mark.parametrize("size", [[2, 3], np.array([2, 3])])
    def test_a_size_and_a_limit_of_another_kind(self, tmp_path, size):
        path = self.saved(tmp_path, np.zeros((2, 3), int))
        assert read_labels(path, size=size, max_pixels=None).shape == (2, 3)
        with pytest.raises(SizeError, match="the map is 2 x 3, expected 3 x 2"):
            read_labels(path, size=size[::-1])

    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    @pytest.mark.parametrize("colour", [0, 3])
    def test_png_numbers_as_stored(self, tmp_path, depth, colour):
        """Grey of any depth and palette indices (VOC, CamVid) are ids."""
        if (depth, colour) == (16, 3):
            pytest.skip("PNG has no 16-bit palettes")
        ids = np.arange(2**depth)[None, -200:] if depth > 4 else np.arange(2**depth)[None]
        palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
        (tmp_path / "a.png").write_bytes(png(ids, depth, colour, extra=palette))
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)

    @pytest.mark.parametrize("depth", [8, 16])
    @pytest.mark.parametrize("colour", [2, 4, 6])
    def test_colour_whose_channels_agree_is_grey(self, tmp_path, depth, colour):
        full, ids = 2**depth - 1, np.array([[0, 1, 77], [2**depth - 1, 77, 0]])
        channels = {2: [ids] * 3, 4: [ids, np.full_like(ids, full)], 6: [ids] * 3 + [np.full_like(ids, full)]}[colour]
        path = tmp_path / "a.png"
        path.write_bytes(png(np.stack(channels, -1).reshape(2, -1), depth, colour))
        np.testing.assert_array_equal(read_labels(path), ids)
        np.testing.assert_array_equal(read_labels(path, colours=True), ids)
        if colour in (2, 6):
            for kept in range(3):
                alone = [band * (i in (kept, 3)) for i, band in enumerate(channels)]
                path.write_bytes(png(np.stack(alone, -1).reshape(2, -1), depth, colour))
                np.testing.assert_array_equal(read_labels(path), ids)
        if colour != 2:
            channels[-1] = channels[-1] - (ids == 1)
            path.write_bytes(png(np.stack(channels, -1).reshape(2, -1), depth, colour))
            with pytest.raises(FormatError, match="some pixels are transparent"):
                read_labels(path)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_other_colours_are_ids_only_where_that_is_said(self, tmp_path, depth):
        path = tmp_path / "a.png"
        path.write_bytes(png(np.array([[0, 0, 0, 1, 2, 3]]), depth, 2))
        with pytest.raises(FormatError, match=r"a\.png: its 3 bands differ; a label map has one number per pixel"):
            read_labels(path)
        if depth == 8:
            np.testing.assert_array_equal(read_labels(path, colours=True), [[0, 65536 + 512 + 3]])
        else:
            with pytest.raises(FormatError, match="3 bands differ"):
                read_labels(path, colours=True)

    @pytest.mark.parametrize("kind", ["BMP", "GIF", "PGM", "TIFF"])
    def test_other_pictures_of_ids(self, tmp_path, kind):
        path = tmp_path / f"a.{kind.lower()}"
        ids = np.array([[0, 9, 200], [14, 14, 255]], np.uint8)
        pillow.fromarray(ids).save(path, **({"optimize": False} if kind == "GIF" else {}))
        np.testing.assert_array_equal(read_labels(path), ids)

    @pytest.mark.parametrize("top", [9, 255, 300, 65535])
    def test_pgm_numbers_as_stored(self, tmp_path, top):
        ids = np.arange(top + 1)[None, -200:]
        (tmp_path / "a.pgm").write_bytes(
            b"P5 %d 1 %d\n" % (ids.size, top) + ids.astype(np.uint8 if top < 256 else ">u2").tobytes()
        )
        np.testing.assert_array_equal(read_labels(tmp_path / "a.pgm"), ids)

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
    def test_lossy_pictures_hold_no_ids(self, tmp_path, kind):
        (tmp_path / "a.png").write_bytes(encoded(PHOTO, kind))
        with pytest.raises(FormatError, match="does not keep numbers as they are"):
            read_labels(tmp_path / "a.png")

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
    def test_the_size_is_looked_at_before_pixels_are_decoded(self, tmp_path, suffix, monkeypatch):
        path = tmp_path / f"a{suffix}"
        pillow.fromarray(np.zeros((20, 30), np.uint8)).save(path)
        monkeypatch.setattr(np, "asarray", None)
        monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
        with pytest.raises(FormatError, match="30 x 20 = 600 pixels, more than the limit of 599"):
            read_labels(path, max_pixels=599)
        with pytest.raises(SizeError, match="the map is 20 x 30, expected 30 x 20"):
            read_labels(path, size=(30, 20))

    def test_tiff_of_other_tools(self, tmp_path):
        labels = RNG.integers(0, 256, (9, 7)).astype(np.uint8)
        pillow.fromarray(labels).save(tmp_path / "a.tif", compression="tiff_lzw")
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
        pillow.fromarray(labels.astype(np.uint16)).save(tmp_path / "a.tif", compression="tiff_lzw")
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
        tifffile.imwrite(tmp_path / "a.tif", PHOTO)
        with pytest.raises(FormatError, match="3 bands"):
            read_labels(tmp_path / "a.tif")
        tifffile.imwrite(tmp_path / "a.tif", np.repeat(labels[..., None], 3, 2))
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)

    def test_which_array(self, tmp_path):
        labels = np.array([[0, 1]])
        np.savez(tmp_path / "a.npz", seg=labels)
        np.testing.assert_array_equal(read_labels(tmp_path / "a.npz"), labels)
        savemat(tmp_path / "a.mat", {"L": labels, "note": "text"})
        np.savez(tmp_path / "a.npz", a=labels, b=labels)
        with pytest.raises(FormatError, match="'labels' or one array only, found a, b"):
            read_labels(tmp_path / "a.npz")
        np.testing.assert_array_equal(read_labels(tmp_path / "a.mat"), labels)
        savemat(tmp_path / "a.mat", {"a": labels, "b": labels, "c": "text", "d": {"e": 1}})
        with pytest.raises(FormatError, match=r"found a \(1 x 2\), b \(1 x 2\), c \(1 x 4 text\), d \(1 x 1 struct\)"):
            read_labels(tmp_path / "a.mat")

    def test_what_may_stand_beside_a_matrix(self, tmp_path):
        """[L, N] = superpixels(...), and an image."""
        labels, path = RNG.integers(1, 9, (4, 6)), tmp_path / "a.mat"
        savemat(path, {"L": labels.astype(float), "N": 8.0})
        np.testing.assert_array_equal(read_labels(path), labels)
        savemat(path, {"L": labels, "centres": np.zeros((8, 2))})
        np.testing.assert_array_equal(read_labels(path, size=(4, 6)), labels)
        with pytest.raises(FormatError, match=r"found L \(4 x 6\), centres \(8 x 2\)"):
            read_labels(path)
        savemat(path, {"labels": labels, "other": labels})
        np.testing.assert_array_equal(read_labels(path), labels)
        savemat(path, {"L": 5})
        np.testing.assert_array_equal(read_labels(path), [[5]])

    @pytest.mark.parametrize("count", [1, 2])
    def test_an_annotation_of_the_bsds(self, tmp_path, count):
        cells = np.empty((1, count), object)
        for i in range(count):
            cells[0, i] = {"Boundaries": np.zeros((3, 4), bool), "Segmentation": np.full((3, 4), i + 1, np.uint16)}
        savemat(tmp_path / "a.mat", {"groundTruth": cells})
        assert count_ground_truth(tmp_path / "a.mat") == count
        truths = read_ground_truth(tmp_path / "a.mat", size=(3, 4))
        assert [truth.max() for truth in truths] == [*range(1, count + 1)]
        if count == 1:
            assert (read_labels(tmp_path / "a.mat") == 1).all()
        else:
            with pytest.raises(FormatError, match="groundTruth holds 2 annotations; a label map is one"):
                read_labels(tmp_path / "a.mat")
        with pytest.raises(SizeError, match=r"a\.mat: the map is 3 x 4, expected 4 x 3"):
            read_ground_truth(tmp_path / "a.mat", size=(4, 3))

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        values=hnp.arrays(
            st.sampled_from(
                [np.dtype(order + kind) for order in "<>" for kind in ("f8", "f4", "i4", "i2", "u2", "u1", "i8", "u8")]
            ),
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
            elements=st.integers(0, 127),
        ),
        version=st.sampled_from(["4", "5"]),
        compressed=st.booleans(),
    )
    def test_matrices_as_scipy_writes_them(self, tmp_path, values, version, compressed):
        if version == "4" and values.dtype.kind + str(values.dtype.itemsize) in ("i8", "u8"):
            values = values.astype(np.uint8)
        savemat(
            tmp_path / "a.mat",
            {"labels": values, "b": 2.5},
            format=version,
            do_compression=compressed and version == "5",
        )
        np.testing.assert_array_equal(read_labels(tmp_path / "a.mat"), values)

    def test_a_matrix_of_a_big_endian_machine(self, tmp_path):
        """By the book: a header, then one element of three and the numbers, of which none is small."""

        def element(kind, content):
            return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

        body = element(6, struct.pack(">II", 11, 0)) + element(5, struct.pack(">ii", 2, 3)) + element(1, b"labels")
        body += element(4, np.arange(6, dtype=">u2").tobytes())
        (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\1\0MI" + element(14, body))
        np.testing.assert_array_equal(read_labels(tmp_path / "a.mat"), [[0, 2, 4], [1, 3, 5]])

    def test_newest_matlab(self, tmp_path):
        header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
        (tmp_path / "a.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n")
        with pytest.raises(FormatError, match=r"MATLAB 7\.3 file; save it with -v7"):
            read_labels(tmp_path / "a.mat")

    def test_metadata_is_kept(self, tmp_path):
        write_labels(tmp_path / "a.npz", np.zeros((1, 1), int), metadata={"method": "slic", "k": 1})
        with np.load(tmp_path / "a.npz") as archive:
            assert json.loads(str(archive["metadata"])) == {"method": "slic", "k": 1}

    @pytest.mark.parametrize("suffix", [".npz", ".png", ".svg"])
    @pytest.mark.parametrize(
        ("metadata", "told"),
        [
            ({"a": 1, "k": np.int64(3)}, "metadata 'k' cannot be JSON: .* int64"),
            ({"made": {"from": [Path("a")]}}, "metadata 'made' cannot be JSON: .*Path"),
            ({(1, 2): 3}, r"metadata \(1, 2\) cannot be JSON: keys"),
            ([1], "metadata must be a mapping of names to values, not a list"),
        ],
    )
    def test_metadata_that_json_cannot_hold(self, tmp_path, suffix, metadata, told):
        path = tmp_path / f"a{suffix}"
        with pytest.raises(ParameterError, match=told) as caught:
            write_labels(path, np.zeros((1, 1), int), metadata=metadata)
        assert str(caught.value).startswith(f"{path}: ")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "format"),
        [("o.npz", "png"), ("o.PNG", "npz"), ("o.tif", "png"), ("o.json", "svg"), ("o.bmp", "npy"), ("o.png", "tiff")],
    )
    def test_a_name_of_another_format(self, tmp_path, name, format):
        with pytest.raises(ParameterError, match=rf"{name} does not name a {format} file; end it in \.{format}"):
            write_labels(tmp_path / name, np.zeros((1, 1), int), format=format)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "format"),
        [("o", "png"), ("o.part", "npz"), ("o.TIF", "tiff"), ("o.tiff", "tiff"), ("o.json", "geojson")],
    )
    def test_a_name_that_goes_with_a_format(self, tmp_path, name, format):
        write_labels(tmp_path / name, np.eye(2, dtype=int), format=format)
        (tmp_path / name).rename(tmp_path / f"a.{format}")
        np.testing.assert_array_equal(read_labels(tmp_path / f"a.{format}"), np.eye(2))

    @pytest.mark.skipif(os.name == "nt", reason="no pipes with names")
    def test_a_pipe_of_any_name(self, tmp_path):
        """Nobody reads a pipe by its suffix."""
        os.mkfifo(tmp_path / "o.npz")
        reader = os.open(tmp_path / "o.npz", os.O_RDONLY | os.O_NONBLOCK)
        write_labels(tmp_path / "o.npz", np.zeros((1, 1), int), format="png")
        assert os.read(reader, 4) == b"\x89PNG"
        os.close(reader)

    def test_csv_of_the_benchmark(self, tmp_path):
        write_labels(tmp_path / "a.csv", np.array([[0, 1, 1], [2, 2, 10]]))
        assert (tmp_path / "a.csv").read_text() == "0,1,1\n2,2,10\n"
