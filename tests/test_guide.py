"""Contours that guide any method: from a network, from files, by name."""

import json
import pickle

import numpy as np
import pytest

import spx_cli as spx
from spx_cli.cli import run
from spx_cli.contours.guide import NetworkGuide, open_guide
from spx_cli.datasets import Entry
from spx_cli.errors import DataError, FormatError, LabelError, ParameterError, UnknownName
from spx_cli.io import write_contours, write_image, write_labels


def picture(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 120, (32, 48, 3)).astype(np.uint8)
    image[:, 20 + 5 * seed :] += 60
    return image


def wall(image, column):
    """Contours of an object whose border colour does not show."""
    contours = np.zeros(image.shape[:2], np.float32)
    contours[:, column : column + 2] = 1
    return contours


@pytest.fixture
def files(tmp_path):
    for folder in ("images", "maps", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(2):
        write_image(tmp_path / f"images/{i}.png", picture(i))
        write_contours(tmp_path / f"maps/{i}.png", wall(picture(i), 8))
        write_labels(tmp_path / f"labels/{i}.png", (np.arange(48)[None] >= 9).repeat(32, 0).astype(np.int32))
    return tmp_path


def test_one_pass_of_a_network_for_all_methods_and_counts(monkeypatch):
    guide, passes = open_guide("fcn"), []
    method = type(guide.method)
    own = method.contour_map
    monkeypatch.setattr(method, "contour_map", lambda *args, **named: passes.append(1) or own(*args, **named))
    images = [picture(0), picture(1)]
    for image in images:
        maps = [guide.along(image) for _ in range(3)]
        assert all(one is maps[0] for one in maps)
    assert len(passes) == 2
    copy = pickle.loads(pickle.dumps(guide))
    np.testing.assert_array_equal(copy.along(images[1]), maps[0])


@pytest.mark.parametrize("contours", ["edges", "none", "fcn"])
@pytest.mark.parametrize("name", ["slic", "snic", "fcn"])
def test_by_name(name, contours):
    labels = spx.segment(picture(), name, 12, contours=contours)
    assert labels.max() == 11
    wanted = open_guide(contours).along(picture())
    assert np.array_equal(labels, spx.segment(picture(), name, 12, contours=wanted))


def test_a_method_made_of_a_network_guides():
    guide = open_guide(spx.create("sin", device="cpu"))
    assert isinstance(guide, NetworkGuide)
    assert guide.along(picture()).shape == (32, 48)


def test_a_map_from_a_file(files):
    labels = spx.segment(picture(), "snic", 12, contours=files / "maps/0.png")
    assert np.array_equal(labels, spx.segment(picture(), "snic", 12, contours=wall(picture(), 8)))


def test_names_that_are_nothing(tmp_path):
    with pytest.raises(UnknownName, match="fcn"):
        open_guide("fnc")
    with pytest.raises(ParameterError, match="slic has learned no contours"):
        open_guide("slic")
    with pytest.raises(ParameterError, match="learned no contours"):
        open_guide(spx.create("fcn", contours=False))
    with pytest.raises(DataError, match="no contour maps"):
        open_guide(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"\.png"):
        open_guide(tmp_path / "a.txt")


def test_folders_pair_strictly(files):
    guide = open_guide(files / "maps")
    entries = [Entry(str(i), files / f"images/{i}.png") for i in range(2)]
    assert guide.among(entries).file(entries[1]) == files / "maps/1.png"
    with pytest.raises(DataError, match="no contour map for 7"):
        guide.file(Entry("7", files / "images/7.png"))
    with pytest.raises(ParameterError, match="2 images"):
        open_guide(files / "maps/0.png").among(entries)


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.full((32, 48), np.nan, np.float32), FormatError),
        (np.full((32, 48), 1.5, np.float32), FormatError),
        (np.zeros((31, 48), np.float32), LabelError),
    ],
)
def test_bad_maps_are_named(files, capsys, array, error):
    bad = files / "maps/1.png"
    bad.unlink()
    np.save(bad.with_suffix(".npy"), array)
    with pytest.raises(error, match=r"1\.npy"):
        open_guide(bad.with_suffix(".npy")).along(picture())
    assert (
        run(["segment", str(files / "images"), "-k", "9", "-o", str(files / "out"), "--contours", str(files / "maps")])
        == 1
    )
    assert "1.npy" in capsys.readouterr().err
    assert [path.stem for path in (files / "out").glob("*.png")] == ["0"]


def test_segment_files_with_contours_resumes_by_their_content(files, capsys):
    command = ["segment", str(files / "images"), "-m", "snic", "-k", "9", "-o", str(files / "out")]
    command += ["--contours", str(files / "maps"), "--resume", "--json"]

    def status():
        assert run(command) == 0
        return sorted(json.loads(line)["status"] for line in capsys.readouterr().out.splitlines())

    assert status() == ["done", "done"]
    assert status() == ["skipped", "skipped"]
    write_contours(files / "maps/0.png", wall(picture(), 30))
    assert status() == ["done", "skipped"]


def test_contours_raise_the_scores_of_any_method(files):
    scores = {
        contours: spx.evaluate(files, ["slic", "lsc"], [4], metrics=["asa"], contours=contours)
        for contours in (None, str(files / "maps"))
    }
    assert not scores[None].failures + scores[str(files / "maps")].failures
    for before, after in zip(*(document.summary for document in scores.values()), strict=True):
        assert after["asa"] > before["asa"]
    assert "maps" in scores[str(files / "maps")].header["methods"]["slic"]


def test_a_missing_map_is_a_failure_of_that_image(files):
    (files / "maps/1.png").unlink()
    document = spx.evaluate(files, ["slic"], [4], metrics=["asa"], contours=str(files / "maps"))
    assert [failure.image for failure in document.failures] == ["1"]
    assert {row["image"] for row in document.rows()} == {"0"}
