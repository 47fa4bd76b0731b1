"""Contour maps in files: what is written is read, what other tools write is read, everything else is refused."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from spx_cli.contours.folder import ContourFolder
from spx_cli.datasets import Entry
from spx_cli.errors import DataError, FormatError, LabelError, ParameterError, SpxError, UnknownName
from spx_cli.io import CONTOUR_FORMATS, read_contours, write_contours

SOFT = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)


@pytest.mark.parametrize(("form", "step"), [("png", 255), ("png16", 65535), ("npy", 0)])
def test_what_is_written_is_read(tmp_path, form, step):
    path = tmp_path / f"soft{CONTOUR_FORMATS[form].suffix}"
    write_contours(path, SOFT, format=form)
    back = read_contours(path, size=SOFT.shape)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, SOFT, atol=0.5001 / step if step else 0)


def test_arrays_of_other_tools(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 255]], np.uint8))
    np.save(tmp_path / "b.npy", np.array([[False, True]]))
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "c.tif")
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "d.png")
    for name in ("a.npy", "b.npy", "c.tif", "d.png"):
        np.testing.assert_array_equal(read_contours(tmp_path / name), [[0, 1]])


def test_an_ultrametric_map_is_read_at_the_size_of_the_image(tmp_path):
    double = np.zeros((11, 15))
    double[2::2, 2::2] = SOFT
    savemat(tmp_path / "x.mat", {"ucm2": double})
    np.testing.assert_array_equal(read_contours(tmp_path / "x.mat", size=(5, 7)), SOFT)
    assert read_contours(tmp_path / "x.mat").shape == (11, 15)


def test_what_is_no_size(tmp_path):
    write_contours(tmp_path / "a.png", np.zeros((2, 3)))
    for size in ((2, 3, 3), 6, (2.0, 3.0)):
        with pytest.raises(ParameterError, match="size must be two whole numbers"):
            read_contours(tmp_path / "a.png", size=size)


def test_refused(tmp_path):
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "rgb.png")
    (tmp_path / "empty.png").touch()
    for name, array in {
        "int": np.zeros((5, 7), np.int32),
        "high": np.full((5, 7), 1.5),
        "nan": np.full((5, 7), np.nan),
        "deep": np.zeros((5, 7, 2)),
        "good": SOFT,
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
    for name in ("rgb.png", "empty.png", "int.npy", "high.npy", "nan.npy", "deep.npy"):
        with pytest.raises(FormatError, match=name):
            read_contours(tmp_path / name)
    with pytest.raises(LabelError, match="5 x 7, expected 7 x 5"):
        read_contours(tmp_path / "good.npy", size=(7, 5))
    with pytest.raises(UnknownName):
        read_contours(tmp_path / "soft.jpg")
    with pytest.raises(FormatError, match="0 to 1"):
        write_contours(tmp_path / "out.png", SOFT * 2)
    with pytest.raises(SpxError, match="nowhere"):
        write_contours(tmp_path / "nowhere" / "out.png", SOFT)


def test_a_folder_of_maps(tmp_path):
    for name in ("maps/test/a.png", "maps/test/b.contours.png", "maps/test/b.overlay.png", "maps/test/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_contours(tmp_path / name, SOFT)
    write_contours(tmp_path / "maps/test/c.npy", SOFT, format="npy")
    folder = ContourFolder(tmp_path / "maps")
    assert folder.name == "maps"
    entries = {name: Entry(name, tmp_path / f"photos/test/{name}.jpg") for name in "abcd"}
    assert folder.find(entries["a"]) == tmp_path / "maps/test/a.png"
    assert folder.find(entries["b"]) == tmp_path / "maps/test/b.contours.png"
    with pytest.raises(DataError, match="2 contour maps for c"):
        folder.find(entries["c"])
    with pytest.raises(DataError, match="no contour map for d: it would be named d"):
        folder.find(entries["d"])
    with pytest.raises(DataError, match="is named as an image"):
        ContourFolder(tmp_path / "maps", [entries["d"]])
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no contour maps in"):
        ContourFolder(tmp_path / "none")
    with pytest.raises(DataError, match="no such folder"):
        ContourFolder(tmp_path / "gone")
