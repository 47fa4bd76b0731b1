"""Workers, their order, interrupted and resumed runs."""

import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotated import BANDS, evaluate, grid
from spx_cli.errors import Busy, FormatError, OutputError, ParameterError
from spx_cli.evaluation import ledger
from spx_cli.evaluation.ledger import Ledger
from spx_cli.evaluation.sources import make_sources
from spx_cli.io import write_labels
from standin import StandIn


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


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("content", [b'{"my": "settings"}', b'{"my": "settings"}\n', b"words"])
def test_what_is_no_file_of_results_stays(data, tmp_path, content, resume):
    keep = tmp_path / "rows.jsonl"
    keep.write_bytes(content)
    with pytest.raises(FormatError, match="is no file of results"):
        evaluate(data, BANDS, rows=keep, resume=resume)
    assert keep.read_bytes() == content


def test_other_settings_cannot_go_on(data, tmp_path):
    keep = tmp_path / "rows.jsonl"
    evaluate(data, BANDS, rows=keep, metrics=["asa"])
    with pytest.raises(ParameterError, match=r"rows\.jsonl was made with metrics \['asa'\], not \['br'\]"):
        evaluate(data, BANDS, rows=keep, metrics=["br"], resume=True)
    with pytest.raises(ParameterError, match="was made with counts"):
        evaluate(data, make_sources([StandIn()], [3]), rows=keep, metrics=["asa"], resume=True)


def test_a_file_that_another_run_fills_is_refused(data, tmp_path):
    keep = tmp_path / "rows.jsonl"
    straight = evaluate(data, BANDS)
    busy = []

    def meanwhile(done, total):
        for resume in (False, True) if done == 2 else ():
            with pytest.raises(Busy, match=r"rows\.jsonl: another process is writing there"):
                evaluate(data, BANDS, rows=keep, resume=resume)
            busy.append(resume)

    first = evaluate(data, BANDS, rows=keep, progress=meanwhile)
    assert busy == [False, True]
    assert list(first.rows()) == list(straight.rows())
    assert list(evaluate(data, BANDS, rows=keep, resume=True).rows()) == list(straight.rows())


def test_a_file_that_another_run_replaces_as_it_is_opened(data, tmp_path, monkeypatch):
    keep = tmp_path / "rows.jsonl"

    def late(handle, place, claim=ledger.claim):
        monkeypatch.setattr(ledger, "claim", claim)
        keep.unlink()
        claim(handle, place)

    monkeypatch.setattr(ledger, "claim", late)
    straight = list(evaluate(data, BANDS, rows=keep).rows())
    assert list(evaluate(data, BANDS, rows=keep, resume=True).rows()) == straight
    assert keep.stat().st_size > 0


def test_the_same_command_may_run_twice(data, tmp_path, monkeypatch):
    monkeypatch.setenv("SPX_HOME", str(tmp_path / "home"))
    straight, beside = list(evaluate(data, BANDS).rows()), []

    def meanwhile(done, total):
        if done == 2:
            beside.append(list(evaluate(data, BANDS, cached=True).rows()))
            with pytest.raises(Busy):
                evaluate(data, BANDS, cached=True, resume=True)

    first = evaluate(data, BANDS, cached=True, progress=meanwhile)
    assert [list(first.rows()), *beside] == [straight, straight]
    assert not list((tmp_path / "home/eval").iterdir())


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
    ledger.release()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines)[: -cut or None] if cut < len(b"".join(lines[1:])) else lines[0])
    whole = path.read_bytes().count(b"\n") - 1
    again = Ledger({"a": [1]}, path, resume=True)
    last = dict(zip(names[:whole], values, strict=False))
    assert {name: again[name]["value"] for name in last} == last
    assert len(again) == len(last)
