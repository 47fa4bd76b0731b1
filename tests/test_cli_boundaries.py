"""spx eval --contours: contour maps of any tool against annotations."""

import csv
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import spx_cli
from spx_cli.contours.thinning import segment_boundary
from spx_cli.io import write_contours, write_labels

IDS = ("a", "b", "c")


def truth(name):
    y, x = np.mgrid[:40, :60]
    return ((x > 20 + IDS.index(name)) + 2 * (y > 18)).astype(np.int32)


@pytest.fixture
def data(tmp_path):
    """Three images with two annotations each, and perfect contour maps."""
    for folder in ("data/images", "data/labels", "soft"):
        (tmp_path / folder).mkdir(parents=True)
    for name in IDS:
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / f"data/images/{name}.png")
        for i in range(2):
            write_labels(tmp_path / f"data/labels/{name}-{i}.png", truth(name))
        write_contours(tmp_path / f"soft/{name}.png", segment_boundary(truth(name)) * 0.75)
    return tmp_path


def rows(text):
    head, *lines = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_perfect_maps(spx, data):
    result = spx("eval", "--data", data / "data", "--contours", data / "soft", "--thresholds", 9)
    assert result.code == 0, result.err
    (row,) = rows(result.out)
    assert row["method"] == "soft"
    assert (row["ods"], row["ois"], row["images"]) == ("1.0000", "1.0000", "3")


def test_reports(spx, data):
    files = {kind: data / f"out.{kind}" for kind in ("json", "csv", "markdown", "junit", "html")}
    reports = [part for kind, file in files.items() for part in (f"--{kind}", file)]
    curves = data / "curve.csv", data / "curve.svg"
    command = ("eval", "--data", data / "data", "--contours", data / "soft", "--thresholds", 9)
    assert spx(*command, *reports, "--curve", curves[0]).code == 0
    assert spx(*command, "--curve", curves[1]).code == 0

    document = json.loads(files["json"].read_text())
    assert (document["schema"], document["protocol"], document["tolerance"]) == (1, "bsds", 0.0075)
    assert [row["image"] for row in document["rows"]] == list(IDS)
    assert set(document["rows"][0]) == {"method", "image", "recall", "precision", "f", "threshold"}
    assert document["summary"][0]["ods"] == 1
    assert len(document["curves"]) == 9
    assert [row["recall"] for row in document["curves"]] == [1] * 7 + [0] * 2
    table = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert list(table[0]) == ["method", "image", "recall", "precision", "f", "threshold"]
    assert "| soft |" in files["markdown"].read_text()
    assert ElementTree.parse(files["junit"]).getroot().get("failures") == "0"
    assert files["html"].read_text().count("<img") == 3
    assert len(list(csv.DictReader(curves[0].read_text().splitlines()))) == 9
    assert ElementTree.parse(curves[1]).getroot().tag.endswith("svg")


def test_gates(spx, data):
    command = ("eval", "--data", data / "data", "--contours", data / "soft", "--thresholds", 9)
    assert spx(*command, "--fail-under", "ods=0.99", "--json", data / "base.json").code == 0
    assert spx(*command, "--baseline", data / "base.json").code == 0
    write_contours(data / "soft/a.png", np.full((40, 60), 0.75))
    worse = spx(*command, "--fail-under", "ods=0.99", "--baseline", data / "base.json")
    assert worse.code == 1
    assert "gate failed: soft: ods >= 0.99" in worse.err
    assert "baseline 1" in worse.err


def failing(spx, data, *options):
    result = spx("eval", "--data", data / "data", "--contours", data / "soft", "--thresholds", 9, *options)
    assert result.code == 1
    assert spx(
        "eval", "--data", data / "data", "--contours", data / "soft", "--thresholds", 9, "--max-failures", 1, *options
    ).code in (0, 1)
    return result.err


def test_bad_maps_are_named_and_fail_the_run(spx, data):
    soft = data / "soft"
    whole = (soft / "b.png").read_bytes()
    write_contours(soft / "b.png", np.zeros((40, 61)))
    assert "b.png: the contour map is 40 x 61, expected 40 x 60" in failing(spx, data)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(soft / "b.png")
    assert "b.png: a PNG of mode RGB" in failing(spx, data)
    write_contours(soft / "b.png", np.zeros((40, 60)))
    assert "soft: the contour map of b is zero everywhere" in failing(spx, data)
    (soft / "b.png").unlink()
    assert "no contour map for b" in failing(spx, data)
    (soft / "b.png").write_bytes(whole)
    (soft / "b.contours.png").write_bytes(whole)
    assert "2 contour maps for b" in failing(spx, data)


def test_annotations_without_a_boundary(spx, data):
    write_labels(data / "data/labels/b-1.png", np.zeros((40, 60), np.int32))
    assert "annotation 1 of b has no boundary" in failing(spx, data)
    write_labels(data / "data/labels/b-0.png", np.zeros((40, 60), np.int32))
    document = spx_cli.evaluate_contours(data / "data", data / "soft", thresholds=9)
    assert [row["image"] for row in document.rows()] == ["a", "c"]
    assert len(document.failures) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--labels", "soft"), "give it and --labels a run each"),
        (("--protocol", "sen"), "not for contour maps: --protocol"),
        (("-k", 3), "not for contour maps: -k"),
        (("--fail-under", "asa=.9"), "unknown metric of contour maps 'asa'"),
        (("--curve", "curve.gif"), "--curve writes .csv or .svg"),
        (("--contours", "nowhere"), "no such folder"),
    ],
)
def test_usage(spx, data, options, message):
    result = spx("eval", "--data", data / "data", "--contours", data / "soft", *options)
    assert result.code in (1, 2)
    assert message in result.err
    assert result.err.count("\n") == 1


def test_resumed_run_scores_only_what_changed(data, tmp_path):
    kept = tmp_path / "rows.jsonl"
    first = spx_cli.evaluate_contours(data / "data", data / "soft", thresholds=9, rows=kept)
    lines = len(kept.read_text().splitlines())
    write_contours(data / "soft/c.png", np.full((40, 60), 0.75))
    again = spx_cli.evaluate_contours(data / "data", data / "soft", thresholds=9, rows=kept, resume=True)
    assert len(kept.read_text().splitlines()) == lines + 1
    assert first.summary[0]["ods"] == 1 > again.summary[0]["ods"]


def test_workers_give_the_same(data):
    alone = spx_cli.evaluate_contours(data / "data", data / "soft", thresholds=9)
    together = spx_cli.evaluate_contours(data / "data", data / "soft", thresholds=9, jobs=2)
    assert list(alone.rows()) == list(together.rows())
    assert alone.summary == together.summary


def ultrametric(*lines):
    """A map of 40 x 60 pixels: (what it parts, strength), the strongest last."""
    double = np.zeros((81, 121), np.float32)
    for labels, strength in lines:
        big = np.zeros((81, 121), np.int64)
        big[1::2, 1::2] = labels
        double[1::2, 2:-1:2][labels[:, 1:] != labels[:, :-1]] = strength
        double[2:-1:2, 1::2][labels[1:] != labels[:-1]] = strength
    around = double[1:-2:2, 2:-1:2], double[3::2, 2:-1:2], double[2:-1:2, 1:-2:2], double[2:-1:2, 3::2]
    double[2:-1:2, 2:-1:2] = np.maximum.reduce(around)
    return double


def test_regions_of_ultrametric_maps(spx, data):
    x = np.arange(60)[None].repeat(40, 0)
    for name in IDS:
        double = ultrametric((x // 5, 0.2), (truth(name), 0.8))
        (data / f"soft/{name}.png").unlink()
        savemat(data / f"soft/{name}.mat", {"ucm2": double})
    command = ("eval", "--data", data / "data", "--contours", data / "soft", "--thresholds", 9, "--regions")
    result = spx(*command, "--json")
    assert result.code == 0, result.err
    row = json.loads(result.out)["summary"][0]
    # at thresholds of 0.2 to 0.7 the regions are those of the annotations
    assert [row[name] for name in ("covering", "covering_ois", "covering_best", "ri", "ri_ois")] == [1] * 5
    assert (row["voi"], row["voi_ois"]) == (0, 0)
    assert spx(*command, "--fail-under", "covering=1", "--fail-over", "voi=0.01").code == 0


def test_only_ultrametric_maps_have_regions(spx, data):
    result = spx("eval", "--data", data / "data", "--contours", data / "soft", "--thresholds", 9, "--regions")
    assert result.code == 1
    assert "a.png: the contour map is 40 x 60, expected 81 x 121" in result.err
