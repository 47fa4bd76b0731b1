"""Thin lines, one-to-one matching and the BSDS boundary benchmark, against skimage, SciPy and the published tools."""

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.io import loadmat
from scipy.optimize import linear_sum_assignment
from skimage.morphology import thin as skimage_thin

from spx_cli.contours.benchmark import best_point, boundary_counts, score_maps, summarise, thresholds
from spx_cli.contours.matching import match
from spx_cli.contours.nms import suppress
from spx_cli.contours.thinning import segment_boundary, thin
from spx_cli.errors import LabelError

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))


@given(masks)
def test_thin_is_that_of_skimage(mask):
    np.testing.assert_array_equal(thin(mask), skimage_thin(mask))


def test_thin_peels_a_blob_as_skimage_does():
    y, x = np.mgrid[:70, :90]
    blob = (np.sin(y / 7) + np.cos(x / 9) + np.sin((x + y) / 5) > 0.2) | ((y - 30) ** 2 + (x - 40) ** 2 < 500)
    np.testing.assert_array_equal(thin(blob), skimage_thin(blob))


@given(masks, st.floats(0.5, 5), st.integers(0, 3), st.data())
def test_match_is_the_best_assignment(one, radius, seed, data):
    other = data.draw(hnp.arrays(np.bool_, one.shape))
    found = match(one, other, radius, seed=seed)
    assert not (found.first & ~one).any()
    assert not (found.second & ~other).any()
    assert found.first.sum() == found.second.sum()

    a, b = np.argwhere(one), np.argwhere(other)
    squared = ((a[:, None] - b) ** 2).sum(-1)
    cost = np.where(squared <= radius * radius, np.rint(100 * np.sqrt(squared)), 1e6)
    rows, columns = linear_sum_assignment(cost)
    pairs = cost[rows, columns] < 1e6
    assert found.first.sum() == pairs.sum()
    assert found.distance == pytest.approx(cost[rows, columns][pairs].sum() / 100)


def test_match_refuses_maps_of_two_sizes():
    with pytest.raises(LabelError, match="sizes differ"):
        match(np.zeros((2, 3), bool), np.zeros((3, 2), bool), 1)


@pytest.mark.parametrize("slope", [0.4, 0.9, -0.9])
def test_suppress_keeps_the_crest_of_a_slanting_line(slope):
    y, x = np.mgrid[:60, :60]
    across = (y - 30 - slope * (x - 30)) / np.hypot(1, slope)
    soft = np.exp(-(across**2) / 8).astype(np.float32)
    crest = suppress(soft)
    inner = np.s_[4:-4, 4:-4]
    assert (abs(across[inner][crest[inner] > 0]) < 0.8).all()
    assert np.count_nonzero(crest.any(0)) == 60
    assert ((crest == 0) | (crest == soft)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
@pytest.mark.parametrize("value", [0, 1])
def test_small_and_level_maps(shape, value):
    level = np.full(shape, value, np.float32)
    np.testing.assert_array_equal(suppress(level), level)
    assert boundary_counts(level, [thin(level > 0)], thresholds(3)).shape == (3, 4)


def test_a_perfect_map_scores_one():
    truth = np.kron(np.array([[0, 1], [2, 1]]), np.ones((20, 30), int))
    scores = score_maps([segment_boundary(truth)], [[truth, truth]], number=5)
    assert scores.ods.f == scores.ois.f == 1
    assert {point.recall for point in scores.curve} == {1}


def test_an_empty_map_and_no_boundary_score_nought():
    blank = np.zeros((20, 30), int)
    scores = score_maps([blank], [[blank]], number=5)
    assert (scores.ods.f, scores.ois.f, scores.ap) == (0, 0, 0)


def test_counts_of_a_repeated_map_are_repeated():
    rng = np.random.default_rng(0)
    soft = rng.choice([0, 0.3, 0.8], (40, 50))
    truth = segment_boundary(np.kron(rng.integers(0, 3, (4, 5)), np.ones((10, 10), int)))
    levels = thresholds(9)
    together = boundary_counts(soft, [truth], levels)
    alone = [boundary_counts(soft, [truth], levels[i : i + 1])[0] for i in range(9)]
    np.testing.assert_array_equal(together, alone)


# The curve that MATLAB wrote for the benchmark's own test_1: threshold, recall, precision.
CURVE = [
    (0.166667, 0.602446, 0.848564),
    (0.333333, 0.443306, 0.926853),
    (0.5, 0.383239, 0.967481),
    (0.666667, 0.380289, 0.985903),
    (0.833333, 0.274038, 0.995841),
]


def test_summary_is_that_of_matlab():
    counts = np.array([[round(1e6 * r), 10**6, round(1e6 * p), 10**6] for _, r, p in CURVE])
    scores = summarise([counts], thresholds(5))
    assert scores.ods == pytest.approx((0.166667, 0.602446, 0.848564, 0.704632), abs=1e-6)
    assert scores.ap == pytest.approx(0.307593, abs=2e-6)


@cache
def reference(shared):
    return json.loads((shared / "reference/metrics/reference.json").read_text())


def annotations(shared, image):
    cells = loadmat(shared / f"data/BSDS500/groundTruth/test/{image}.mat")["groundTruth"][0]
    return [(cell["Segmentation"][0, 0], cell["Boundaries"][0, 0].astype(bool)) for cell in cells]


@pytest.mark.parity
def test_boundaries_of_annotations_are_those_stored(shared):
    for labels, stored in annotations(shared, "2018"):
        np.testing.assert_array_equal(segment_boundary(labels), stored)


@pytest.mark.parity
@pytest.mark.parametrize("case", ["2018/fh", "3063/slic100", "101084/slic600"])
def test_hard_maps_as_the_tool(shared, case):
    values, (image, kind) = reference(shared)["bsds_boundary_bench_hard_maps"][case], case.split("/")
    labels = np.asarray(Image.open(shared / f"reference/metrics/labels/{image}_{kind}.png"))
    edges = segment_boundary(labels)
    truths = [truth for _, truth in annotations(shared, image)]
    assert edges.sum() == values["sumP"]
    assert [truth.sum() for truth in truths] == values["sumR"]
    pairs = [match(edges, truth, 0.0075 * np.hypot(*edges.shape), seed=i) for i, truth in enumerate(truths)]
    assert [pair.second.sum() for pair in pairs] == values["exact_cntR"]
    right = np.logical_or.reduce([pair.first for pair in pairs]).sum()
    assert right / values["sumP"] == pytest.approx(values["ref_cntP"] / values["sumP"], abs=2e-3)


@pytest.mark.parity
@pytest.mark.parametrize(("kind", "image"), [("slicavg13", "3063"), ("ucm", "101084")])
def test_soft_maps_as_octave(shared, kind, image):
    values = reference(shared)["contours"][kind]
    theirs = np.array(values["octave_bsds_bench"]["counts"][image])
    levels = thresholds(values["nthresh"])
    soft = np.asarray(Image.open(shared / f"reference/metrics/contours/{image}_{kind}.png")) / 255
    ours = boundary_counts(soft, [truth for _, truth in annotations(shared, image)], levels)
    np.testing.assert_array_equal(ours[:, [1, 3]], theirs[:, [1, 3]])
    np.testing.assert_array_equal(ours[:, 0], np.array(values["exact_matching"]["counts"][image])[:, 0])
    np.testing.assert_allclose(ours[:, 0] / ours[:, 1], theirs[:, 0] / theirs[:, 1], atol=2e-3)
    np.testing.assert_allclose(ours[:, 2] / ours[:, 3], theirs[:, 2] / theirs[:, 3], atol=2e-3)
    # the point on the curve from their counts
    best = values["octave_bsds_bench"]["per_image_best_tRPF"][image]
    assert best_point(theirs, levels) == pytest.approx(best, abs=1e-9)
    assert best_point(ours, levels).f == pytest.approx(best[3], abs=1e-3)
