"""Data sets in their official layouts, real and made up."""

import hashlib
import json
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from layouts import SIZE, halves, ids, picture, write_flow, write_mat
from spx_cli.datasets import DATASETS, open_dataset
from spx_cli.errors import DataError, FormatError, ImageError, LabelError, NothingToDo, UnknownName
from spx_cli.io import read_ground_truth
from spx_cli.registry import lookup


@pytest.mark.parametrize(
    ("layout", "folder", "count", "first", "size", "annotations"),
    [
        ("bsds500", "BSDS500", 500, "100007", (321, 481), 5),
        ("camvid", "CamVid", 21, "0016E5_07959", (360, 480), 1),
        ("cityscapes", "Cityscapes", 2, "aachen/aachen_000000_000019", (1024, 2048), 1),
        ("cityscapes-instances", "Cityscapes", 2, "aachen/aachen_000000_000019", (1024, 2048), 1),
        ("drive", "DRIVE", 4, "21", (584, 565), 1),
        ("duke-dme", "DukeDME", 7, "img_000", (496, 768), 1),
        ("ecssd", "ECSSD", 100, "0001", (400, 267), 1),
        ("folder", "ECSSD/images", 100, "0001", (400, 267), 0),
        ("folder", "DukeDME", 7, "img_000", (496, 768), 1),
        ("middlebury", "Middlebury", 2, "Grove2", (480, 640), 0),
        ("nyuv2", "NYUv2", 3, "0001", (448, 608), 1),
        ("sintel", "Sintel", 1, "frame_0001", (436, 1024), 0),
        ("voc", "VOC2012", 10, "2007_000032", (281, 500), 1),
    ],
)
def test_official_layouts(shared, layout, folder, count, first, size, annotations):
    dataset = open_dataset(layout, shared / "data" / folder)
    assert len(dataset) == count
    assert dataset.unpaired == ()
    sample = pickle.loads(pickle.dumps(dataset))[0]
    assert sample.id == first
    assert sample.image.shape == (*size, 3)
    assert sample.image.dtype == np.uint8
    assert len(sample.truths) == annotations
    for truth in sample.truths:
        assert truth.shape == size
        assert truth.dtype == np.int32
        assert truth.min() >= 0
    assert sample.ignore_label == (255 if layout == "voc" else None)
    if dataset.annotation == "flow":
        assert sample.flow.shape == (*size, 2)
        assert sample.valid.shape == size
        assert sample.valid.any()
        assert np.abs(sample.flow).max() < 100


def test_bsds_splits_are_complete_and_disjoint(shared):
    splits = {name: open_dataset("BSDS500", shared / "data/BSDS500", name) for name in ("train", "val", "test")}
    assert {name: len(split) for name, split in splits.items()} == {"train": 200, "val": 100, "test": 200}
    assert len({entry.id for split in splits.values() for entry in split.entries}) == 500


@pytest.mark.slow
def test_bsds_test_has_1063_annotations(shared):
    test = open_dataset("bsds500", shared / "data/BSDS500", "test")
    assert sum(len(read_ground_truth(entry.truths[0])) for entry in test.entries) == 1063


@pytest.mark.parity
def test_bsds_annotations_are_those_of_the_reference_in_file_order(shared):
    files = {entry.id: entry.truths[0] for entry in open_dataset("bsds500", shared / "data/BSDS500", "test").entries}
    items = json.loads((shared / "reference/metrics/bsds_items.json").read_text())["items"]
    for name, item in items.items():
        truths = read_ground_truth(files[name])
        found = [hashlib.sha256(truth.astype(np.uint16).tobytes()).hexdigest() for truth in truths]
        assert found == item["gt_sha256_uint16_rowmajor"]


def test_cityscapes_instances_tell_more_apart_than_classes(shared):
    classes, objects = (
        open_dataset(layout, shared / "data/Cityscapes")[0].truths[0]
        for layout in ("cityscapes", "cityscapes-instances")
    )
    assert len(np.unique(objects)) > len(np.unique(classes))
    assert np.array_equal(np.where(objects >= 1000, objects // 1000, objects), classes)


def test_nyu_is_cropped_in_the_middle(shared):
    root = shared / "data/NYUv2"
    sample = open_dataset("nyuv2", root)[0]
    whole = np.asarray(Image.open(root / "images/0001.png"))
    assert np.array_equal(sample.image, whole[16:464, 16:624])
    assert np.array_equal(sample.truths[0], np.asarray(Image.open(root / "labels/0001.png"))[16:464, 16:624])


# What every layout shares, on made-up files


@pytest.mark.parametrize("layout", DATASETS)
def test_a_wrong_folder_says_what_was_looked_for_and_found(layout, tmp_path):
    (tmp_path / "stray.txt").touch()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DataError, match=r"looked for .*; the folder holds elsewhere/, stray\.txt") as caught:
        open_dataset(layout, tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(layout, tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a folder"):
        open_dataset(layout, tmp_path / "stray.txt")
    with pytest.raises(NothingToDo, match="is empty: looked for"):
        open_dataset(layout, tmp_path / "elsewhere")


def test_names_of_layouts_and_splits_are_checked(tmp_path):
    with pytest.raises(UnknownName, match="unknown layout 'bsds50'; did you mean 'bsds500'"):
        open_dataset("bsds50", tmp_path)
    with pytest.raises(UnknownName, match="unknown split of BSDS500 'tets'; did you mean 'test'"):
        open_dataset("bsds500", tmp_path, "tets")
    with pytest.raises(UnknownName, match="unknown split of ECSSD 'test'; known: no splits"):
        open_dataset("ecssd", tmp_path, "test")


@pytest.mark.parametrize("layout", DATASETS)
def test_every_layout_is_documented(layout):
    assert lookup(DATASETS, "layout", layout).__doc__


def test_missing_partners_are_named(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"images/{name}.jpg")
    for name in ("b", "c"):
        ids(tmp_path / f"ground_truth_mask/{name}.png", halves())
    dataset = open_dataset("ecssd", tmp_path)
    assert [entry.id for entry in dataset.entries] == ["b"]
    assert len(dataset.unpaired) == 2
    assert any("c.png: no image of that name" in line for line in dataset.unpaired)
    assert any("a.jpg: no annotation of that name" in line for line in dataset.unpaired)


def test_files_are_read_when_asked_for(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / f"images/{name}.jpg").write_bytes(b"no picture")
        ids(tmp_path / f"ground_truth_mask/{name}.png", halves())
    dataset = open_dataset("ecssd", tmp_path)
    assert len(dataset) == 2
    with pytest.raises(ImageError, match=r"a\.jpg"):
        dataset[0]


def test_an_annotation_of_another_size_is_named(tmp_path):
    picture(tmp_path / "images/a.jpg")
    ids(tmp_path / "ground_truth_mask/a.png", halves(size=(24, 31)))
    with pytest.raises(LabelError, match=r"a\.png: the map is 24 x 31, expected 24 x 32"):
        open_dataset("ecssd", tmp_path)[0]


# Layouts of which there is no sample, and single formats


def test_bsds_annotations(tmp_path):
    picture(tmp_path / "images/test/1.jpg")
    write_mat(tmp_path / "groundTruth/test/1.mat", halves(1, 2), halves(3, 1))
    dataset = open_dataset("bsds500", tmp_path, "test")
    first, second = dataset[0].truths
    assert np.array_equal(first, halves(1, 2))
    assert np.array_equal(second, halves(3, 1))
    assert first.dtype == np.int32
    assert first.flags.c_contiguous
    with pytest.raises(DataError, match="looked for images/val"):
        open_dataset("bsds500", tmp_path, "val")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:90],
        lambda data: data[: len(data) // 2],
        lambda data: data[:140] + bytes(len(data) - 140),
        lambda data: b"MATLAB 7.3 MAT-file".ljust(124, b" ") + b"\x00\x02IM" + data[128:],
        lambda data: b"\x89HDF\r\n\x1a\n" + data,
    ],
)
def test_an_unreadable_mat_is_named(tmp_path, damage):
    path = tmp_path / "x.mat"
    write_mat(path, halves(1, 2))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FormatError, match=r"x\.mat: \S.{9}"):
        read_ground_truth(path)


def test_a_mat_of_something_else_is_named(tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, {"labels": halves()})
    with pytest.raises(FormatError, match=r"x\.mat: holds no variable groundTruth"):
        read_ground_truth(path)
    savemat(path, {"groundTruth": 3})
    with pytest.raises(FormatError, match=r"x\.mat: groundTruth \(1 x 1\) is no cell array of structs"):
        read_ground_truth(path)


def test_voc_splits_come_from_lists(tmp_path):
    for name in ("2007_1", "2007_2", "2007_3"):
        picture(tmp_path / f"JPEGImages/{name}.jpg")
    for name in ("2007_1", "2007_2"):
        ids(tmp_path / f"SegmentationClass/{name}.png", halves(0, 255))
        ids(tmp_path / f"SegmentationObject/{name}.png", halves(1, 2))
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_1\n")
    (lists / "val.txt").write_text("2007_2\n2007_9\n")
    assert [e.id for e in open_dataset("voc", tmp_path).entries] == ["2007_1", "2007_2"]
    assert open_dataset("voc", tmp_path).unpaired == ()
    assert [e.id for e in open_dataset("voc", tmp_path, "train").entries] == ["2007_1"]
    assert open_dataset("voc", tmp_path, "val").unpaired == ("2007_9: listed in split val, no such file",)
    assert open_dataset("voc", tmp_path)[0].ignore_label == 255
    assert np.array_equal(open_dataset("voc-objects", tmp_path)[0].truths[0], halves(1, 2))
    with pytest.raises(DataError, match=r"trainval\.txt: it tells which images"):
        open_dataset("voc", tmp_path, "trainval")


def test_voc_archives_unpack_into_folders(tmp_path):
    picture(tmp_path / "VOCdevkit/VOC2012/JPEGImages/1.jpg")
    ids(tmp_path / "VOCdevkit/VOC2012/SegmentationClass/1.png", halves())
    assert len(open_dataset("voc", tmp_path)) == 1


def test_nyu_splits_come_from_the_official_lists(tmp_path):
    for name in ("0001", "0002"):
        picture(tmp_path / f"images/{name}.png", size=(480, 640))
        ids(tmp_path / f"labels/{name}.png", halves(size=(480, 640)))
    savemat(tmp_path / "splits.mat", {"trainNdxs": [[2]], "testNdxs": [[1]]})
    assert [e.id for e in open_dataset("nyuv2", tmp_path, "test").entries] == ["0001"]
    assert [e.id for e in open_dataset("nyuv2", tmp_path, "train").entries] == ["0002"]


def test_nyu_leaves_out_sixteen_pixels_at_each_side(tmp_path):
    stored = np.arange(480 * 640).reshape(480, 640) % 251
    for folder in ("images", "labels"):
        ids(tmp_path / folder / "0001.png", stored)
    sample = open_dataset("nyuv2", tmp_path)[0]
    for found in (sample.image[..., 0], sample.truths[0]):
        assert np.array_equal(found, stored[16:-16, 16:-16])


def test_nyu_needs_images_larger_than_the_crop(tmp_path):
    picture(tmp_path / "images/0001.png")
    ids(tmp_path / "labels/0001.png", halves())
    with pytest.raises(DataError, match="smaller than the 608x448"):
        open_dataset("nyuv2", tmp_path)[0]


def test_drive_has_a_second_annotation(tmp_path):
    for part, name in (("training", "21"), ("test", "01")):
        picture(tmp_path / f"{part}/images/{name}_{part}.tif")
        ids(tmp_path / f"{part}/1st_manual/{name}_manual1.gif", halves(0, 255))
    ids(tmp_path / "test/2nd_manual/01_manual2.gif", halves(255, 0))
    train, test = open_dataset("drive", tmp_path, "train"), open_dataset("drive", tmp_path, "test")
    assert len(train[0].truths) == 1
    assert [np.unique(truth).size for truth in test[0].truths] == [2, 2]
    assert len(open_dataset("drive", tmp_path)) == 2


def test_camvid_colours_become_ids(tmp_path):
    picture(tmp_path / "701_StillsRaw_full/x.png")
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[:, 16:] = (128, 64, 1)
    (tmp_path / "LabeledApproved_full").mkdir()
    Image.fromarray(colours).save(tmp_path / "LabeledApproved_full/x_L.png")
    truth = open_dataset("camvid", tmp_path)[0].truths[0]
    assert np.array_equal(truth, halves(0, 128 * 65536 + 64 * 256 + 1))


def test_stanford_background(tmp_path):
    picture(tmp_path / "images/s.jpg", size=(2, 3))
    (tmp_path / "labels").mkdir()
    regions = tmp_path / "labels/s.regions.txt"
    regions.write_text("0 0 7\n-1 0 7\n")
    sample = open_dataset("stanford-background", tmp_path)[0]
    assert sample.truths[0].tolist() == [[0, 0, 7], [255, 0, 7]]
    assert sample.ignore_label == 255
    for text in ("", "0 0\n1\n", "a b\n"):
        regions.write_text(text)
        with pytest.raises(FormatError, match=r"s\.regions\.txt"):
            open_dataset("stanford-background", tmp_path)[0]


def test_sintel_as_it_unpacks(tmp_path):
    for frame in ("frame_0001", "frame_0002"):
        picture(tmp_path / f"training/clean/alley_1/{frame}.png", size=(4, 6))
    flow = np.arange(48, dtype=np.float32).reshape(4, 6, 2)
    flow[0, 0] = 1e10
    flow[1, 1] = np.nan
    write_flow(tmp_path / "training/flow/alley_1/frame_0001.flo", flow)
    dataset = open_dataset("sintel", tmp_path)
    assert [entry.id for entry in dataset.entries] == ["alley_1/frame_0001"]
    assert dataset.unpaired == ()
    sample = dataset[0]
    assert sample.truths == ()
    assert sample.valid.sum() == 22
    assert np.isfinite(sample.flow).all()
    assert np.array_equal(sample.flow[2], flow[2])


@pytest.mark.parametrize("damage", [b"", b"PIEH", b"JUNK" * 20])
def test_damaged_flow_is_named(tmp_path, damage):
    picture(tmp_path / "a.png", size=(4, 6))
    (tmp_path / "a.flo").write_bytes(damage)
    with pytest.raises(FormatError, match=r"a\.flo"):
        open_dataset("sintel", tmp_path)[0]


def test_truncated_flow_is_named(tmp_path):
    picture(tmp_path / "a.png", size=(4, 6))
    write_flow(tmp_path / "a.flo", np.zeros((4, 6, 2)))
    (tmp_path / "a.flo").write_bytes((tmp_path / "a.flo").read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"a\.flo: damaged: 203 bytes for a flow of 6x4"):
        open_dataset("sintel", tmp_path)[0]


# Pictures of ids


def as_stored(labels, bits, bands):
    """A PNG of so many bits a sample and bands, the ids in each but an opaque last of 2 or 4."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    samples = np.repeat(labels[..., None], bands, 2)
    if bands in (2, 4):
        samples[..., -1] = 2**bits - 1
    rows = (samples.reshape(len(labels), -1)[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    data = b"".join(b"\0" + np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in rows)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", *labels.shape[::-1], bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "bands"), [(4, 1), (8, 1), (8, 2), (8, 3), (8, 4), (16, 1), (16, 2), (16, 3), (16, 4)]
)
def test_the_same_ids_are_the_same_truth_at_every_depth(tmp_path, bits, bands):
    truth = halves(3, 15) if bits < 16 else halves(259, 515)  # equal high bytes, and equal low ones
    picture(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.png").write_bytes(as_stored(truth, bits, bands))
    assert np.array_equal(open_dataset("folder", tmp_path)[0].truths[0], truth)


def test_colours_are_no_truth_where_the_data_set_does_not_say_so(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "labels/a.png", value=(1, 2, 3))
    with pytest.raises(FormatError, match=r"labels/a\.png: its 3 bands differ"):
        open_dataset("folder", tmp_path)[0]


def test_unreadable_pictures_of_ids_are_named(tmp_path):
    picture(tmp_path / "images/a.png")
    truth = ids(tmp_path / "labels/a.png", np.random.default_rng(0).integers(0, 256, SIZE))
    dataset = open_dataset("folder", tmp_path)
    for data in (b"", b"no picture", truth.read_bytes()[:300]):
        truth.write_bytes(data)
        with pytest.raises(FormatError, match=r"labels/a\.png: "):
            dataset[0]
    truth.unlink()
    with pytest.raises(FormatError, match=r"labels/a\.png: No such file"):
        dataset[0]
