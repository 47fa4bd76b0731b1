"""Our metrics against the numbers of the published tools: superpixel-benchmark, SEAL, LNS-Net."""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat
from skimage.morphology import thin

from spx_cli.metrics import score
from spx_cli.regions.maps import boundaries

HERE = Path(__file__).parent / "reference"
VALUES = json.loads((HERE / "metrics.json").read_text())
EXACT = {"asa": "asa", "cuse": "ue", "ue_np": "ue_np", "oe": "oe", "br": "rec", "bp": "pre", "cd": "cd", "k": "sp"}
RELATIVE = {  # metric: (name there, tolerance against float64, against float32)
    "ue_levin": ("ue_levin", 1e-9, 1e-6),
    "co": ("co", 1e-9, 1e-5),
    "ev": ("ev", 1e-9, 3e-3),
    "sse_rgb": ("sse_rgb", 1e-9, 2e-3),
    "sse_xy": ("sse_xy", 1e-9, 2e-3),
    "icv": ("icv", 1e-9, 1e-4),
    "mde": ("mde", 1e-9, 1e-4),
    "size_std": ("sp_size_variation", 1e-9, 1e-6),
}
pytestmark = pytest.mark.parity


@cache
def synthetic():
    return dict(np.load(HERE / "synthetic.npz"))


def agree(reference, labels, truth, image):
    """Compare all scores of one pair with what the tools say."""
    ours = score(labels, [truth], image)[0]
    # The benchmark divides by the largest id + 1, we by the ids there are.
    ours["icv"] *= ours["k"] / (int(labels.max()) + 1)
    ours["ue_levin"] *= len(np.unique(truth)) / (int(truth.max()) + 1)
    for column, narrow in (("benchmark_float64", 1e-9), ("benchmark_float32", 1e-6)):
        theirs = {name: float(value) for name, value in reference[column].items()}
        for name, key in EXACT.items():
            assert ours[name] == pytest.approx(theirs[key], abs=narrow), (column, name)
        for name, (key, double, single) in RELATIVE.items():
            relative = double if column == "benchmark_float64" else single
            assert ours[name] == pytest.approx(theirs[key], rel=relative, abs=1e-12, nan_ok=True), (column, name)
    theirs = reference["benchmark_float64"]
    for radius in (0, 1, 2, 3, 5):
        at = score(labels, [truth], metrics=["br", "bp"], tolerance=radius)[0]
        assert at["br"] == pytest.approx(theirs[f"rec_r{radius}"], abs=1e-9), radius
        assert at["bp"] == pytest.approx(theirs[f"pre_r{radius}"], abs=1e-9), radius
    assert ours["asa"] == pytest.approx(reference["seal"]["asa"], abs=1e-12)
    for radius in range(4):
        at = score(labels, [truth], metrics=["br", "bp"], protocol="lnsnet", tolerance=radius)[0]
        assert at["br"] == pytest.approx(reference["seal"][f"br_r{radius}"], abs=1e-12), radius
        assert at["bp"] == pytest.approx(reference["lnsnet_bp"][f"bp_r{radius}"], abs=1e-12), radius
    for name in ("seal", "lnsnet"):
        at = score(labels, [truth], metrics=["br"], protocol=name)[0]
        assert at["br"] == pytest.approx(reference["seal"]["br_r1"], abs=1e-12), name


@pytest.mark.parametrize("case", VALUES["synthetic"])
def test_agrees_with_the_tools_on_synthetic_maps(case):
    data = synthetic()
    agree(VALUES["synthetic"][case], data[f"{case}/labels"], data[f"{case}/gt"], data[f"{case}/image"])


@pytest.mark.parametrize("ignore", [(), (255,), (0,), (0, 255)])
def test_ignored_pixels_count_nowhere(ignore):
    data, reference = np.load(HERE / "extra.npz"), VALUES["extra"]["ignore_" + "_".join(map(str, ignore))]
    names = ["asa", "ue_np", "ue_levin", "br", "bp"]
    for radius in (1, 2):
        ours = score(data["labels"], [data["gt_ignore"]], metrics=names, ignore_label=ignore, tolerance=radius)[0]
        expected = [*(reference[n] for n in names[:3]), reference[f"rec_r{radius}"], reference[f"pre_r{radius}"]]
        assert list(ours.values()) == pytest.approx(expected, rel=1e-12)


def test_end_point_error_of_segmented_flow():
    data = np.load(HERE / "extra.npz")
    whole = score(data["labels"], [], flow=data["flow"], metrics=["epe"])[0]["epe"]
    valid = score(data["labels"], [], flow=data["flow"], valid=data["valid"], metrics=["epe"])[0]["epe"]
    assert [whole, valid] == pytest.approx([VALUES["extra"]["epe_all"], VALUES["extra"]["epe_valid"]], rel=1e-9)


def bsds_pairs(shared, image_id):
    """Return the image, its annotations (each checked by hash) and the label maps of one BSDS500 test image."""
    item = json.loads((shared / "reference/metrics/bsds_items.json").read_text())["items"][image_id]
    image = np.asarray(Image.open(shared / f"data/BSDS500/images/test/{image_id}.jpg").convert("RGB"))
    if hashlib.sha256(image.tobytes()).hexdigest() != item["image_sha256_rgb_bytes"]:
        pytest.skip("this JPEG decoder gives other pixels than the reference's")
    stored = loadmat(shared / f"data/BSDS500/groundTruth/test/{image_id}.mat")["groundTruth"][0]
    truths = [np.ascontiguousarray(a["Segmentation"][0, 0], np.uint16) for a in stored]
    assert [hashlib.sha256(t.tobytes()).hexdigest() for t in truths] == item["gt_sha256_uint16_rowmajor"]
    maps = {
        name: np.asarray(Image.open(shared / "reference/metrics" / entry["file"])).astype(np.int32)
        for name, entry in item["labels"].items()
    }
    return image, truths, maps


@pytest.mark.parametrize("image_id", ["2018", "3063", "6046", "69022", "101084"])
def test_agrees_with_the_tools_on_bsds(shared, image_id):
    image, truths, maps = bsds_pairs(shared, image_id)
    reference = json.loads((shared / "reference/metrics/reference.json").read_text())["bsds"]
    for name, labels in maps.items():
        for index, truth in enumerate(truths):
            # The reference numbers the annotations from 0.
            agree(reference[f"{image_id}/{name}/{index}"], labels, truth - 1, image)


def test_several_annotations_at_once_score_as_one_by_one(shared):
    image, truths, maps = bsds_pairs(shared, "2018")
    together = score(maps["slic600"], truths, image)
    assert together == [score(maps["slic600"], [truth], image)[0] for truth in truths]


def test_corner_rule_gives_the_boundaries_stored_in_bsds(shared):
    stored = loadmat(shared / "data/BSDS500/groundTruth/test/2018.mat")["groundTruth"][0]
    for annotation in stored:
        segments, edges = annotation["Segmentation"][0, 0], annotation["Boundaries"][0, 0]
        np.testing.assert_array_equal(thin(boundaries(segments, "corner")), edges > 0)
