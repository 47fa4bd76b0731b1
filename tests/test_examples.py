"""The scripts in examples/ do what they say; training through superpixels and CI are tested beside their subjects."""

import os
import subprocess
import sys
import tarfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spx_cli

EXAMPLES = Path(spx_cli.__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def sh(tmp_path):
    """Run a script in a folder of its own; `spx` is that of this test."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/spx").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m spx_cli "$@"\n')
    (tmp_path / "bin/spx").chmod(0o755)
    source = str(Path(spx_cli.__file__).parents[1])
    changed = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": source}

    def call(name, *args):
        return subprocess.run(
            ["sh", EXAMPLES / name, *args],
            cwd=tmp_path,
            env=os.environ | changed | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )

    return call


def test_the_pipeline_takes_what_can_be_read_and_goes_on_where_it_was(sh, tmp_path):
    shapes = import_module("shapes")
    shapes.main(tmp_path / "data", 2)
    (tmp_path / "data/images/broken.png").write_bytes(b"no picture")
    first = sh("pipeline.sh", "data/images", "out", "-k", "20")
    assert first.returncode == 1
    assert "data/images/broken.png" in first.stderr
    (tmp_path / "data/images/broken.png").unlink()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    again = sh("pipeline.sh", "data/images", "out", "-k", "20")
    assert (again.returncode, again.stdout) == (0, "2 maps in out/maps.tar.gz\n")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")} == done
    assert len(done) == 4  # two maps, two overlays
    with tarfile.open(tmp_path / "out/maps.tar.gz") as archive:
        assert sorted(archive.getnames()) == ["out/000.png", "out/001.png"]


@pytest.mark.slow
def test_a_method_is_trained_on_a_folder(sh, tmp_path):
    import_module("shapes").main(tmp_path / "data", 10)
    result = sh("train_on_folder.sh", "data", "run", "--steps", "2", "--batch-size", "1", "--crop", "48")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "run/maps").glob("*.png"))) == 10


def test_the_features_of_regions_by_hand():
    example = import_module("region_features")
    labels = np.array([[0, 0, 1], [2, 0, 1]], np.int32)
    image = np.zeros((2, 3, 3), np.uint8)
    image[labels == 0] = [255, 51, 0]
    image[1, 2] = [0, 0, 102]
    regions = example.region_features(image, labels)
    np.testing.assert_allclose(regions.color, [[1, 0.2, 0], [0, 0, 0.2], [0, 0, 0]])
    assert regions.area.tolist() == [3, 2, 1]
    np.testing.assert_allclose(regions.centroid, [[1 / 3, 2 / 3], [0.5, 2], [1, 0]])
    assert regions.edge_index.T.tolist() == [[0, 1], [0, 2], [1, 0], [2, 0]]


def test_a_graph_of_regions_is_learned_from():
    assert import_module("region_features").main() > 0.85


def test_an_explanation_finds_the_regions_that_count():
    example = import_module("explain")
    image = spx_cli.read_image(EXAMPLES / "chelsea.jpg")[100:180, 100:220]
    labels = spx_cli.segment(image, "slic", 24)
    counts = np.isin(labels, [3, 11])
    weights = example.explain(lambda images: (images[:, counts] == image[counts]).mean((1, 2)), image, labels)
    share = np.bincount(labels[counts], minlength=24) / counts.sum()
    np.testing.assert_allclose(weights, share, atol=0.1)
    assert set(weights.argsort()[-2:]) == {3, 11}
    pictured = example.tint(image, labels, weights)
    assert pictured.shape == image.shape


def blob():
    """A red blob amid green, and where it is, (40, 60)."""
    y, x = np.indices((40, 60))
    inside = (y - 20) ** 2 + (x - 33) ** 2 < 81
    noise = np.random.default_rng(0).integers(0, 20, (40, 60, 3))
    return (np.where(inside[..., None], (190, 60, 50), (60, 150, 70)) + noise).astype(np.uint8), inside


def test_what_differs_from_the_background_is_salient():
    saliency = import_module("saliency")
    image, inside = blob()
    found = saliency.saliency(image, spx_cli.segment(image, "slic", 60))
    assert (found.min(), found.max()) == (0, 1)
    assert found[inside].mean() > 0.7
    assert found[~inside].mean() < 0.1
    flat = np.full((40, 60, 3), 99, np.uint8)
    assert not saliency.saliency(flat, spx_cli.segment(flat, "slic", 20)).any()


def test_what_spans_the_frame_is_more_connected_to_it_than_what_hardly_touches_it():
    saliency = import_module("saliency")
    labels = np.zeros((6, 9), np.int32)
    labels[2:6, 3:6] = 1
    labels[3, 4] = 2
    near = saliency.touching(labels)
    assert near.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    between = 100.0 * (1 - np.eye(3))
    frame = np.array([True, True, False])
    assert np.allclose(saliency.frame_connectivity(between, near, frame), [1, 1, 0])
    between[:2, :2] = 0  # as if of one colour: two regions span each other
    assert np.allclose(saliency.frame_connectivity(between, near, frame), [2**0.5, 2**0.5, 0], atol=1e-6)


def test_the_table_of_saliency(tmp_path, capsys):
    saliency = import_module("saliency")
    image, inside = blob()
    for folder, picture in (("images", image), ("ground_truth_mask", inside.astype(np.uint8) * 255)):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture).save(tmp_path / folder / ("1.jpg" if folder == "images" else "1.png"))
    saliency.main([str(tmp_path), "-m", "slic", "-k", "50", "-k", "200", "--exact"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:4] for row in rows] == [["| slic", "50", "50", "1"], ["| slic", "200", "200", "1"]]
    assert all(float(row[4]) < 0.1 for row in rows)
    assert [row[5] for row in rows] == ["- |", "0.1719 |"]
    own = saliency.measure(tmp_path, "slic", 50)
    assert own.regions != 50
    assert own.error != float(rows[0][4])
