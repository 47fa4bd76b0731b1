"""What a method is called by in caches and journals: what its weights are, not the name of their file."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import spx_cli
from spx_cli import weights
from spx_cli.batch.engine import segment_files
from spx_cli.contours.maps import make_maker
from spx_cli.errors import ParameterError, WeightsError
from spx_cli.io import read_labels, write_labels
from spx_cli.methods import create
from spx_cli.methods._merging import load_judge, save_judge
from spx_cli.options import ContourOptions
from trainee import Trainee, samples


@pytest.fixture
def data(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for sample in samples(2):
        Image.fromarray(sample.image).save(tmp_path / f"data/images/{sample.id}.png")
        write_labels(tmp_path / f"data/labels/{sample.id}.png", sample.truths[0])
    return tmp_path / "data"


def save(path, seed):
    torch.manual_seed(seed)
    weights.save(path, Trainee().build().state_dict(), {"method": "trainee"})
    return path


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two files of weights that give other maps, and the name under which now the one, now the other is known."""
    monkeypatch.setattr(Trainee, "name", "trainee")
    return save(tmp_path / "a.safetensors", 0), save(tmp_path / "b.safetensors", 3), tmp_path / "now.safetensors"


def scores(data, method, **options):
    return list(spx_cli.evaluate(data, method, [6], metrics=("asa", "ev"), **options).rows())


@pytest.mark.parametrize("held", [False, True], ids=["made anew", "one object"])
def test_rewritten_weights_are_scored_as_what_they_are(data, files, held):
    a, b, now = files
    expected = [scores(data, Trainee(weights=str(file))) for file in (a, b)]
    assert expected[0] != expected[1]
    method = Trainee(weights=str(now))
    for file, rows in zip((a, b, a), (*expected, expected[0]), strict=True):
        shutil.copy(file, now)
        assert scores(data, method if held else Trainee(weights=str(now))) == rows


def test_results_of_old_weights_are_not_taken_up(data, files, tmp_path):
    a, b, now = files
    shutil.copy(a, now)
    kept = tmp_path / "rows.jsonl"
    rows = scores(data, Trainee(weights=str(now)), rows=kept)
    assert scores(data, Trainee(weights=str(now)), rows=kept, resume=True) == rows
    shutil.copy(b, now)
    with pytest.raises(
        ParameterError, match=r"rows\.jsonl was made with identity .*; leave out --resume to begin anew"
    ):
        scores(data, Trainee(weights=str(now)), rows=kept, resume=True)


def test_contours_of_old_weights_are_not_taken_up(data, files, tmp_path):
    a, b, now = files
    kept, options = tmp_path / "rows.jsonl", ContourOptions(counts=(6,))

    def benchmark(**more):
        maker = make_maker(Trainee(weights=str(now)), options)
        return list(spx_cli.evaluate_contours(data, maker, thresholds=3, rows=kept, **more).rows())

    shutil.copy(a, now)
    rows = benchmark()
    assert benchmark(resume=True) == rows
    shutil.copy(b, now)
    with pytest.raises(ParameterError, match=r"rows\.jsonl was made with .* weights [0-9a-f]{64}"):
        benchmark(resume=True)
    assert benchmark() != rows


def test_files_are_segmented_with_the_weights_of_now(data, files, tmp_path):
    a, b, now = files
    method = Trainee(weights=str(now))
    for file, resume in ((a, False), (b, True)):
        shutil.copy(file, now)
        results = list(segment_files(method, [data / "images"], tmp_path / "maps", n_segments=6, resume=resume))
        assert [result.status for result in results] == ["done"] * 2
        for sample in samples(2):
            labels = read_labels(tmp_path / f"maps/{sample.id}.png")
            assert np.array_equal(labels, Trainee(weights=str(file)).segment(sample.image, 6))
    results = list(segment_files(method, [data / "images"], tmp_path / "maps", n_segments=6, resume=True))
    assert [result.status for result in results] == ["skipped"] * 2


def test_a_bound_network_is_scored_here_and_in_workers(data, files):
    a, b, _ = files
    expected = [scores(data, Trainee(weights=str(file))) for file in (a, b)]
    bound = Trainee(weights=str(a)).bind(Trainee(weights=str(b)).load())
    assert scores(data, Trainee(weights=str(a))) == expected[0]
    assert scores(data, bound) == expected[1]
    assert scores(data, pickle.loads(pickle.dumps(bound))) == expected[1]
    assert "network" not in pickle.loads(pickle.dumps(Trainee(weights=str(a)))).__dict__


def test_an_identity_names_the_weights_and_the_device_that_is_there():
    ssn = create("ssn")
    assert weights.WEIGHTS["ssn"].sha256 in ssn.identity()
    assert ("cuda" if torch.cuda.is_available() else "device='cpu'") in ssn.identity()
    slic = create("slic", compactness=3.0)
    assert slic.identity().startswith(repr(slic))


def test_weights_that_are_missing_are_refused_before_any_work(data, tmp_path):
    with pytest.raises(WeightsError, match=r"no such weights file: gone\.safetensors"):
        spx_cli.evaluate(data, create("ssn", weights="gone.safetensors"))
    with pytest.raises(WeightsError, match=r"no such weights file: gone\.safetensors"):
        segment_files(create("ssn", weights="gone.safetensors"), [data / "images"], tmp_path / "out")


def test_rewritten_weights_of_merging_are_known_by_their_content(tmp_path):
    file, image = tmp_path / "merge.safetensors", tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(image)
    judge, made_for = load_judge("merge-edges")
    maps, states = [], []
    for sign in (1, -1):
        save_judge(file, judge._replace(hidden=np.ascontiguousarray(sign * judge.hidden)), made_for, {})
        [result] = segment_files(
            create("snic", merge=str(file)), [image], tmp_path / "out.png", n_segments=8, resume=True
        )
        states.append(result.status)
        maps.append(read_labels(tmp_path / "out.png"))
    assert states == ["done", "done"]
    assert not np.array_equal(*maps)
    names = {create(name, merge=str(file)).identity() for name in ("snic", "fcn", "elm")}
    save_judge(file, judge, made_for, {})
    assert names.isdisjoint(create(name, merge=str(file)).identity() for name in ("snic", "fcn", "elm"))


def test_bundled_weights_of_merging_and_of_cells_are_part_of_the_identity():
    digests = {name: record.sha256 for name, record in weights.WEIGHTS.items()}
    assert digests["merge-edges"] in create("snic").identity()
    assert "merging by" not in create("snic", merge="ward").identity()
    assert digests["fcn"] in create("elm").identity()
