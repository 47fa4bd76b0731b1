import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import spx_cli
from spx_cli._version import __version__
from spx_cli.io import write_labels
from spx_cli.metrics import METRICS, PROTOCOLS
from standin import StandIn

SIZE = (24, 32)


@pytest.fixture
def spx(spx):
    return partial(spx, "eval")


def halves():
    labels = np.zeros(SIZE, np.int32)
    labels[:, 16:] = 1
    return labels


def add(root, name, labels, seed):
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / f"images/{name}.png")
    write_labels(root / f"labels/{name}.png", labels)


@pytest.fixture
def data(tmp_path):
    for i, name in enumerate("abc"):
        add(tmp_path / "data", name, halves(), i)
    return ("--data", "data", "-m", "standin", "-k", 4, "-k", 6)


@pytest.fixture
def maps(tmp_path, data):
    """Label maps of a tool for the three images: perfect ones."""
    for name in "abc":
        (tmp_path / "tool").mkdir(exist_ok=True)
        write_labels(tmp_path / f"tool/{name}.tiff", halves() + 3)
    return ("--data", "data", "--labels", "tool")


# What is printed


def test_a_table_in_a_pipe(spx, data):
    code, out, err = spx(*data)
    head, *rows = out.splitlines()
    assert head.split("\t") == ["method", "asked", "k", *PROTOCOLS["stutz"].metrics, "components"]
    assert [row.split("\t")[:3] for row in rows] == [["standin", "4", "4"], ["standin", "6", "6"]]
    assert (code, err) == (0, "")


def test_the_json_document(spx, data):
    code, out, err = spx(*data, "--json", "--metric", "asa,co")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["schema"] == 1
    assert document["spx"] == __version__
    assert document["protocol"] == "stutz"
    assert document["data"] == {"set": "Folder", "root": "data", "split": None, "images": 3}
    assert len(document["rows"]) == 6
    for row in document["rows"]:
        assert list(row) == ["method", "k_requested", "k", "image", "annotation", "asa", "co"]
        assert (row["method"], row["annotation"]) == ("standin", 0)
    for row in document["summary"]:
        assert list(row) == ["method", "k_requested", "k", "asa", "co"]
    assert document["passed"] is True


def test_labels_of_any_tool(spx, maps):
    code, out, _ = spx(*maps, "--json")
    (total,) = json.loads(out)["summary"]
    assert code == 0
    assert (total["method"], total["k_requested"], total["k"]) == ("tool", None, 2)
    assert (total["asa"], total["br"]) == (1, 1)


def test_methods_and_labels_together(spx, maps):
    _, out, _ = spx(*maps, "-m", "standin", "-k", 5, "--json", "-")
    assert [row["method"] for row in json.loads(out)["summary"]] == ["standin", "tool"]


def test_csv_has_a_line_for_each_row(spx, data):
    code, out, _ = spx(*data, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert len(rows) == 6
    assert list(rows[0])[:5] == ["method", "k_requested", "k", "image", "annotation"]
    _, out, _ = spx(*data, "--json")
    for line, row in zip(rows, json.loads(out)["rows"], strict=True):
        assert float(line["asa"]) == row["asa"]


def test_markdown(spx, data):
    code, out, _ = spx(*data, "--markdown", "--fail-under", "asa=0.1", "--fail-over", "ue_np=0", "--at", 5)
    assert code == 1
    assert "| method | asked | k | asa ↑ | ue_np ↓ |" in out
    assert "Interpolated linearly along the achieved counts" in out
    assert "| pass | standin at 5: asa >= 0.1" in out
    assert "| **FAIL** | standin at 5: ue_np <= 0" in out


def test_junit(spx, data, tmp_path):
    (tmp_path / "data/labels/c.png").write_bytes(b"")
    code, out, _ = spx(*data, "--junit", "--fail-under", "asa=0.99", "--fail-under", "br=0")
    suite = ElementTree.fromstring(out.encode())
    assert code == 1
    assert suite.attrib == {"tests": "7", "failures": "2", "errors": "1"}
    cases = list(suite.iter("testcase"))
    assert len(cases) == 7
    assert sum(case.find("failure") is not None for case in cases) == 2
    (error,) = suite.iter("error")
    assert "c.png" in error.get("message")


class Page(HTMLParser):
    """Tags of a page, checked to be closed, and everything it refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone(spx, data, maps, tmp_path):
    code, out, _ = spx(*data, "--labels", "tool", "--html", "page.html", "--fail-under", "asa=0.9")
    assert code == 1
    assert "standin" in out
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.tags.count("img") == 6  # three images under each of two methods
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text
    assert text.count("<polyline") == 2 * len(PROTOCOLS["stutz"].metrics)
    assert "prefers-color-scheme: dark" in text


def test_names_are_escaped_in_pages(spx, tmp_path):
    add(tmp_path / "data", "<b>&x", halves(), 0)
    assert spx("--data", "data", "-m", "standin", "--html", "--fail-over", "asa=0").code == 2
    code, out, _ = spx("--data", "data", "-m", "standin", "--html")
    assert code == 0
    assert "<b>&x" not in out
    assert "&lt;b&gt;&amp;x" in out


def test_several_reports_in_one_run(spx, data, tmp_path):
    code, out, _ = spx("--json", "run.json", "--csv", "run.csv", *data, "--junit", "run.xml", "--markdown")
    assert code == 0
    assert out.startswith("### spx eval")
    assert json.loads((tmp_path / "run.json").read_text())["passed"]
    assert (tmp_path / "run.csv").read_text().count("\n") == 7
    assert ElementTree.parse(tmp_path / "run.xml").getroot().tag == "testsuites"
    code, _, err = spx(*data, "--json", "--csv")
    assert code == 2
    assert "only one report fits on standard output" in err


def test_a_report_that_cannot_be_written_is_named(spx, data):
    code, _, err = spx(*data, "--json", "nowhere/run.json")
    assert code == 1
    assert "nowhere/run.json" in err


def test_a_real_method(spx, data):
    code, out, err = spx("--data", "data", "-m", "slic", "-k", 20, "--json")
    assert (code, err) == (0, "")
    assert {(row["k"], row["components"]) for row in json.loads(out)["rows"]} == {(20, 20)}


def test_parameters_of_a_method(spx, data):
    _, out, _ = spx("--data", "data", "-m", "standin", "-p", "seed=3", "--json")
    assert "seed=3" in json.loads(out)["methods"]["standin"]
    code, _, err = spx("--data", "data", "-m", "standin", "-m", "slic", "-p", "seed=3")
    assert code == 2
    assert "-p sets a parameter of one method" in err


# Gates


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--fail-under", "asa=0"], 0),
        (["--fail-under", "asa=1.5"], 1),
        (["--fail-over", "ue_np=2"], 0),
        (["--fail-over", "ue_np=0"], 1),
        (["--fail-under", "voi=0"], 2),
        (["--fail-over", "voi=100"], 0),
        (["--fail-under", "asa"], 2),
        (["--fail-under", "aza=1"], 2),
        (["--tolerance", "asa=0.1"], 2),
        (["--tolerance", "near"], 2),
        (["--tolerance", "1", "--tolerance", "2"], 2),
        (["--tolerance", "3"], 0),
        (["--ignore-label", "none"], 0),
        (["--ignore-label", "x"], 2),
        (["--metric", "aza"], 2),
        (["--protocol", "stuz"], 2),
        (["--annotations", "bets"], 2),
        (["--layout", "voc"], 1),
        (["--layout", "foldr"], 2),
        (["-m", "slik"], 2),
        (["--split", "nowhere"], 1),
        (["--labels", "nowhere"], 1),
        (["--at", "5"], 0),
        (["--at", "50"], 1),
        (["--device", "cuda"], 2),
    ],
)
def test_exit_codes(spx, data, args, code):
    result = spx(*data, *args)
    assert result.code == code, result.err
    if code:
        assert "spx: error: " in result.err
        assert "Traceback" not in result.err


def test_a_failing_gate_says_what_and_by_how_much(spx, data):
    code, _, err = spx(*data, "--fail-under", "asa=0.9999", "--fail-under", "br=0")
    assert code == 1
    assert re.search(r"spx: error: gate failed: standin at 4: asa >= 0\.9999, is 0\.\d+", err)
    assert "gate passed: standin at 6: br >= 0, is" in err


def test_a_run_is_its_own_baseline(spx, data, tmp_path):
    spx(*data, "--json", "base.json")
    assert spx(*data, "--baseline", "base.json").code == 0
    document = json.loads((tmp_path / "base.json").read_text())
    document["summary"][0]["asa"] += 0.001
    (tmp_path / "base.json").write_text(json.dumps(document))
    assert spx(*data, "--baseline", "base.json").code == 1
    assert spx(*data, "--baseline", "base.json", "--tolerance", "asa=0.0011").code == 0
    assert spx(*data, "--baseline", "base.json", "--tolerance", "asa=0.0009").code == 1
    code, _, err = spx(*data, "--baseline", "base.json", "--tolerance", "2")
    assert code == 2
    assert "made with tolerance None, this run with 2" in err
    StandIn.groups.clear()
    spx(*data, "--baseline", "base.json", "--tolerance", "2", "--json", "other.json")
    assert (StandIn.groups, (tmp_path / "other.json").exists()) == ([], False)  # refused before the work
    assert spx(*data, "--baseline", "nowhere.json").code == 2


@pytest.mark.parametrize(
    ("option", "file"), [("--json", "."), ("--csv", "nowhere/rows.csv"), ("--html", "nowhere/page.html")]
)
def test_a_report_that_could_not_be_written_is_refused_before_the_work(spx, data, option, file):
    StandIn.groups.clear()
    code, _, err = spx(*data, option, file)
    assert (code, StandIn.groups) == (1, [])
    assert f"{file}: cannot be written" in err


def test_a_gate_on_nothing_fails(spx, tmp_path):
    add(tmp_path / "data", "a", halves(), 0)
    (tmp_path / "data/images/a.png").write_bytes(b"")
    code, out, err = spx("--data", "data", "-m", "standin", "--fail-under", "asa=0", "--max-failures", 9)
    assert code == 1
    assert "gate failed: standin at 200: asa >= 0, is missing or undefined" in err
    assert "no pair was scored" in err
    assert out.splitlines()[1].split("\t")[3] == "-"


# Bad input


def test_failures_are_named_and_counted(spx, data, tmp_path):
    (tmp_path / "data/images/a.png").write_bytes(b"")
    (tmp_path / "data/labels/b.png").write_bytes(b"no picture")
    code, out, err = spx(*data)
    assert code == 1
    assert len(err.splitlines()) == 2
    assert "a.png" in err
    assert "b.png" in err
    assert len(out.splitlines()) == 3
    assert spx(*data, "--max-failures", 1).code == 1
    assert spx(*data, "--max-failures", 2).code == 0


def test_many_failures_are_summed_up(spx, data, tmp_path):
    (tmp_path / "tool").mkdir()
    np.save(tmp_path / "tool/a.npy", halves())
    for i in range(25):
        add(tmp_path / "data", f"more{i}", halves(), i)
    code, out, err = spx("--data", "data", "--labels", "tool", "--json")
    assert code == 1
    assert len(err.splitlines()) == 21
    assert "and 7 more that could not be scored" in err
    assert len(json.loads(out)["failures"]) == 27


def test_maps_of_other_images_are_named_at_once(spx, data, tmp_path):
    (tmp_path / "tool").mkdir()
    np.save(tmp_path / "tool/x.npy", halves())
    code, out, err = spx("--data", "data", "--labels", "tool", "--json")
    assert (code, out) == (1, "")
    assert err == (
        "spx: error: no label map in tool is named as an image of data: "
        "no label map for a: it would be named a; there are tool/x.npy\n"
    )


def test_an_undefined_score_fails_the_run(spx, tmp_path):
    add(tmp_path / "data", "a", np.zeros(SIZE, np.int32), 0)
    code, out, err = spx("--data", "data", "-m", "standin", "--metric", "mde", "--json")
    assert code == 1
    assert "mde of a (annotation 0) is nan" in err
    assert json.loads(out)["rows"][0]["mde"] is None


def test_an_empty_folder_is_nothing_to_do(spx, tmp_path):
    (tmp_path / "data").mkdir()
    code, _, err = spx("--data", "data")
    assert code == 3
    assert "data is empty: looked for images/<images>" in err


def test_no_folder(spx):
    assert spx("--data", "nowhere").code == 1
    assert spx().code == 2


def test_images_alone_cannot_be_scored(spx, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    code, _, err = spx("--data", ".", "-m", "standin", "-k", 4)
    assert code == 1
    assert "holds images without annotations; name metrics that need none" in err
    assert spx("--data", ".", "-m", "standin", "-k", 4, "--metric", "co").code == 0


# Interruption


def cache():
    return list((Path(os.environ["SPX_HOME"]) / "eval").glob("*"))


def test_an_interrupted_run_goes_on(spx, data, monkeypatch):
    from spx_cli.evaluation.scoring import Scoring

    straight = spx(*data, "--json").out
    assert cache() == []
    real, scored = Scoring.score, []

    def score(self, task):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(task.entry.id)
        return real(self, task)

    monkeypatch.setattr(Scoring, "score", score)
    code, out, err = spx(*data)
    assert (code, out) == (130, "")
    (kept,) = cache()
    assert f"results so far are kept in {kept}; the same command with --resume goes on" in err
    monkeypatch.setattr(Scoring, "score", lambda self, task: real(self, scored.append(task.entry.id) or task))
    scored.clear()
    assert spx(*data, "--resume", "--json").out == straight
    assert scored == ["c"]
    assert cache() == []


def test_rows_can_be_kept(spx, data, tmp_path):
    assert spx(*data, "--rows", "rows.jsonl").code == 0
    assert (tmp_path / "rows.jsonl").read_text().count("\n") == 4
    assert spx(*data, "--rows", "rows.jsonl", "--resume").code == 0
    code, _, err = spx(*data, "--rows", "rows.jsonl", "--resume", "--metric", "asa")
    assert code == 2
    assert "leave out --resume to begin anew" in err


def test_a_home_that_cannot_be_written_does_not_matter(spx, data, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPX_HOME", str(tmp_path / "file"))
    assert spx(*data).code == 0


# The terminal


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(spx_cli.__file__).parents[1])}


def test_a_bar_on_a_terminal_only(data, tmp_path):
    command = [sys.executable, "-m", "spx_cli", "eval", "--data", "data", "-m", "slic", "-k", "9", "--metric", "co"]
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**environment(), "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=follower
    )
    os.close(follower)
    drawn = b""
    try:
        while chunk := os.read(leader, 4096):
            drawn += chunk
    except OSError:
        pass
    os.close(leader)
    out = process.communicate()[0]
    assert process.returncode == 0
    assert b"images/s" in drawn
    assert out.startswith(b"method\tasked\tk\tco\n")


def test_every_metric_and_protocol_can_be_asked_for(spx, data):
    names = [name for name, metric in METRICS.items() if metric.needs != "flow"]
    code, out, _ = spx(*data, "--json", *(part for name in names for part in ("--metric", name)))
    assert code == 0
    assert set(json.loads(out)["rows"][0]) >= set(names)
    for protocol in PROTOCOLS:
        code, out, _ = spx(*data, "--json", "--protocol", protocol)
        assert code == 0
        assert json.loads(out)["protocol"] == protocol


def test_the_workflow_runs_as_written(tmp_path):
    """Every `run` of the workflow in examples/, but for the installation; `spx` and `python` are those of this test."""
    root = Path(spx_cli.__file__).parents[2]
    text = (root / "examples/superpixels-ci.yml").read_text()
    steps = re.findall(r"- run: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", text)
    commands = [block or line for block, line in steps]
    assert len(commands) == 3
    assert "pip install" in commands[0]
    (tmp_path / "examples").symlink_to(root / "examples")
    here = f'python() {{ "{sys.executable}" "$@"; }}; spx() {{ python -m spx_cli "$@"; }}; set -e\n'
    process = subprocess.run(
        ["bash", "-c", here + "\n".join(commands[1:])],
        cwd=tmp_path,
        env={**environment(), "GITHUB_STEP_SUMMARY": "summary.md"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "| pass | snic at 100: br >= 0.85" in (tmp_path / "summary.md").read_text()
    listed = re.search(r"path: \|\n((?: {12}.*\n)+)", text)[1].split()
    for name in listed:
        assert (tmp_path / name).stat().st_size


def test_a_range_for_the_images(spx, data, tmp_path):
    for name in "abc":
        Image.fromarray(np.linspace(0, 3000, 768).astype(np.uint16).reshape(SIZE)).save(
            tmp_path / f"data/images/{name}.png"
        )
    code, out, err = spx("--data", "data", "-m", "snic", "-k", 6, "--metric", "ev", "--json")
    assert code == 0
    assert "data/images/a.png: its values, 0 to 3000, use little of the range" in err
    assert "3 pictures use little of their range; --range 0 3000 fits all of them" in err
    code, other, err = spx("--data", "data", "-m", "snic", "-k", 6, "--metric", "ev", "--json", "--range", 0, 3000)
    assert (code, err) == (0, "")
    document = json.loads(other)
    assert document["data"]["range"] == [0, 3000]
    assert document["summary"][0]["ev"] > json.loads(out)["summary"][0]["ev"]
    code, _, err = spx(*data, "--max-pixels", 700)
    assert code == 1
    assert "more than the limit of 700" in err


def test_two_reports_do_not_share_a_file(spx, data):
    code, _, err = spx(*data, "--json", "a.out", "--markdown", "./a.out")
    assert (code, err.count("\n")) == (2, 1)
    assert not Path("a.out").exists()
    assert spx(*data, "--json", os.devnull, "--markdown", os.devnull).code == 0


def test_rows_replace_no_file_of_something_else(spx, data):
    Path("notes.txt").write_text("mine\n")
    code, _, err = spx(*data, "--rows", "notes.txt")
    assert (code, err.count("\n")) == (1, 1)
    assert Path("notes.txt").read_text() == "mine\n"
