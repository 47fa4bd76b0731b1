import json
import math
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spx_cli import api, metrics
from spx_cli.datasets import Entry, open_dataset
from spx_cli.errors import DataError, FormatError, OutputError, ParameterError, UnknownName, WeightsError
from spx_cli.evaluation.document import Document, Failure
from spx_cli.evaluation.gates import Conditions
from spx_cli.evaluation.ledger import Ledger
from spx_cli.evaluation.scoring import Scoring, open_data
from spx_cli.evaluation.sources import LabelFolder, make_sources
from spx_cli.io import write_labels
from spx_cli.options import EvaluateOptions
from standin import StandIn

SIZE = (24, 32)
ADVICE = "segment with smaller and larger counts"


def quadrants(offset=0, size=SIZE):
    labels = np.zeros(size, np.int32)
    labels[size[0] // 2 :] += 2
    labels[:, size[1] // 2 :] += 1
    return labels + offset


def grid(rows, columns, size=SIZE):
    y = np.arange(size[0]) * rows // size[0]
    x = np.arange(size[1]) * columns // size[1]
    return (y[:, None] * columns + x).astype(np.int32)


def add(root, name, *truths, seed=0):
    """Write an image and its annotations into a folder data set."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / f"images/{name}.png")
    for i, truth in enumerate(truths):
        write_labels(root / f"labels/{name}-{i}.npy", truth)


@pytest.fixture
def data(tmp_path):
    for i, name in enumerate("abcd"):
        add(tmp_path / "data", name, quadrants(), *([grid(1, 3)] if name in "bd" else []), seed=i)
    return open_dataset("folder", tmp_path / "data")


@pytest.fixture
def maps(tmp_path, data):
    """Label maps of another tool for the four images, as 2 x 2 and 4 x 4 grids."""
    for count, labels in ((4, grid(2, 2)), (16, grid(4, 4))):
        (tmp_path / f"tool/{count}").mkdir(parents=True)
        for name in "abcd":
            write_labels(tmp_path / f"tool/{count}/{name}.png", labels)
    return LabelFolder(tmp_path / "tool")


def evaluate(dataset, sources, *, progress=lambda done, total: None, **options):
    return Scoring.of(dataset, sources, EvaluateOptions(**options)).run(progress)


BANDS = make_sources([StandIn()], [3, 8])


# The numbers


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


# Workers, order, interruption


def test_processes_give_the_same_numbers_in_the_same_order(data, maps):
    alone = evaluate(data, [*BANDS, maps])
    together = evaluate(data, [*BANDS, maps], jobs=2)
    assert list(together.rows()) == list(alone.rows())
    assert together.summary == alone.summary


def test_workers_get_little(data, maps, monkeypatch):
    """What goes to a worker with each task does not grow with the data set."""
    sent = []

    def spread(function, items, *, jobs):
        for item in items:
            sent.append(len(pickle.dumps((function, item))))
            yield item, function(item)

    monkeypatch.setattr("spx_cli.evaluation.work.spread", spread)
    few = evaluate(data, [maps], jobs=2, limit=2)
    small, sent[:] = max(sent), []
    data.entries *= 50
    evaluate(data, [maps], jobs=2)
    assert max(sent) <= small + 10
    assert few.pairs == 6


def test_a_worker_that_dies_costs_its_image_only(data, monkeypatch):
    def spread(function, items, *, jobs):
        return ((item, None if item.entry.id == "b" else function(item)) for item in items)

    monkeypatch.setattr("spx_cli.evaluation.work.spread", spread)
    document = evaluate(data, BANDS, jobs=2)
    assert {row["image"] for row in document.rows()} == {"a", "c", "d"}
    assert "died" in document.failures[0].error


class Stop(Exception):
    pass


def interrupted(after):
    def progress(done, total):
        if done == after:
            raise Stop

    return progress


@pytest.fixture
def scored(monkeypatch):
    """The ids of the images that are really scored."""
    names = []
    real = Scoring.score

    def score(self, task):
        names.append(task.entry.id)
        return real(self, task)

    monkeypatch.setattr(Scoring, "score", score)
    return names


def test_an_interrupted_run_goes_on(data, tmp_path, scored):
    straight = evaluate(data, BANDS)
    keep = tmp_path / "rows.jsonl"
    with pytest.raises(Stop):
        evaluate(data, BANDS, rows=keep, progress=interrupted(2))
    scored.clear()
    resumed = evaluate(data, BANDS, rows=keep, resume=True)
    assert scored == ["c", "d"]
    assert list(resumed.rows()) == list(straight.rows())
    assert resumed.summary == straight.summary


def test_a_torn_line_is_scored_again(data, tmp_path, scored):
    keep = tmp_path / "rows.jsonl"
    straight = evaluate(data, BANDS, rows=keep)
    whole = keep.read_bytes()
    for cut in (1, 40, len(whole.splitlines(keepends=True)[-1]) + 10):
        keep.write_bytes(whole[:-cut])
        scored.clear()
        resumed = evaluate(data, BANDS, rows=keep, resume=True)
        assert scored == (["d"] if cut <= 40 else ["c", "d"])
        assert list(resumed.rows()) == list(straight.rows())
        assert keep.read_bytes() == whole


def test_a_changed_file_is_scored_again(data, maps, tmp_path, scored):
    keep = tmp_path / "rows.jsonl"
    evaluate(data, [maps], rows=keep)
    write_labels(tmp_path / "tool/4/b.png", grid(3, 1))
    os.utime(tmp_path / "tool/4/c.png")
    scored.clear()
    document = evaluate(data, [maps], rows=keep, resume=True)
    assert scored == ["b"]
    assert {row["k"] for row in document.rows() if row["image"] == "b" and row["k_requested"] == 4} == {3}
    assert list(document.rows()) == list(evaluate(data, [maps]).rows())


def test_without_resume_a_run_begins_anew(data, tmp_path, scored):
    keep = tmp_path / "rows.jsonl"
    evaluate(data, BANDS, rows=keep)
    scored.clear()
    evaluate(data, BANDS, rows=keep)
    assert len(scored) == 4


def test_other_settings_cannot_go_on(data, tmp_path):
    keep = tmp_path / "rows.jsonl"
    evaluate(data, BANDS, rows=keep, metrics=["asa"])
    with pytest.raises(ParameterError, match=r"rows\.jsonl was made with metrics \['asa'\], not \['br'\]"):
        evaluate(data, BANDS, rows=keep, metrics=["br"], resume=True)
    with pytest.raises(ParameterError, match="was made with counts"):
        evaluate(data, make_sources([StandIn()], [3]), rows=keep, metrics=["asa"], resume=True)


def test_a_damaged_line_is_scored_again(data, tmp_path, scored):
    keep = tmp_path / "rows.jsonl"
    straight = list(evaluate(data, BANDS, rows=keep).rows())
    lines = keep.read_bytes().splitlines(keepends=True)
    damage = (
        lines[2].replace(b"asa", b"", 1),
        lines[2].replace(b"1", b"2"),  # another score, but well-formed
        lines[2].replace(b'"', b"\xff", 7),
        b"[" * 100_000 + b"\n",
        b"\n",
        lines[2].replace(b": ", b":\n", 1),
    )
    for line in damage:
        keep.write_bytes(b"".join([*lines[:2], line, *lines[3:]]))
        scored.clear()
        resumed = evaluate(data, BANDS, rows=keep, resume=True)
        assert scored == ["b"]
        assert list(resumed.rows()) == straight


def test_results_are_kept_in_files_only(data, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"cannot keep results in .*pipe: it is no regular file"):
        evaluate(data, BANDS, rows=tmp_path / "pipe")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "kept").touch()
    evaluate(data, BANDS, rows=tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "kept").read_bytes().count(b"\n") == 5


@pytest.mark.parametrize("content", ["no results\n", "[1]\n", "[" * 100_000 + "\n", '["00000000", {}]\n'])
def test_a_file_of_something_else_is_refused(data, tmp_path, content):
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(FormatError, match=r"rows\.jsonl is no file of results"):
        evaluate(data, BANDS, rows=tmp_path / "rows.jsonl", resume=True)
    assert (tmp_path / "rows.jsonl").read_text() == content


def test_results_that_a_full_disk_does_not_hold_are_an_error_once(tmp_path, largest_file):
    ledger = Ledger({"k": 4}, tmp_path / "rows")
    ledger.add("a", {"asa": 0.5})
    whole = (tmp_path / "rows").read_bytes()
    with largest_file(len(whole) + 10), pytest.raises(OutputError, match="File too large"):
        ledger.add("b", {"asa": 0.25})
    del ledger  # and no further complaint
    ledger = Ledger({"k": 4}, tmp_path / "rows", resume=True)
    assert ("a" in ledger, "b" in ledger) == (True, False)


def test_results_that_cannot_be_kept_are_an_error(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot keep results in"):
        evaluate(data, BANDS, rows=tmp_path / "file/rows.jsonl")


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.sampled_from("abc"), max_size=8),
    values=st.lists(st.floats(allow_nan=False), min_size=8, max_size=8),
    cut=st.integers(0, 40),
)
def test_a_ledger_gives_back_what_it_was_given(tmp_path_factory, names, values, cut):
    path = tmp_path_factory.mktemp("ledger") / "x.jsonl"
    ledger = Ledger({"a": [1]}, path)
    for name, value in zip(names, values, strict=False):
        ledger.add(name, {"value": value})
    last = dict(zip(names, values, strict=False))
    assert {name: ledger[name]["value"] for name in last} == last
    assert len(ledger) == len(last)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines)[: -cut or None] if cut < len(b"".join(lines[1:])) else lines[0])
    whole = path.read_bytes().count(b"\n") - 1
    again = Ledger({"a": [1]}, path, resume=True)
    last = dict(zip(names[:whole], values, strict=False))
    assert {name: again[name]["value"] for name in last} == last
    assert len(again) == len(last)


# Bad input


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


# Folders of maps


class Images:
    """A data set as far as pairing goes: where its images lie below /data."""

    root = Path("/data")

    def __init__(self, *images):
        self.entries = tuple(Entry(name.removeprefix("images/"), self.root / f"{name}.png") for name in images)


def paired(tmp_path, images, *maps):
    """The map of each image, by name, among maps of these names."""
    for name in maps:
        path = tmp_path / f"maps/{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, grid(2, 2))
    source = LabelFolder(tmp_path / "maps").on(images)
    found = {count: [source.find(entry, count).file for entry in images.entries] for count in source.counts}
    return {
        count: [file and file.relative_to(tmp_path / "maps").as_posix().removesuffix(".npy") for file in files]
        for count, files in found.items()
    }


@pytest.mark.parametrize(
    "place",
    [
        "images/train/scene/x",
        "train/scene/x",
        "scene/x",
        "x",
        "x.labels",
        "x_img",
        "map_csv/x",
        "data/images/train/scene/x",
    ],
)
def test_maps_are_found_in_the_images_tree_or_flat(tmp_path, place):
    images = Images("images/train/scene/x")
    assert paired(tmp_path, images, place, "another", "7th/y") == {None: [place]}
    assert paired(tmp_path / "b", images, f"7/{place}", "7/another") == {7: [f"7/{place}"]}


@pytest.mark.parametrize("place", ["other/x", "train/other/x", "xx", "x_0", "images/x"])
def test_a_map_from_elsewhere_is_not_taken(tmp_path, place):
    with pytest.raises(DataError, match=r"no label map in .*maps is named as an image of /data: no label map for .*x"):
        paired(tmp_path, Images("images/train/scene/x"), place)


def test_the_map_of_a_missing_image_is_not_scored_in_its_place(tmp_path):
    images = Images("images/aachen/0001", "images/bonn/0001", "images/bonn/0002")
    assert paired(tmp_path, images, "aachen/0001", "bonn/0002") == {None: ["aachen/0001", None, "bonn/0002"]}
    assert paired(tmp_path / "flat", images, "0001", "0002") == {None: [None, None, "0002"]}
    lacking = LabelFolder(tmp_path / "flat/maps").on(images).find(images.entries[1], None).lacking
    assert lacking.startswith("no label map for bonn/0001: ")
    assert lacking.endswith("maps/0001.npy could belong to 2 images; name it bonn/0001")


def test_names_that_differ_by_what_tools_add(tmp_path):
    assert paired(tmp_path, Images("a/1_img", "b/1"), "a/1", "b/1_label") == {None: ["a/1", "b/1_label"]}
    assert paired(tmp_path / "b", Images("1_img", "1", "2"), "1_label", "2") == {None: [None, None, "2"]}
    assert paired(tmp_path / "c", Images("1_img", "1"), "1") == {None: [None, "1"]}


def test_folders_of_images_are_no_counts(tmp_path):
    images = Images("images/001/a", "images/2/a")
    assert paired(tmp_path, images, "001/a", "2/a") == {None: ["001/a", "2/a"]}
    assert paired(tmp_path / "b", images, "k5/001/a", "k5/2/a", "7/2/a") == {
        5: ["k5/001/a", "k5/2/a"],
        7: [None, "7/2/a"],
    }
    with pytest.raises(DataError):  # of which folder of images?
        paired(tmp_path / "c", Images("images/3/a"), "1/a", "2/a")
    with pytest.raises(DataError):
        paired(tmp_path / "d", Images("images/003/a"), "001/a", "002/a")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *(("100", 100), ("k200", 200), ("k-300", 300), ("n_400", 400), ("SPixelNet_nSpixel_54", 54), ("slic_K5", 5)),
        *(("val", None), ("001", None), ("scene_1", None), ("v2", None)),
    ],
)
def test_folders_that_are_numbers_are_counts(tmp_path, name, count):
    (tmp_path / "maps" / name).mkdir(parents=True)
    np.save(tmp_path / "maps" / name / "a.npy", grid(2, 2))
    assert LabelFolder(tmp_path / "maps").counts == (count,)


def test_what_lies_beside_folders_of_counts_is_passed_over(data, maps, tmp_path):
    (tmp_path / "tool/results.csv").write_text("no,map\n")
    document = evaluate(data, [LabelFolder(tmp_path / "tool")])
    assert document.failures == []
    assert {row["k_requested"] for row in document.summary} == {4, 16}


def test_a_folder_without_maps_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        LabelFolder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no label maps in .*: looked for files ending in .*\.npy"):
        LabelFolder(tmp_path)


# Gates


def document(**scores):
    header = {"metrics": list(scores), "protocol": "stutz", "annotations": "each", "tolerance": None}
    header |= {"ignore_label": None, "data": {"root": "x"}}
    summary = [{"method": "m", "k_requested": 4, "k": 4.0, **scores}]
    return Document(
        header=header,
        summary=summary,
        at=[],
        failures=[],
        pairs=1,
        dataset=None,
        records=lambda: iter([]),
        sources=(),
    )


@pytest.mark.parametrize(
    ("under", "over", "passed"),
    [
        (["asa=0.95"], [], True),
        (["asa=0.9500000000000001"], [], False),
        (["asa=0.94999", "br=0.8"], [], False),
        ([], ["ue_np=0.1"], True),
        ([], ["ue_np=0.0999999999"], False),
        (["k=4"], ["k=4"], True),
        (["mde=0"], [], None),
        ([], ["mde=3"], False),
    ],
)
def test_unrounded_values_decide(under, over, passed):
    scores = document(asa=0.95, br=0.7, ue_np=0.1, mde=math.nan)
    if passed is None:
        with pytest.raises(ParameterError, match="less is better, use --fail-over"):
            Conditions.parse(under, over, None, [])
        return
    assert Conditions.parse(under, over, None, []).judge(scores).passed is passed


@pytest.mark.parametrize("text", ["asa", "asa=", "asa=high", "asa=nan", "asa=inf", "aza=1", "=1"])
def test_limits_are_checked(text):
    with pytest.raises(ParameterError):
        Conditions.parse([text], [], None, [])


def test_a_gate_on_nothing_fails():
    empty = document(asa=math.nan)
    empty.pairs = 0
    assert not Conditions.parse(["asa=0"], [], None, []).judge(empty).passed


@pytest.fixture
def baseline(tmp_path):
    def write(**row):
        path = tmp_path / "base.json"
        head = {"schema": 1, "protocol": "stutz", "annotations": "each", "tolerance": None, "ignore_label": None}
        path.write_text(json.dumps(head | {"summary": [{"method": "m", "k_requested": 4, "k": 4.0} | row]}))
        return path

    return write


@pytest.mark.parametrize(
    ("old", "slack", "passed"),
    [
        ({"asa": 0.95, "ue_np": 0.1}, [], True),
        ({"asa": 0.9500001, "ue_np": 0.1}, [], False),
        ({"asa": 0.95, "ue_np": 0.0999}, [], False),
        ({"asa": 0.952, "ue_np": 0.0}, ["asa=0.003"], True),
        ({"asa": 0.952, "ue_np": 0.0}, ["asa=0.001"], False),
        ({"ue_np": 0.09}, ["ue_np=0.011"], True),
        ({"ue_np": 0.09}, ["ue_np=0.011", "asa=0.1"], False),
        ({"asa": None}, ["asa=0.1"], False),
        ({"asa": 0.1, "ue_np": 0.2, "k_requested": 5}, [], False),
        ({"asa": 0.1, "ue_np": 0.2, "method": "n"}, [], False),
    ],
)
def test_the_baseline_allows_no_more_than_its_tolerance(baseline, old, slack, passed):
    conditions = Conditions.parse([], [], baseline(**old), slack)
    assert conditions.judge(document(asa=0.95, ue_np=0.1)).passed is passed


def test_a_baseline_under_other_settings_is_refused(baseline):
    path = baseline(asa=0.9)
    path.write_text(path.read_text().replace("stutz", "sen"))
    with pytest.raises(ParameterError, match="made with protocol 'sen', this run with 'stutz'"):
        Conditions.parse([], [], path, []).judge(document(asa=0.95))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", '{"schema": 1, "summary": 3}', '{"schema": 99, "summary": []}', "[" * 100_000, "\xff"),
        *('{"schema": 1, "summary": [3]}', '{"schema": 1, "summary": [{"asa": 1}]}', '{"schema": 1, "at": []}'),
        *(
            f'{{"schema": 1, "summary": [], "at": [{{"method": "m", "asa": {x}}}]}}'
            for x in ('"1"', "true", "NaN", "[]")
        ),
        f'{{"schema": 1, "summary": [{{"method": "m", "k_requested": {10**400}}}]}}',
    ],
)
def test_a_baseline_of_something_else_is_named(tmp_path, text):
    (tmp_path / "base.json").write_text(text)
    with pytest.raises(FormatError, match=r"base\.json"):
        Conditions.parse([], [], tmp_path / "base.json", [])


def test_failures_beyond_those_allowed_fail_the_run():
    scores = document(asa=0.95)
    scores.failures = [Failure("a", None, None, "broken")] * 2
    conditions = Conditions.parse([], [], None, [])
    assert not conditions.judge(scores, 1).passed
    assert conditions.judge(scores, 2).passed


# The Python API


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
