import hashlib
import json
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from spx_cli.datasets import DATASETS, open_dataset
from spx_cli.datasets.companions import list_files
from spx_cli.datasets.flow import MAGIC
from spx_cli.errors import DataError, FormatError, ImageError, LabelError, NothingToDo, UnknownName
from spx_cli.io import read_ground_truth, write_labels
from spx_cli.io.remarks import Remarks
from spx_cli.options import ReadOptions
from spx_cli.registry import lookup

SIZE = (24, 32)


def picture(path, value=0, size=SIZE, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)
    return path


def ids(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def halves(left=0, right=1, size=SIZE):
    labels = np.full(size, left, np.int32)
    labels[:, size[1] // 2 :] = right
    return labels


def write_flow(path, flow):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = np.float32(MAGIC).tobytes() + np.array(flow.shape[1::-1], "<i4").tobytes()
    path.write_bytes(head + flow.astype("<f4").tobytes())


def write_mat(path, *truths):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(truths)), object)
    for i, truth in enumerate(truths):
        cells[0, i] = {"Segmentation": truth.astype(np.uint16), "Boundaries": np.zeros(truth.shape, np.uint8)}
    savemat(path, {"groundTruth": cells}, do_compression=True)


# The samples at hand, each in its official layout


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


# Your own folder


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
