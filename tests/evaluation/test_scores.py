"""What is scored, and how; the Python API."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from annotated import BANDS, add, evaluate, grid, quadrants
from spx_cli import api, metrics
from spx_cli.datasets import open_dataset
from spx_cli.errors import ParameterError, UnknownName
from spx_cli.evaluation.document import Failure
from spx_cli.evaluation.sources import LabelFolder, make_sources
from spx_cli.io import write_labels
from spx_cli.options import EvaluateOptions
from standin import StandIn

ADVICE = "segment with smaller and larger counts"


def test_rows_are_the_scores_of_each_image_count_and_annotation(data, maps):
    document = evaluate(data, [*BANDS, maps], metrics=["asa", "br", "co"])
    rows = list(document.rows())
    assert [(r["method"], r["k_requested"], r["k"], r["image"], r["annotation"]) for r in rows[:6]] == [
        ("standin", 3, 3, "a", 0),
        ("standin", 8, 8, "a", 0),
        ("tool", 4, 4, "a", 0),
        ("tool", 16, 16, "a", 0),
        ("standin", 3, 3, "b", 0),
        ("standin", 3, 3, "b", 1),
    ]
    assert len(rows) == document.pairs == 6 * 4
    for row in rows:
        assert list(row) == ["method", "k_requested", "k", "image", "annotation", "asa", "br", "co"]
        sample = data["abcd".index(row["image"])]
        if row["method"] == "tool":
            labels = grid(2, 2) if row["k"] == 4 else grid(4, 4)
        else:
            labels = StandIn().segment(sample.image, row["k"])
        truth = sample.truths[row["annotation"]]
        assert {n: row[n] for n in ("asa", "br", "co")} == metrics.score(labels, [truth], metrics=["asa", "br", "co"])[
            0
        ]


def test_the_summary_is_the_mean_over_all_pairs(data):
    document = evaluate(data, BANDS, metrics=["asa", "ev"])
    assert [(row["method"], row["k_requested"], row["k"]) for row in document.summary] == [
        ("standin", 3, 3),
        ("standin", 8, 8),
    ]
    for total in document.summary:
        rows = [row for row in document.rows() if row["k_requested"] == total["k_requested"]]
        for name in ("asa", "ev"):
            assert total[name] == pytest.approx(sum(row[name] for row in rows) / len(rows), abs=1e-15)


def test_a_perfect_map_scores_perfectly(data, tmp_path):
    (tmp_path / "same").mkdir()
    for name in "abcd":
        write_labels(tmp_path / f"same/{name}.tiff", quadrants(7))
    summary = evaluate(
        data, [LabelFolder(tmp_path / "same")], metrics=["asa", "ue_np", "br"], annotations="best"
    ).summary
    assert summary == [{"method": "same", "k_requested": None, "k": 4.0, "asa": 1.0, "ue_np": 0.0, "br": 1.0}]


@pytest.mark.parametrize("policy", ["mean", "best", "worst"])
def test_policies_leave_one_row_for_an_image(data, policy):
    each = evaluate(data, BANDS[:1], metrics=["asa", "ue_np"])
    one = evaluate(data, BANDS[:1], metrics=["asa", "ue_np"], annotations=policy)
    rows = list(one.rows())
    assert [row["image"] for row in rows] == [name for name in "abcd" for _ in (3, 8)]
    assert {row["annotation"] for row in rows} == {policy}
    b = [row for row in each.rows() if row["image"] == "b" and row["k_requested"] == 3]
    found = next(row for row in rows if row["image"] == "b" and row["k_requested"] == 3)
    assert {name: found[name] for name in ("asa", "ue_np")} == metrics.combine(
        [{name: row[name] for name in ("asa", "ue_np")} for row in b], policy
    )[0]


def test_the_protocol_decides_on_metrics_and_policy(data):
    document = evaluate(data, BANDS, protocol="lnsnet")
    assert document.header["annotations"] == "best"
    assert document.metrics == (*metrics.PROTOCOLS["lnsnet"].metrics, "components")
    assert document.header["protocol"] == "lnsnet"
    assert evaluate(data, BANDS, protocol="lnsnet", annotations="each").header["annotations"] == "each"


def test_scn_reads_five_annotations(tmp_path):
    image = np.zeros((6, 6, 3), np.uint8)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(image).save(tmp_path / "images/a.png")
    for i in range(7):
        write_labels(tmp_path / f"labels/a-{i}.png", np.full((6, 6), i, np.int32))
    data = open_dataset("folder", tmp_path)
    counted = {name: len([*evaluate(data, BANDS[:1], protocol=name).rows()]) for name in ("stutz", "scn")}
    assert counted == {"stutz": 14, "scn": 10}


def test_a_wider_tolerance_finds_more_boundaries(data):
    recalls = [evaluate(data, BANDS, metrics=["br"], tolerance=t).summary[0]["br"] for t in (0, 1, 4)]
    assert recalls[0] < recalls[1] < recalls[2]


def test_ignored_pixels_count_nowhere(tmp_path):
    truth = quadrants()
    truth[:, :16] = 255
    add(tmp_path, "a", truth)
    data = open_dataset("folder", tmp_path)
    (tmp_path / "left").mkdir()
    write_labels(tmp_path / "left/a.npy", grid(2, 1))
    source = [LabelFolder(tmp_path / "left")]
    assert evaluate(data, source, metrics=["asa"]).summary[0]["asa"] == 0.5
    assert evaluate(data, source, metrics=["asa"], ignore_label=255).summary[0]["asa"] == 1.0


def test_a_data_set_says_what_to_ignore(shared):
    data = open_dataset("voc", shared / "data/VOC2012")
    assert evaluate(data, BANDS[:1], metrics=["asa"], limit=1).header["ignore_label"] == 255
    assert evaluate(data, BANDS[:1], metrics=["asa"], limit=1, ignore_label=None).header["ignore_label"] is None


def test_flow_is_scored_by_its_end_points(shared):
    document = evaluate(open_dataset("middlebury", shared / "data/Middlebury"), BANDS)
    assert document.metrics == ("epe", "ev", "co", "components")
    assert [row["annotation"] for row in document.rows()] == [0] * 4
    few, many = document.summary
    assert 0 < many["epe"] < few["epe"]


def test_the_interpolation_follows_the_achieved_counts(data, maps):
    document = evaluate(data, [maps], metrics=["asa"], at=[7])
    low, high = (row["asa"] for row in document.summary)
    assert document.at == [{"method": "tool", "k": 7.0, "asa": pytest.approx(low + (high - low) * 3 / 12)}]


def test_nothing_is_extrapolated(data, maps):
    document = evaluate(data, [maps], metrics=["asa"], at=[17])
    assert math.isnan(document.at[0]["asa"])
    assert document.failures == [
        Failure("", "tool", None, "tool: no scores at 17 superpixels: they span 4 to 16; " + ADVICE)
    ]


@pytest.mark.parity
def test_the_benchmark_agrees(shared, tmp_path):
    """Values of the benchmark's own tool for one image and its five annotations, through the whole of spx eval."""
    reference = json.loads((shared / "reference/metrics/reference.json").read_text())["bsds"]
    name = next(key.split("/")[0] for key in reference)
    (tmp_path / "slic100").mkdir()
    source = shared / f"reference/metrics/labels/{name}_slic100.png"
    (tmp_path / f"slic100/{name}.png").write_bytes(source.read_bytes())
    data = open_dataset("bsds500", shared / "data/BSDS500", "test")
    data.entries = tuple(entry for entry in data.entries if entry.id == name)
    document = evaluate(data, [LabelFolder(tmp_path / "slic100")], metrics=["asa", "ue_np", "br", "bp", "co"])
    rows = list(document.rows())
    assert len(rows) == 5
    for row in rows:
        known = reference[f"{name}/slic100/{row['annotation']}"]["benchmark_float64"]
        for ours, theirs in (("asa", "asa"), ("ue_np", "ue_np"), ("br", "rec"), ("bp", "pre"), ("co", "co")):
            assert row[ours] == pytest.approx(known[theirs], abs=1e-9), ours
    assert document.failures == []


def test_api(data, tmp_path, maps):
    result = api.evaluate(data.root, StandIn(), 3, metrics=["asa"])
    assert result.summary == evaluate(data, make_sources([StandIn()], [3]), metrics=["asa"]).summary
    result = api.evaluate(data.root, [StandIn()], [3, 8], labels=tmp_path / "tool", at=[5], jobs=1)
    assert {row["method"] for row in result.summary} == {"standin", "tool"}
    assert len(result.at) == 2


def test_api_takes_every_option_of_the_command(data):
    options = EvaluateOptions(native_count=True, metrics=["asa"], limit=2)
    told = []
    result = api.evaluate(data.root, "fh", 20, options, limit=1, progress=lambda *numbers: told.append(numbers))
    assert (result.pairs, result.metrics, told) == (1, ("asa",), [(0, 1), (1, 1)])
    assert "native count" in result.header["methods"]["fh"]
    assert result.summary[0]["k"] != 20
    with pytest.raises(UnknownName, match="did you mean 'annotations'"):
        api.evaluate(data.root, "slic", 3, annotation="best")


def test_api_takes_numbers_of_numpy_and_no_fractions(data):
    expected = api.evaluate(data.root, StandIn(), [3, 5], limit=1).summary
    assert api.evaluate(data.root, StandIn(), np.array([3, 5]), limit=np.int64(1)).summary == expected
    assert api.evaluate(data.root, StandIn(), np.int64(3), limit=1).summary == expected[:1]
    for count in (2.5, 0, True, "3"):
        with pytest.raises(ParameterError, match="whole number of at least 1"):
            api.evaluate(data.root, StandIn(), [count])
