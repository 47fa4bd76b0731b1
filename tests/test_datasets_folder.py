"""Your own folder of images and annotations."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from layouts import SIZE, halves, ids, picture, write_mat
from spx_cli.datasets import open_dataset
from spx_cli.datasets.companions import list_files
from spx_cli.errors import DataError, FormatError, ImageError, LabelError
from spx_cli.io import write_labels
from spx_cli.io.remarks import Remarks
from spx_cli.options import ReadOptions


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".npy", ".npz", ".mat", ".csv", ".geojson", ".svg"])
def test_folder_reads_every_label_format(tmp_path, suffix):
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    write_labels(tmp_path / f"labels/a{suffix}", halves())
    assert np.array_equal(open_dataset("folder", tmp_path)[0].truths[0], halves())


def test_folder_keeps_subfolders_apart(tmp_path):
    for part in ("train", "val"):
        picture(tmp_path / f"images/{part}/a.png")
        ids(tmp_path / f"labels/{part}/a.png", halves())
    assert [e.id for e in open_dataset("folder", tmp_path).entries] == ["train/a", "val/a"]
    assert [e.id for e in open_dataset("folder", tmp_path, "val").entries] == ["a"]
    with pytest.raises(DataError, match="looked for images/test/<images>"):
        open_dataset("folder", tmp_path, "test")


def test_folder_of_split_folders(tmp_path):
    picture(tmp_path / "train/images/a.png")
    ids(tmp_path / "train/labels/a.png", halves())
    assert len(open_dataset("folder", tmp_path, "train")) == 1


def test_one_folder_for_images_and_maps(tmp_path):
    for name in ("a.jpg", "b.png", "c.jpg"):
        picture(tmp_path / name)
    ids(tmp_path / "a.png", halves(0, 5))
    ids(tmp_path / "b.labels.png", halves(0, 6))
    np.save(tmp_path / "c.npy", halves(0, 7))
    (tmp_path / "results.csv").write_text("not,a,map\n")
    dataset = open_dataset("folder", tmp_path)
    assert [sample.truths[0].max() for sample in dataset] == [5, 6, 7]
    assert dataset.unpaired == ()


def test_folder_takes_several_annotations(tmp_path):
    for name in ("a", "b", "c-1"):
        picture(tmp_path / f"images/{name}.png")
    for i, name in enumerate(["a-0", "a-1", "a-10", "a-2", "b/second", "b/first", "c-1"]):
        ids(tmp_path / f"labels/{name}.png", halves(0, i + 1))
    a, b, c = open_dataset("folder", tmp_path)
    assert [truth.max() for truth in a.truths] == [1, 2, 4, 3]
    assert [truth.max() for truth in b.truths] == [6, 5]
    assert [truth.max() for truth in c.truths] == [7]


def test_folder_of_images_alone(tmp_path):
    for name in ("b.jpg", "a.png", ".hidden.png"):
        picture(tmp_path / name)
    dataset = open_dataset("folder", tmp_path)
    assert [entry.id for entry in dataset.entries] == ["a", "b"]
    assert dataset.annotation is None
    assert dataset[0].truths == ()


def test_folder_with_a_missing_map_says_so(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"images/{name}.png")
    ids(tmp_path / "labels/a.png", halves())
    dataset = open_dataset("folder", tmp_path)
    assert [e.id for e in dataset.entries] == ["a"]
    assert "b.png: no annotation of that name" in dataset.unpaired[0]


def test_a_folder_map_with_float_ids_is_named(tmp_path):
    picture(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    np.save(tmp_path / "labels/a.npy", halves() + 0.5)
    with pytest.raises((LabelError, FormatError), match=r"a\.npy"):
        open_dataset("folder", tmp_path)[0]


def test_a_pair_that_is_not_clear_is_named_and_left_out(tmp_path):
    for name in ("a.png", "a.jpg", "b.png", "c.png"):
        picture(tmp_path / f"images/{name}")
    for name in ("a.png", "b.png", "c.png"):
        ids(tmp_path / f"labels/{name}", halves())
    np.save(tmp_path / "labels/b.npy", halves())
    dataset = open_dataset("folder", tmp_path)
    assert [entry.id for entry in dataset.entries] == ["c"]
    assert len(dataset.unpaired) == 2
    assert any("a.jpg and" in line and "are both called a" in line for line in dataset.unpaired)
    assert any(line.endswith("labels/b.png: which is the map of b?") for line in dataset.unpaired)


def test_a_series_of_images_is_no_series_of_annotations(tmp_path):
    for name in ("run", "run-1", "run-2", "day/1"):
        picture(tmp_path / f"images/{name}.png")
    for name in ("run", "run-1", "run-3", "day/1", "day/2"):
        ids(tmp_path / f"labels/{name}.png", halves())
    picture(tmp_path / "images/day.png")
    dataset = open_dataset("folder", tmp_path)
    assert [(entry.id, len(entry.truths)) for entry in dataset.entries] == [("day/1", 1), ("run", 1), ("run-1", 1)]
    for name in ("run-3.png: no image", "day/2.png: no image", "run-2.png: no annotation", "day.png: no annotation"):
        assert any(name in line for line in dataset.unpaired), name


def test_equal_names_in_two_splits_are_not_mixed_up(tmp_path):
    for part in ("train", "val"):
        picture(tmp_path / f"images/{part}/1.jpg")
        write_mat(tmp_path / f"groundTruth/{part}/1.mat", halves(1, 2))
    dataset = open_dataset("bsds500", tmp_path)
    assert dataset.entries == ()
    assert "images/val/1.jpg are both called 1" in dataset.unpaired[0]
    assert len(open_dataset("bsds500", tmp_path, "train")) == 1


def test_names_that_scripts_of_others_give(tmp_path):
    for name in ("1_img.jpg", "2_img.png", "3.jpg", "alone_label.png"):
        picture(tmp_path / name)
    for name in ("1_label.png", "2_labels.png", "3_label.png"):
        ids(tmp_path / name, halves(0, 5))
    dataset = open_dataset("folder", tmp_path)
    assert [entry.id for entry in dataset.entries] == ["1_img", "2_img", "3"]
    assert dataset.unpaired == (f"{tmp_path}/alone_label.png: no annotation of that name",)
    for name in ("images", "labels"):
        (tmp_path / f"b/{name}").mkdir(parents=True)
    (tmp_path / "1_img.jpg").rename(tmp_path / "b/images/1_img.jpg")
    (tmp_path / "1_label.png").rename(tmp_path / "b/labels/1.png")
    assert len(open_dataset("folder", tmp_path / "b")) == 1


def test_linked_folders_are_followed(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"store/images/{name}.png")
        ids(tmp_path / f"store/labels/{name}.png", halves())
    for part in ("images", "labels"):
        (tmp_path / f"data/{part}").mkdir(parents=True)
        (tmp_path / f"data/{part}/scene").symlink_to(tmp_path / "store" / part)
    picture(tmp_path / "data/images/c.png")
    ids(tmp_path / "data/labels/c.png", halves())
    (tmp_path / "data/images/loop").symlink_to(tmp_path / "data/images")
    dataset = open_dataset("folder", tmp_path / "data")
    assert [entry.id for entry in dataset.entries] == ["c", "scene/a", "scene/b"]
    assert dataset.unpaired == ()
    assert [path.name for path in list_files(tmp_path / "data/labels")] == ["c.png", "a.png", "b.png"]


def test_what_is_passed_over_is_told(tmp_path, caplog):
    caplog.set_level("WARNING", "spx_cli")
    picture(tmp_path / "images/a.png")
    for name in ("b.heic", "c.HEIC", "notes"):
        (tmp_path / "images" / name).touch()
    ids(tmp_path / "labels/a.png", halves())
    (tmp_path / "labels/b.jpg").touch()
    open_dataset("folder", tmp_path)
    first, second = caplog.messages
    assert first.startswith("passed over what is no picture by its name, such as ")
    assert first.endswith(": 2 .heic, 1 without suffix")
    assert second.endswith("labels/b.jpg: 1 .jpg")


def test_label_maps_of_a_kind_that_holds_none_are_told(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "labels/a.jpg")
    with pytest.raises(DataError, match=r"no label map in .*labels, but 1 \.jpg; label maps end in \.bmp, \.csv"):
        open_dataset("folder", tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_turned_by_exif_need_annotations_turned_alike(tmp_path, caplog, orientation):
    caplog.set_level("WARNING", "spx_cli")
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "images/a.jpg", exif=exif)
    ids(tmp_path / "labels/a.png", halves())
    dataset = open_dataset("folder", tmp_path)
    if orientation >= 5:
        with pytest.raises(
            LabelError, match=r"24 x 32, expected 32 x 24; .*a\.jpg is turned by 90 degrees by its EXIF"
        ):
            dataset[0]
        ids(tmp_path / "labels/a.png", halves(size=SIZE[::-1]))
    remarks = Remarks()
    sample = dataset[0]
    remarks.add("a.jpg", sample.traits)
    # a size that fits tells of 90 degrees; what it does not tell is told
    assert sample.image.shape[:2] == (SIZE[::-1] if orientation >= 5 else SIZE)
    assert ("by its EXIF tag; its annotations must be of the picture upright" in caplog.text) == (1 < orientation < 5)


def test_a_range_for_the_images_of_a_data_set(tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full(SIZE, 12, np.uint16)).save(tmp_path / "images/a.png")
    ids(tmp_path / "labels/a.png", halves())
    dataset = open_dataset("folder", tmp_path, None, ReadOptions(value_range=(0, 24)))
    assert (dataset[0].image == 128).all()
    assert (pickle.loads(pickle.dumps(dataset.reader())).load(dataset.entries[0]).image == 128).all()
    with pytest.raises(ImageError, match="more than the limit of 700"):
        open_dataset("folder", tmp_path, None, ReadOptions(max_pixels=700))[0]


def test_a_mat_in_the_layout_of_the_bsds_is_truth_in_a_folder(tmp_path):
    picture(tmp_path / "images/a.png")
    write_mat(tmp_path / "labels/a.mat", halves(1, 2), halves(3, 1))
    picture(tmp_path / "images/b.png")
    savemat(tmp_path / "labels/b.mat", {"L": halves(4, 5), "N": 2})
    dataset = open_dataset("folder", tmp_path)
    a, b = dataset
    assert [truth.max() for truth in (*a.truths, *b.truths)] == [2, 3, 5]
    assert [dataset.annotations(entry) for entry in dataset.entries] == [2, 1]


def test_damaged_lists_of_splits_are_named(tmp_path):
    picture(tmp_path / "JPEGImages/1.jpg")
    ids(tmp_path / "SegmentationClass/1.png", halves())
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(FormatError, match=r"val\.txt: not a list of names"):
        open_dataset("voc", tmp_path, "val")
    picture(tmp_path / "nyu/images/1.png")
    ids(tmp_path / "nyu/labels/1.png", halves())
    savemat(tmp_path / "nyu/splits.mat", {"other": [[2]]})
    with pytest.raises(FormatError, match=r"splits\.mat: holds no numbers named testNdxs"):
        open_dataset("nyuv2", tmp_path / "nyu", "test")


def test_hidden_files_are_no_images(tmp_path):
    for name in ("a", "._a"):
        picture(tmp_path / f"images/{name}.jpg")
    ids(tmp_path / "ground_truth_mask/a.png", halves())
    dataset = open_dataset("ecssd", tmp_path)
    assert [entry.id for entry in dataset.entries] == ["a"]
    assert dataset.unpaired == ()


@pytest.mark.parametrize("layout", ["folder", "ecssd"])
def test_a_folder_that_cannot_be_entered_is_named(tmp_path, monkeypatch, layout):
    picture(tmp_path / "images/a.jpg")
    for truths in ("labels", "ground_truth_mask"):
        ids(tmp_path / truths / "a.png", halves())
    for list_folder in ("scandir", "listdir"):
        real = getattr(os, list_folder)

        def refuse(path, real=real):
            if Path(path).name == "images":
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(os, list_folder, refuse)
    with pytest.raises(DataError, match="images: Permission denied"):
        open_dataset(layout, tmp_path)
