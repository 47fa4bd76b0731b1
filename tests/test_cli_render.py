"""spx render and spx methods."""

import json
import sys
from pathlib import Path

import pytest

from spx_cli.io import read_image
from spx_cli.methods import METHODS
from started import picture


def test_render(spx):
    picture("a.png")
    spx("segment", "a.png", "-m", "standin", "-k", 4)
    assert spx("render", "a.labels.png", "a.png") == (0, "a.overlay.png\n", "")
    assert spx("render", "a.labels.png", "a.png", "-o", "b.png", "--mode", "mean", "--color", "red").code == 0
    assert read_image("b.png").shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["a.labels.png", "small.png"], 1, "24 x 32, expected 2 x 2"),
        (["a.labels.png", "missing.png"], 1, "missing.png: No such file"),
        (["small.png", "a.png"], 1, "small.png: "),
        (["a.labels.png", "a.png", "--mode", "means"], 2, "did you mean 'mean'"),
        (["a.labels.png", "a.png", "--color", "blu"], 2, "blu"),
        (["a.labels.png", "a.png", "-o", "a.png"], 2, "a.png exists; --overwrite"),
        (["a.labels.png", "a.png", "-o", "x.pdf"], 2, ".pdf"),
    ],
)
def test_render_refuses(spx, args, code, message):
    picture("a.png")
    picture("small.png", size=(2, 2))
    spx("segment", "a.png", "-m", "standin", "-k", 4)
    result = spx("render", *args)
    assert (result.code, result.err.count("\n")) == (code, 1)
    assert message in result.err


@pytest.mark.parametrize("name", ["a.png", "a.labels.png"])
def test_render_replaces_no_input(spx, name):
    picture("a.png")
    spx("segment", "a.png", "-m", "standin", "-k", 4)
    content = Path(name).read_bytes()
    code, _, err = spx("render", "a.labels.png", "a.png", "-o", f"./{name}", "--overwrite")
    assert (code, err.count("\n")) == (2, 1)
    assert Path(name).read_bytes() == content


def test_methods_list(spx):
    rows = [json.loads(line) for line in spx("methods", "list", "--json").out.splitlines()]
    assert [row["name"] for row in rows] == list(METHODS)
    figures = ["asa", "asa_images", "ms", "ratio", "ms_images"]
    assert all(list(row) == ["name", "kind", "labels", "paper", "summary", *figures] for row in rows)
    assert all(row[key] for row in rows for key in row.keys() - figures)
    plain = spx("methods", "list").out.splitlines()
    assert plain[0].split("\t") == ["name", "kind", "labels", "asa", "ms", "summary"]
    assert [line.split("\t")[0] for line in plain] == ["name", *METHODS]


def test_methods_list_has_a_line_for_each_on_a_terminal_too(spx, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    _, out, err = spx("methods", "list")
    drawn = out.splitlines()
    rows = [line for line in drawn if line.startswith("│")]
    assert [line.split()[1] for line in rows] == list(METHODS)
    assert all(len(line) == 90 for line in rows)
    assert len(drawn) == len(rows) + 4  # the head, and three lines of the frame
    assert [line.partition(":")[0] for line in err.splitlines()] == ["asa", "ms"]


def test_the_figures_of_methods_say_on_what_they_rest(spx):
    rows = [json.loads(line) for line in spx("methods", "list", "--json").out.splitlines()]
    listed = [line.split("\t") for line in spx("methods", "list").out.splitlines()[1:]]
    for row, cells in zip(rows, listed, strict=True):
        few = "" if row["asa_images"] == 200 else f" on {row['asa_images']}"
        assert cells[3] == (f"{row['asa']:.4f}{few}" if row["asa"] else "-")
        assert cells[4] == (f"{row['ms']:g}" if row["ms"] else "-")
    measured = next(row for row in rows if row["asa"] and row["ms"])
    shown = spx("methods", "show", measured["name"]).out
    assert f"asa {measured['asa']:.4f} on {measured['asa_images']} images: BSDS500 test" in shown
    assert f"ms {measured['ms']:g}, ratio {measured['ratio']:g} on {measured['ms_images']} images: " in shown


def test_methods_show(spx):
    row = json.loads(spx("methods", "show", "slic", "--json").out)
    assert row.keys() >= {"name", "kind", "paper", "summary", "doc", "parameters"}
    parameter = next(p for p in row["parameters"] if p["name"] == "compactness")
    assert parameter["type"] == "float"
    assert parameter["bounds"].startswith(">")
    assert parameter["help"]
    plain = spx("methods", "show", "slic").out
    assert row["paper"] in plain
    assert f"compactness\tfloat\t{parameter['default']}\t" in plain
