"""Obvious answers, bad input, protocols and aggregation."""

import subprocess
import sys
from inspect import signature
from math import isnan, nan, pi

import numpy as np
import pytest

from spx_cli import metrics
from spx_cli.errors import ImageError, LabelError, ParameterError, UnknownName
from spx_cli.metrics import METRICS, PROTOCOLS, at, combine, mean, score
from spx_cli.regions.maps import overlap
from spx_cli.registry import load

QUADRANTS = np.kron(np.array([[0, 1], [2, 3]]), np.ones((4, 4), int))
HALVES = np.kron(np.array([[0, 1]]), np.ones((8, 4), int))
IMAGE = np.zeros((8, 8, 3), np.uint8)
IMAGE[:, 4:] = 200


def test_the_table_says_what_each_formula_needs():
    of_an_annotation = {"table", "match", "true_edges"}
    for name, metric in METRICS.items():
        needed = set(signature(load(f"spx_cli.metrics.{metric.formula}")).parameters)
        assert bool(needed & of_an_annotation) == (metric.needs == "truth"), name
        assert ("colours" in needed) == (metric.needs == "image"), name
        assert ("flow" in needed) == (metric.needs == "flow"), name


def test_every_protocol_reports_metrics_of_the_table():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert set(protocol.metrics) <= set(METRICS)
        assert score(QUADRANTS, [HALVES], IMAGE, protocol=name, metrics=protocol.metrics)


def test_the_tables_load_neither_numpy_nor_numba():
    code = "import sys, spx_cli.metrics; sys.exit(any(m in sys.modules for m in ('numpy', 'numba', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_quadrants_against_halves():
    (ours,) = score(QUADRANTS, [HALVES], IMAGE)
    assert [ours[n] for n in ("asa", "ue_np", "br", "ev", "k", "components")] == [1, 0, 1, 1, 4, 4]
    assert ours["co"] == pytest.approx(pi / 4)
    assert ours["oe"] == 0.5
    assert ours["cd"] == (8 * 2 * 2 - 4) / 64
    assert list(ours) == [n for n in METRICS if n != "epe"]


def test_a_twentieth_of_a_superpixel_is_not_over_five_percent():
    superpixel, truth = np.zeros((4, 5), int), np.zeros((4, 5), int)
    for inside, expected in ((1, 0.0), (2, 1.0)):
        truth[0, :inside] = 1
        (row,) = score(superpixel, [truth], metrics=["ue_slic"])
        assert row["ue_slic"] == expected


def test_without_annotations_there_is_one_row_of_what_needs_none():
    assert score(QUADRANTS, [], metrics=["k", "components"]) == [{"k": 4, "components": 4}]
    assert [set(row) for row in score(QUADRANTS, [])] == [
        {n for n, m in METRICS.items() if m.needs == "labels"},
    ]


def test_disconnected_superpixels_are_one_id_and_several_components():
    ours = score(np.indices((6, 6)).sum(0) % 2, [])[0]
    assert (ours["k"], ours["components"]) == (2, 36)


@pytest.mark.parametrize(
    ("size", "radius"),
    [((120, 160), 0), ((360, 480), 1), ((600, 800), 2), ((481, 321), 1), ((448, 608), 2), ((100, 100), 0)],
)
def test_stutz_tolerance_rounds_ties_down_as_the_benchmark_does(size, radius):
    assert PROTOCOLS["stutz"].radius(*size) == radius
    assert PROTOCOLS["lnsnet"].radius(*size) == 1


def test_three_precisions_differ_where_many_superpixel_pixels_meet_few_true_ones():
    truth = np.zeros((7, 9), int)
    truth[:, 5:] = 1
    labels = np.arange(63).reshape(7, 9)
    ours = {name: score(labels, [truth], protocol=name, tolerance=1)[0]["bp"] for name in ("stutz", "lnsnet", "sen")}
    # Boundary pixels: 14 true of 2 x 7; all 63 are the superpixels' two-sided, all but the last one-sided.
    assert ours == {"stutz": 14 / (14 + 63 - 28), "lnsnet": 21 / 62, "sen": 28 / 63}


def test_empty_annotations_give_what_the_protocol_says():
    flat = np.zeros((8, 8), int)
    for name, protocol in PROTOCOLS.items():
        ours = score(QUADRANTS, [flat], protocol=name)[0]
        assert ours["br"] == protocol.empty
        assert ours["bp"] == 0
        assert isnan(ours["mde"])
        assert score(flat, [flat], protocol=name)[0]["bp"] == protocol.empty
    assert score(flat, [HALVES])[0]["mde"] == 8192
    assert isnan(score(QUADRANTS, [], np.full((8, 8, 3), 7, np.uint8))[0]["ev"])


def test_huge_ids_cost_no_memory():
    labels, truth = QUADRANTS * 10**15 + 5, HALVES.astype(np.uint64) * 2**63
    assert score(labels, [truth], IMAGE) == score(QUADRANTS, [HALVES], IMAGE)
    big = np.arange(10**6).reshape(1000, 1000)
    # As many pairs as pixels, where a dense table would need 10^12 cells.
    assert len(overlap(big, big * 4000).count) == 10**6


def test_boolean_annotations_are_two_segments():
    assert score(QUADRANTS, [HALVES.astype(bool)]) == score(QUADRANTS, [HALVES])


@pytest.mark.parametrize(
    ("labels", "truth", "options", "message"),
    [
        (QUADRANTS, HALVES[:, :7], {}, r"sizes differ: the label map is \(8, 8\), annotation 0 is \(8, 7\)"),
        (QUADRANTS - 1, HALVES, {}, "label map: ids must not be negative, met -1"),
        (QUADRANTS, HALVES - 3, {}, "annotation 0: ids must not be negative, met -3"),
        (QUADRANTS * 1.0, HALVES, {}, "label map: ids must be integers, not float64"),
        (QUADRANTS, HALVES.astype(np.float32), {}, "annotation 0: ids must be integers, not float32"),
        (QUADRANTS, HALVES, {"ignore_label": [0, 1]}, "annotation 0: no labelled pixel"),
        (QUADRANTS[0], HALVES[0], {}, r"label map: expected \(H, W\)"),
        (np.zeros((0, 5), int), np.zeros((0, 5), int), {}, "at least one pixel"),
    ],
)
def test_maps_that_cannot_be_scored_say_why(labels, truth, options, message):
    with pytest.raises(LabelError, match=message):
        score(labels, [truth], **options)


def test_the_faulty_one_of_several_annotations_is_named():
    with pytest.raises(LabelError, match="annotation 1: no labelled pixel"):
        score(QUADRANTS, [HALVES, np.full((8, 8), 255)], ignore_label=255)


def test_negative_ids_may_be_ignored():
    truth = HALVES.copy()
    truth[0] = -1
    assert score(QUADRANTS, [truth], ignore_label=-1)[0]["asa"] == 1


def test_wrong_use_says_what_is_wrong():
    with pytest.raises(UnknownName, match="did you mean 'asa'"):
        score(QUADRANTS, [HALVES], metrics=["assa"])
    with pytest.raises(UnknownName, match="did you mean 'stutz'"):
        score(QUADRANTS, [HALVES], protocol="stuz")
    with pytest.raises(ParameterError, match="'ev' needs image"):
        score(QUADRANTS, [HALVES], metrics=["ev"])
    with pytest.raises(ParameterError, match="'asa' needs truth"):
        score(QUADRANTS, [], metrics=["asa"])
    with pytest.raises(ParameterError, match="tolerance must be at least 0"):
        score(QUADRANTS, [HALVES], tolerance=-1)
    with pytest.raises(LabelError, match="sizes differ"):
        score(QUADRANTS, [HALVES], IMAGE[1:])
    with pytest.raises(ImageError, match="uint8"):
        score(QUADRANTS, [HALVES], IMAGE / 255)
    with pytest.raises(LabelError, match="the flow"):
        score(QUADRANTS, [], flow=np.zeros((8, 8)))
    with pytest.raises(AttributeError):
        metrics.nothing  # noqa: B018


def test_ignored_pixels_are_never_false_positives_but_may_serve_recall():
    labels = np.array([[0, 0, 1, 1, 2, 2]])
    truth = np.array([[0, 0, 0, 1, 255, 255]])
    kept = score(labels, [truth], ignore_label=255, tolerance=1, metrics=["br", "bp"])[0]
    # True boundary at x = 2, 3; superpixel boundaries at 1, 2, 3 count, the one at 4 lies on an ignored pixel.
    assert kept == {"br": 1, "bp": 1}
    assert score(labels, [truth], tolerance=0, metrics=["bp"])[0]["bp"] == 3 / 4


def test_flow_without_a_value_counts_nowhere():
    flow = np.zeros((2, 2, 2))
    flow[0, 0] = [3, 4]
    flow[1, 1] = [1e10, nan]

    def error(labels, valid=None):
        return score(np.array(labels), [], flow=flow, valid=valid, metrics=["epe"])[0]["epe"]

    assert error([[0, 1], [1, 1]]) == 0
    assert error([[0, 0], [1, 1]]) == pytest.approx(5 / 3)
    assert isnan(error([[0, 0], [0, 0]], np.zeros((2, 2), bool)))


def test_annotation_policies_go_by_the_direction_of_each_metric():
    rows = [{"asa": 0.9, "ue_np": 0.3, "mde": nan, "k": 7}, {"asa": 0.8, "ue_np": 0.2, "mde": 1.0, "k": 7}]
    assert str(combine(rows, "each")) == str(rows)
    assert combine(rows, "best") == [{"asa": 0.9, "ue_np": 0.2, "mde": 1.0, "k": 7}]
    assert combine(rows, "worst") == [{"asa": 0.8, "ue_np": 0.3, "mde": 1.0, "k": 7}]
    assert combine(rows, "mean") == [pytest.approx({"asa": 0.85, "ue_np": 0.25, "mde": 1.0, "k": 7})]
    assert combine([], "best") == []
    with pytest.raises(ParameterError, match="each, mean, best or worst"):
        combine(rows, "median")


def test_order_of_images_does_not_change_the_mean():
    values = np.random.default_rng(0).random(300)
    rows = [{"asa": v} for v in values]
    assert mean(rows) == mean(reversed(rows)) == mean(sorted(rows, key=lambda r: r["asa"]))


def test_mean_leaves_undefined_samples_out_and_is_nan_when_all_are():
    assert str(mean([{"ev": nan, "mde": nan}, {"ev": 0.5, "mde": nan}])) == "{'ev': 0.5, 'mde': nan}"
    assert mean([]) == {}


def test_scores_at_a_count_are_interpolated_and_never_extrapolated():
    rows = [{"k": 300, "asa": 1.0}, {"k": 100, "asa": 0.8}, {"k": 100, "asa": 1.0}]
    assert at(rows, 150) == pytest.approx({"k": 150, "asa": 0.925})
    assert at(rows, 100) == pytest.approx({"k": 100, "asa": 0.9})
    for outside in (99, 301):
        with pytest.raises(ParameterError, match="span 100 to 300"):
            at(rows, outside)
    with pytest.raises(ParameterError, match="there are none"):
        at([], 5)
