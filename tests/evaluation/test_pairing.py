"""Which label map is which image's."""

from pathlib import Path

import numpy as np
import pytest

from annotated import evaluate, grid
from spx_cli.datasets import Entry
from spx_cli.errors import DataError
from spx_cli.evaluation.sources import LabelFolder


class Images:
    """A data set as far as pairing goes: where its images lie below /data."""

    root = Path("/data")

    def __init__(self, *images):
        self.entries = tuple(Entry(name.removeprefix("images/"), self.root / f"{name}.png") for name in images)


def paired(tmp_path, images, *maps):
    """The map of each image, by name, among maps of these names."""
    for name in maps:
        path = tmp_path / f"maps/{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, grid(2, 2))
    source = LabelFolder(tmp_path / "maps").on(images)
    found = {count: [source.find(entry, count).file for entry in images.entries] for count in source.counts}
    return {
        count: [file and file.relative_to(tmp_path / "maps").as_posix().removesuffix(".npy") for file in files]
        for count, files in found.items()
    }


@pytest.mark.parametrize(
    "place",
    [
        "images/train/scene/x",
        "train/scene/x",
        "scene/x",
        "x",
        "x.labels",
        "x_img",
        "map_csv/x",
        "data/images/train/scene/x",
    ],
)
def test_maps_are_found_in_the_images_tree_or_flat(tmp_path, place):
    images = Images("images/train/scene/x")
    assert paired(tmp_path, images, place, "another", "7th/y") == {None: [place]}
    assert paired(tmp_path / "b", images, f"7/{place}", "7/another") == {7: [f"7/{place}"]}


@pytest.mark.parametrize("place", ["other/x", "train/other/x", "xx", "x_0", "images/x"])
def test_a_map_from_elsewhere_is_not_taken(tmp_path, place):
    with pytest.raises(DataError, match=r"no label map in .*maps is named as an image of /data: no label map for .*x"):
        paired(tmp_path, Images("images/train/scene/x"), place)


def test_the_map_of_a_missing_image_is_not_scored_in_its_place(tmp_path):
    images = Images("images/aachen/0001", "images/bonn/0001", "images/bonn/0002")
    assert paired(tmp_path, images, "aachen/0001", "bonn/0002") == {None: ["aachen/0001", None, "bonn/0002"]}
    assert paired(tmp_path / "flat", images, "0001", "0002") == {None: [None, None, "0002"]}
    lacking = LabelFolder(tmp_path / "flat/maps").on(images).find(images.entries[1], None).lacking
    assert lacking.startswith("no label map for bonn/0001: ")
    assert lacking.endswith("maps/0001.npy could belong to 2 images; name it bonn/0001")


def test_names_that_differ_by_what_tools_add(tmp_path):
    assert paired(tmp_path, Images("a/1_img", "b/1"), "a/1", "b/1_label") == {None: ["a/1", "b/1_label"]}
    assert paired(tmp_path / "b", Images("1_img", "1", "2"), "1_label", "2") == {None: [None, None, "2"]}
    assert paired(tmp_path / "c", Images("1_img", "1"), "1") == {None: [None, "1"]}


def test_folders_of_images_are_no_counts(tmp_path):
    images = Images("images/001/a", "images/2/a")
    assert paired(tmp_path, images, "001/a", "2/a") == {None: ["001/a", "2/a"]}
    assert paired(tmp_path / "b", images, "k5/001/a", "k5/2/a", "7/2/a") == {
        5: ["k5/001/a", "k5/2/a"],
        7: [None, "7/2/a"],
    }
    with pytest.raises(DataError):  # of which folder of images?
        paired(tmp_path / "c", Images("images/3/a"), "1/a", "2/a")
    with pytest.raises(DataError):
        paired(tmp_path / "d", Images("images/003/a"), "001/a", "002/a")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *(("100", 100), ("k200", 200), ("k-300", 300), ("n_400", 400), ("SPixelNet_nSpixel_54", 54), ("slic_K5", 5)),
        *(("val", None), ("001", None), ("scene_1", None), ("v2", None)),
    ],
)
def test_folders_that_are_numbers_are_counts(tmp_path, name, count):
    (tmp_path / "maps" / name).mkdir(parents=True)
    np.save(tmp_path / "maps" / name / "a.npy", grid(2, 2))
    assert LabelFolder(tmp_path / "maps").counts == (count,)


def test_what_lies_beside_folders_of_counts_is_passed_over(data, maps, tmp_path):
    (tmp_path / "tool/results.csv").write_text("no,map\n")
    document = evaluate(data, [LabelFolder(tmp_path / "tool")])
    assert document.failures == []
    assert {row["k_requested"] for row in document.summary} == {4, 16}


def test_a_folder_without_maps_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        LabelFolder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no label maps in .*: looked for files ending in .*\.npy"):
        LabelFolder(tmp_path)
