"""Bad maps, images, annotations and settings are named."""

import math
import re

import numpy as np
import pytest
from PIL import Image

from annotated import BANDS, SIZE, add, evaluate, grid, quadrants
from spx_cli.datasets import open_dataset
from spx_cli.errors import DataError, ParameterError, UnknownName, WeightsError
from spx_cli.evaluation.scoring import Scoring, open_data
from spx_cli.evaluation.sources import LabelFolder, make_sources
from spx_cli.io import write_labels
from standin import StandIn


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (grid(2, 2, (24, 31)), r"a\.npy.*24 x 31, expected 24 x 32"),
        (grid(2, 2) - 1, r"a\.npy: ids must not be negative, found -1"),
        (grid(2, 2) + 0.5, r"a\.npy: ids must be whole numbers, not 0\.5"),
        (np.where(grid(2, 2) == 1, np.nan, 0), r"a\.npy: ids must be whole numbers, not nan"),
        (grid(2, 2).astype(np.int64) << 40, r"a\.npy: ids must be at most 2147483647"),
        (np.zeros((0, 0), np.int32), r"a\.npy: a label map has shape"),
    ],
)
def test_a_bad_map_is_named_and_the_rest_goes_on(data, tmp_path, labels, message):
    (tmp_path / "tool").mkdir()
    np.save(tmp_path / "tool/a.npy", labels)
    for name in "bcd":
        write_labels(tmp_path / f"tool/{name}.npy", grid(2, 2))
    document = evaluate(data, [LabelFolder(tmp_path / "tool")])
    (failure,) = document.failures
    assert failure[:3] == ("a", "tool", None)
    assert re.search(message, failure.error)
    assert {row["image"] for row in document.rows()} == set("bcd")


def test_huge_ids_cost_no_memory(data, tmp_path):
    (tmp_path / "tool").mkdir()
    for name in "abcd":
        np.save(tmp_path / f"tool/{name}.npy", grid(2, 2) * 700_000_000)
    document = evaluate(data, [LabelFolder(tmp_path / "tool")], metrics=["asa", "icv"], annotations="best")
    assert document.failures == []
    assert document.summary[0]["asa"] == 1.0


def test_a_missing_map_is_named(data, maps, tmp_path):
    (tmp_path / "tool/4/c.png").unlink()
    document = evaluate(data, [LabelFolder(tmp_path / "tool")])
    (failure,) = document.failures
    assert failure[:3] == ("c", "tool", 4)
    assert re.fullmatch(
        r"no label map for c: it would be named c; there are .*tool/4/a\.png, .*b\.png, .*d\.png", failure.error
    )
    assert document.pairs == 11


def test_two_maps_for_an_image_are_named(data, maps, tmp_path):
    write_labels(tmp_path / "tool/4/c.csv", grid(2, 2))
    (failure,) = evaluate(data, [LabelFolder(tmp_path / "tool")]).failures
    assert failure.error.startswith("2 label maps for c: ")


def test_an_unreadable_map_is_named(data, maps, tmp_path):
    (tmp_path / "tool/4/c.png").write_bytes(b"no picture")
    (failure,) = evaluate(data, [LabelFolder(tmp_path / "tool")]).failures
    assert "tool/4/c.png" in failure.error


def test_an_annotation_without_a_labelled_pixel_is_named(tmp_path):
    add(tmp_path, "a", np.full(SIZE, 255), quadrants())
    add(tmp_path, "b", np.full(SIZE, 255))
    document = evaluate(open_dataset("folder", tmp_path), BANDS[:1], ignore_label=255)
    assert [f.error for f in document.failures] == [
        "annotation 0 of a has no labelled pixel",
        "annotation 0 of b has no labelled pixel",
    ]
    assert {(row["image"], row["annotation"]) for row in document.rows()} == {("a", 1)}


def test_an_undefined_score_is_named_and_left_out_of_the_mean(tmp_path):
    add(tmp_path, "a", quadrants())
    add(tmp_path, "b", np.zeros(SIZE))
    document = evaluate(open_dataset("folder", tmp_path), make_sources([StandIn()], [3]), metrics=["asa", "mde"])
    assert [f.error for f in document.failures] == ["mde of b (annotation 0) is nan"]
    rows = list(document.rows())
    assert math.isnan(rows[1]["mde"])
    assert document.summary[0]["mde"] == rows[0]["mde"]


def test_a_bad_image_is_named(data, tmp_path):
    (tmp_path / "data/images/b.png").write_bytes(b"")
    document = evaluate(data, BANDS)
    (failure,) = document.failures
    assert failure[:3] == ("b", None, None)
    assert "b.png" in failure.error
    assert {row["image"] for row in document.rows()} == set("acd")


def test_a_count_that_an_image_cannot_give_is_named(data):
    document = evaluate(data, make_sources([StandIn()], [3, 769]))
    assert {failure.k_requested for failure in document.failures} == {769}
    assert "between 1 and the number of pixels, 768" in document.failures[0].error
    assert math.isnan(document.summary[1]["asa"])


def test_files_without_partner_are_failures(data, tmp_path):
    (tmp_path / "data/labels/c-0.npy").unlink()
    (failure,) = evaluate(open_dataset("folder", tmp_path / "data"), BANDS).failures
    assert "c.png: no annotation of that name" in failure.error


def test_weights_that_do_not_load_end_the_run(tmp_path):
    add(tmp_path, "a", quadrants())
    Image.new("RGB", SIZE[::-1], (0, 255, 0)).save(tmp_path / "images/a.png")
    with pytest.raises(WeightsError):
        evaluate(open_dataset("folder", tmp_path), BANDS)


def test_wrong_settings_are_refused_before_any_image_is_read(data, monkeypatch):
    monkeypatch.setattr(Scoring, "score", None)
    with pytest.raises(UnknownName, match="unknown metric 'aza'; did you mean 'asa'"):
        evaluate(data, BANDS, metrics=["aza"])
    with pytest.raises(UnknownName, match="unknown protocol"):
        evaluate(data, BANDS, protocol="stuz")
    with pytest.raises(UnknownName, match="unknown annotation policy 'bets'; did you mean 'best'"):
        evaluate(data, BANDS, annotations="bets")
    with pytest.raises(ParameterError, match="metric epe needs flow, and Folder has none"):
        evaluate(data, BANDS, metrics=["epe"])
    with pytest.raises(ParameterError, match="nothing to score"):
        evaluate(data, [])
    with pytest.raises(ParameterError, match="standin given twice"):
        evaluate(data, [*BANDS, *BANDS])
    with pytest.raises(ParameterError, match="at least 1, not 0"):
        make_sources([StandIn()], [0])


def test_images_without_annotations(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    data = open_data("folder", tmp_path)
    with pytest.raises(DataError, match="holds images without annotations; name metrics that need none"):
        evaluate(data, BANDS)
    assert evaluate(data, make_sources([StandIn()], [4]), metrics=["co", "cd"]).pairs == 1


def test_a_folder_that_looks_like_another_layout_says_which(shared):
    with pytest.raises(DataError, match="looks like --layout bsds500"):
        open_data("folder", shared / "data/BSDS500")


def test_the_usual_split_is_the_default(shared):
    assert len(open_data("bsds500", shared / "data/BSDS500")) == 200
    assert len(open_data("bsds500", shared / "data/BSDS500", "all")) == 500
