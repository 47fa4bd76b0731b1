"""spx contours: files in, contour maps out, resumed and refused as label maps are; or a data set in, scores out."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import spx_cli
from pictures import quadrants
from spx_cli.contours.maps import Averaged, Maker
from spx_cli.errors import ParameterError
from spx_cli.io import read_contours, write_labels

SNIC = ("-m", "snic", "-k", 4, "-k", 12)


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos/inner").mkdir(parents=True)
    image, truth = quadrants()
    for name in ("a", "inner/b"):
        Image.fromarray(image).save(tmp_path / f"photos/{name}.png")
    (tmp_path / "labels/inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        write_labels(tmp_path / f"labels/{name}.png", truth)
    return tmp_path


def soft(**options):
    return Maker(Averaged(spx_cli.create("snic"), (4, 12)), **options).contours(quadrants()[0])


def test_one_image(spx, photos):
    result = spx("contours", "photos/a.png", *SNIC, "--overlay", "--color", "red")
    assert (result.code, result.out) == (0, "a.contours.png\n"), result.err
    np.testing.assert_allclose(read_contours("a.contours.png"), soft(), atol=0.5001 / 255)
    picture = np.asarray(Image.open("a.overlay.png"))
    assert (picture == (255, 0, 0)).all(-1).any()


def test_a_tree_is_mirrored_and_resumed(spx, photos):
    command = ("contours", "photos", *SNIC, "-o", "out", "--format", "png16", "--nms", "--threshold", "0.3", "--thin")
    lines = [json.loads(line) for line in spx(*command, "--json").out.splitlines()]
    assert {line["output"] for line in lines} == {"out/a.png", "out/inner/b.png"}
    assert {(line["status"], line["method"]) for line in lines} == {("done", "snic")}
    assert "k" not in lines[0]
    np.testing.assert_allclose(
        read_contours("out/a.png"), soft(nms=True, threshold=0.3, thin=True), atol=0.5001 / 65535
    )
    again = [json.loads(line)["status"] for line in spx(*command, "--json", "--resume").out.splitlines()]
    assert again == ["skipped"] * 2
    other = [json.loads(line)["status"] for line in spx(*command[:-1], "--json", "--resume").out.splitlines()]
    assert other == ["done"] * 2
    refused = spx(*command)
    assert refused.code == 2
    assert "exist: --overwrite or --resume" in refused.err


def test_arrays_and_stdout(spx, photos):
    assert spx("contours", "photos/a.png", *SNIC, "-o", "soft.npy").code == 0
    np.testing.assert_array_equal(np.load("soft.npy"), soft())


def test_map_to_stdout(photos, monkeypatch):
    from spx_cli.cli import run

    monkeypatch.chdir(photos)
    sent = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", sent)
    assert run(["contours", "photos/a.png", *map(str, SNIC), "-o", "-"]) == 0
    assert np.asarray(Image.open(io.BytesIO(sent.buffer.getvalue()))).shape == (40, 60)


def test_a_file_that_fails_is_named(spx, photos):
    (photos / "photos/broken.png").write_bytes(b"no picture")
    result = spx("contours", "photos", *SNIC, "-o", "out")
    assert result.code == 1
    assert "photos/broken.png: not a picture" in result.err
    assert sorted(path.name for path in (photos / "out").rglob("*.png")) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-m", "snic", "--source", "network"), "snic has learned no contours"),
        (("-m", "snic", "--mirrored"), "not about superpixels"),
        (("-m", "snic", "--scales", "1"), "not about superpixels"),
        (("-m", "fcn", "-k", 9), "--source superpixels"),
        (("-m", "fcn", "--scales", "0,1"), "scales must lie between"),
        (("-m", "fcn", "--scales", "much"), "--scales takes numbers"),
        (("--source", "sky"), "unknown source of contours"),
        (("-m", "snic", "-k", 0), "at least 1, not 0"),
        (("--format", "jpg"), "unknown format 'jpg'"),
        (("-o", "soft.gif"), "unknown suffix of a contour map"),
        (("--overlay", "--color", "loud"), "unknown color"),
        (("--color", "red"), "--color says nothing without --overlay"),
        (("--html", "x.html"), "--html is about scores"),
        (("--data", "photos"), "INPUT goes with images"),
    ],
)
def test_usage(spx, photos, options, message):
    result = spx("contours", "photos/a.png", *options)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("name", ["fcn", "snic"])
def test_scores_on_a_data_set(spx, photos, name):
    (photos / "photos").rename(photos / "images")
    options = ("-m", name, "--nms", "--thresholds", 9)
    result = spx("contours", "--data", photos, *options, "--csv", "rows.csv", "--html", "page.html", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["summary"][0]["method"] == name
    assert 0 < document["summary"][0]["ods"] <= 1
    assert [row["image"] for row in document["rows"]] == ["a", "inner/b"]
    assert (photos / "page.html").read_text().count("<img") == 2
    assert spx("contours", "--data", photos, *options, "--fail-under", "ods=1.01").code == 1


def test_in_python(photos):
    run = spx_cli.contour_files("snic", [photos / "photos"], photos / "out", counts=(4, 12))
    assert [result.status for result in run] == ["done", "done"]
    with pytest.raises(ParameterError):
        spx_cli.contour_files("snic", [photos / "photos"], photos / "out", thresold=1)
