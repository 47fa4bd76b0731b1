"""What must hold of the metrics for any pair of maps, and naive double loops that say the same."""

from collections import Counter
from math import hypot, isnan, log2, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spx_cli.metrics import METRICS, PROTOCOLS, score
from spx_cli.metrics.boundary import chamfer, dilate
from spx_cli.metrics.region import covering, rand_index, variation_of_information
from spx_cli.regions.maps import boundaries, compact, overlap

RANGES = {"asa": 1, "ue_np": 1, "cuse": 1, "oe": 1, "br": 1, "bp": 1, "f1": 1, "f4": 1, "ri": 1, "covering": 1}
RANGES |= {"co": pi / 4, "cd": 1, "ev": 1}


@st.composite
def pairs(draw, max_side=9, max_id=5):
    """A label map and a truth of one size, small ids with gaps, and an image."""
    size = draw(st.tuples(st.integers(1, max_side), st.integers(1, max_side)))
    ids = hnp.arrays(np.int32, size, elements=st.integers(0, max_id))
    return draw(ids), draw(ids), draw(hnp.arrays(np.uint8, (*size, 3), elements=st.sampled_from([0, 1, 90, 255])))


def naive_regions(labels, truth):
    n, sizes, segments = Counter(zip(labels.flat, truth.flat, strict=True)), Counter(labels.flat), Counter(truth.flat)
    best = {j: max(c for (a, _), c in n.items() if a == j) for j in sizes}
    largest = {i: max(c for (_, b), c in n.items() if b == i) for i in segments}
    iou = {i: max(c / (sizes[a] + segments[b] - c) for (a, b), c in n.items() if b == i) for i in segments}
    touching = {i: sum(sizes[a] for a, b in n if b == i) for i in segments}
    total = labels.size
    return {
        "asa": sum(best.values()) / total,
        "cuse": sum(sizes[j] - best[j] for j in sizes) / total,
        "ue_np": sum(min(c, sizes[a] - c) for (a, _), c in n.items()) / total,
        "ue_levin": sum((touching[i] - g) / g for i, g in segments.items()) / len(segments),
        "ue_slic": sum(sizes[a] for (a, _), c in n.items() if c * 100 > 5 * sizes[a]) / total - 1,
        "oe": sum(g - largest[i] for i, g in segments.items()) / total,
        "covering": sum(g * iou[i] for i, g in segments.items()) / total,
        "voi": sum(c / total * (log2(sizes[a] / c) + log2(segments[b] / c)) for (a, b), c in n.items()),
        "k": len(sizes),
    }


def naive_edges(labels, rule):
    height, width = labels.shape
    edges = set()
    for y in range(height):
        for x in range(width):
            for v, u in ((y, x + 1), (y + 1, x)):
                if v < height and u < width and labels[y, x] != labels[v, u]:
                    edges |= {(y, x), (v, u)} if rule == "two-sided" else {(y, x)}
    return edges


def naive_boundary(labels, truth, rule, radius):
    ours, theirs = naive_edges(labels, rule.boundaries), naive_edges(truth, rule.boundaries)

    def near(pixel, others):
        return any(max(abs(pixel[0] - y), abs(pixel[1] - x)) <= radius for y, x in others)

    hits, right = sum(near(p, ours) for p in theirs), sum(near(p, theirs) for p in ours)
    recall = hits / len(theirs) if theirs else rule.empty
    positives = hits if rule.precision == "truth" else right
    found = positives + len(ours) - right
    return recall, positives / found if found else rule.empty


def naive_of_map(labels, image):
    height, width = labels.shape
    colours, co, error, place, deviations = image.astype(float), 0.0, 0.0, 0.0, []
    for j in np.unique(labels):
        inside = labels == j
        sides = 0
        for y, x in np.argwhere(inside):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                sides += not (0 <= v < height and 0 <= u < width and inside[v, u])
        co += inside.sum() * 4 * pi * inside.sum() / sides**2
        spread = np.square(colours[inside] - colours[inside].mean(0)).sum()
        error += spread
        deviations.append(sqrt(spread / inside.sum()))
        where = np.argwhere(inside)
        place += np.square(where - where.mean(0)).sum()
    total = np.square(colours - colours.mean((0, 1))).sum()
    return {
        "co": co / labels.size,
        "sse_rgb": error / labels.size,
        "sse_xy": place / labels.size,
        "icv": np.mean(deviations),
        "ev": 1 - error / total if np.ptp(colours, (0, 1)).any() else float("nan"),
        "cd": len(naive_edges(labels, "two-sided")) / labels.size,
        "size_std": np.std(np.unique(labels, return_counts=True)[1]),
    }


@given(pairs())
def test_region_and_map_metrics_equal_naive_loops(case):
    labels, truth, image = case
    ours = score(labels, [truth], image)[0]
    for name, value in (naive_regions(labels, truth) | naive_of_map(labels, image)).items():
        assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), name


@given(pairs(), st.sampled_from(list(PROTOCOLS.values())), st.integers(0, 4))
def test_boundary_metrics_equal_naive_loops(case, rule, radius):
    labels, truth, _ = case
    ours = score(labels, [truth], protocol=rule, tolerance=radius, metrics=["br", "bp"])[0]
    assert tuple(ours.values()) == pytest.approx(naive_boundary(labels, truth, rule, radius))


@given(pairs(max_side=5))
def test_rand_index_equals_counting_all_pairs(case):
    labels, truth, _ = case
    a, b = labels.ravel(), truth.ravel()
    same_a, same_b = a[:, None] == a[None, :], b[:, None] == b[None, :]
    above = np.triu_indices(a.size, 1)
    agreed = (same_a == same_b)[above]
    assert rand_index(overlap(labels, truth)) == pytest.approx(agreed.mean() if agreed.size else 1.0)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))), st.integers(0, 9))
def test_dilation_is_the_square_window(mask, radius):
    expected = [
        [mask[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1].any() for x in range(w)]
        for h, w in [mask.shape]
        for y in range(h)
    ]
    np.testing.assert_array_equal(dilate(mask, radius), expected)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_chamfer_distance_is_the_cheapest_way_of_straight_and_diagonal_steps(mask):
    distance = chamfer(mask)
    if not mask.any():
        assert (distance == 8192 * 65536).all()
        return
    for y, x in np.ndindex(mask.shape):
        steps = [sorted((abs(y - v), abs(x - u))) for v, u in np.argwhere(mask)]
        assert distance[y, x] == min(short * 89738 + (long - short) * 62587 for short, long in steps)


@given(pairs(), st.randoms(use_true_random=False))
def test_permuting_ids_changes_nothing(case, random):
    labels, truth, image = case
    names = random.sample(range(10**9), 12)
    renamed = [np.array(names[:6])[labels], np.array(names[6:])[truth]]
    first, second = score(labels, [truth], image)[0], score(renamed[0], [renamed[1]], image)[0]
    assert first == pytest.approx(second, rel=1e-12, nan_ok=True)


@given(pairs())
def test_a_map_against_itself_is_perfect(case):
    labels, _, image = case
    ours = score(labels, [labels * 3], image)[0]
    assert [ours[n] for n in ("asa", "ue_np", "ue_levin", "ue_slic", "cuse", "oe")] == [1, 0, 0, 0, 0, 0]
    assert [ours[n] for n in ("ri", "covering", "voi")] == [1, 1, 0]
    if ours["k"] > 1:
        assert [ours[n] for n in ("br", "bp", "f1", "f4", "mde")] == [1, 1, 1, 1, 0]


@given(pairs(), hnp.arrays(np.int32, (9, 9), elements=st.integers(0, 1)))
def test_splitting_superpixels_lowers_neither_accuracy_nor_recall(case, cut):
    labels, truth, image = case
    split = 2 * labels + cut[: labels.shape[0], : labels.shape[1]]
    whole, parts = score(labels, [truth], image)[0], score(split, [truth], image)[0]
    for name in ("asa", "br", "ev"):
        assert isnan(whole[name]) or parts[name] >= whole[name] - 1e-12, name
    for name in ("ue_np", "cuse", "ue_levin", "sse_rgb", "sse_xy", "mde"):
        assert isnan(whole[name]) or parts[name] <= whole[name] + 1e-9, name


@given(pairs(), st.sampled_from(sorted(PROTOCOLS)))
def test_scores_stay_in_their_ranges(case, protocol):
    labels, truth, image = case
    for name, value in score(labels, [truth], image, protocol=protocol)[0].items():
        assert isnan(value) or -1e-12 <= value <= RANGES.get(name, float("inf")) + 1e-12, name
    assert set(RANGES) <= set(METRICS)


@given(pairs())
@settings(max_examples=30)
def test_layout_and_type_of_the_arrays_do_not_matter(case):
    labels, truth, image = case
    first = score(labels, [truth], image)
    frozen = labels.copy()
    frozen.setflags(write=False)
    other = score(np.asfortranarray(frozen), [truth.astype(np.uint8)[:, ::-1][:, ::-1]], np.asfortranarray(image))
    assert str(first) == str(other)


@given(pairs())
def test_the_overlap_table_holds_every_pixel_once(case):
    labels, truth, _ = case
    table = overlap(labels, truth, ignore_label=5) if (truth != 5).any() else overlap(labels, truth)
    counted = np.count_nonzero(truth != 5) if (truth != 5).any() else truth.size
    assert table.count.sum() == table.sizes.sum() == table.segment_sizes.sum() == table.pixels == counted
    assert (table.count > 0).all()
    assert (table.pair_sizes >= table.count).all()


@given(hnp.arrays(np.int64, (4, 5), elements=st.sampled_from([0, 1, 3, 10**12])))
def test_compact_ids_keep_the_partition_and_raster_order(ids):
    numbered = compact(ids)
    seen = list(dict.fromkeys(ids.ravel().tolist()))
    np.testing.assert_array_equal(numbered, np.vectorize(seen.index)(ids))


def test_information_agrees_with_scikit_image():
    skimage_metrics = pytest.importorskip("skimage.metrics")
    random = np.random.default_rng(3)
    labels, truth = random.integers(0, 30, (40, 50)), random.integers(0, 7, (40, 50)).cumsum(1)
    expected = sum(skimage_metrics.variation_of_information(truth, labels))
    assert variation_of_information(overlap(labels, truth)) == pytest.approx(expected)
    assert variation_of_information(overlap(labels, truth)) == pytest.approx(
        variation_of_information(overlap(truth, labels))
    )
    assert covering(overlap(labels, truth)) != covering(overlap(truth, labels))


def test_chamfer_stays_close_to_the_euclidean_distance():
    edges = np.zeros((41, 41), np.bool_)
    edges[20, 20] = True
    euclid = np.array([[hypot(y - 20, x - 20) for x in range(41)] for y in range(41)])
    assert np.abs(chamfer(edges) / 65536 - euclid).max() / 20 < 0.06


def test_frame_is_no_boundary_and_ignored_pixels_make_none():
    for rule in ("two-sided", "one-sided", "corner"):
        assert not boundaries(np.zeros((3, 4), int), rule).any()
        assert not boundaries(np.array([[0, -1, 1], [0, -1, 1]]), rule).any()
