"""What is said of methods before they are imported is what they say themselves."""

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from spx_cli.methods import METHODS, create
from spx_cli.methods._catalogue import FILE, describe, read

README = Path(__file__).parents[1] / "README.md"
FIGURES = ("asa", "asa_images", "ms", "ratio", "ms_images")


@pytest.mark.parametrize("name", METHODS)
def test_the_catalogue_says_what_the_method_says(name):
    row = read()["methods"][name]
    described = describe(type(create(name)))
    assert {**row, **dict.fromkeys(FIGURES)} == described, "run python examples/catalogue.py"
    assert list(row) == list(described)


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script that writes the catalogue, and where it writes now."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    module = import_module("catalogue")
    for name in ("FILE", "README"):
        kept = getattr(module, name)
        (tmp_path / "kept").mkdir(exist_ok=True)
        monkeypatch.setattr(module, name, shutil.copy(kept, tmp_path / "kept" / kept.name))
    return module


def test_the_catalogue_is_what_its_script_writes(script):
    script.main([])
    assert script.FILE.read_text() == FILE.read_text()
    assert script.README.read_text() == README.read_text(), "figures of README.md come from the catalogue"


def test_figures_are_taken_from_results(script, tmp_path):
    def rows(method, asa, images):
        return [{"method": method, "k_requested": 400, "image": str(i), "asa": asa} for i in range(images)]

    def result(name, **changed):
        kinds = {method: repr(create(method)) for method in METHODS}
        document = {"methods": kinds, "metrics": ["asa"], "data": {"split": "test"}, "protocol": "stutz", **changed}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))

    result("all", rows=[row for method in METHODS for row in rows(method, 0.5, 2)])
    result("more", rows=rows("slic", 0.75, 3))
    result("others", rows=rows("slic", 1.0, 9), methods={"slic": "SLIC(compactness=1.0)"})
    result("val", rows=rows("slic", 1.0, 9), data={"split": "val"})
    found = [{"method": name, "k_requested": 400, "ms_min": 2.0, "ratio": 0.25} for name in (*METHODS, "skimage-slic")]
    place = {"cpu": "A processor", "repeats": 5, "load": [1.0, 3.4], "timed": ["a", "b"]}
    result("times", rows=[], summary=found, bench=place, threads=1)
    result(
        "times-slow",
        rows=[],
        summary=[{**row, "ms_min": 9e4} for row in found],
        bench={**place, "timed": ["a"]},
        threads=1,
    )
    script.main(["--data", "unread", "--results", str(tmp_path)])
    catalogue = json.loads(script.FILE.read_text())
    slic, snic = (catalogue["methods"][name] for name in ("slic", "snic"))
    assert [slic[key] for key in FIGURES] == [0.75, 3, 2.0, 0.25, 2]
    assert [snic[key] for key in FIGURES] == [0.5, 2, 2.0, 0.25, 2]
    assert [catalogue["methods"]["rim"][key] for key in ("ms", "ms_images")] == [9e4, 1]
    assert catalogue["ms"].startswith("A processor under a load of 3, 1 thread")
    assert "\n| `slic` | .7500 | 2 | .25 |" in script.README.read_text()
