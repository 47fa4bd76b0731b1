"""Weights of the expected loss: fitted by spx train merge, kept in files, chosen by what there is to look at."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import spx_cli as spx
from spx_cli.cli import run
from spx_cli.datasets import Dataset
from spx_cli.errors import ParameterError, WeightsError
from spx_cli.io import write_image, write_labels
from spx_cli.methods._merging import BUNDLED, judge_for, load_judge
from spx_cli.regions.costs import Judge
from spx_cli.regions.graph import region_graph
from spx_cli.training.merge_fit import Case, asa, draw
from spx_cli.types import Assignment
from spx_cli.weights import WEIGHTS, path, provenance

SMALL = ("counts=6", "stops=2,1", "pairs=40", "rounds=2", "hidden=4", "steps=40", "batch_size=64", "factor=6")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of a few flat objects, whose borders are their edges of colour."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for i in range(4):
        labels = np.zeros((40, 60), np.int32)
        labels[:, 20 + 5 * i :] = 1
        labels[15 + i : 30, 10:50] = 2
        colours = rng.integers(40, 200, (3, 3))
        noise = rng.normal(0, 12, (40, 60, 3))
        write_image(root / f"images/{i}.png", np.clip(colours[labels] + noise, 0, 255).astype(np.uint8))
        write_labels(root / f"labels/{i}.png", labels)
    return root


def command(data, out, *more):
    along = () if "--contours" in more else ("--contours", "edges")
    said = {text.partition("=")[0] for text in more if "=" in text}
    fields = [text for field in SMALL if field.partition("=")[0] not in said for text in ("--set", field)]
    return [
        "train",
        "merge",
        "-m",
        "snic",
        *along,
        "--data",
        str(data),
        "--out",
        str(out),
        *fields,
        *more,
    ]


def test_fit_is_a_command_whose_weights_merge(data, tmp_path, capsys):
    assert run(command(data, tmp_path / "run", "--json")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["fold"], line["round"]) for line in lines] == [(f, r) for f in (0, 1, None) for r in (0, 1)]
    assert all(0.5 < line["asa"] <= 1 for line in lines if line["fold"] is not None)
    best = tmp_path / "run/best.safetensors"
    about = provenance(best)
    assert (about["method"], about["methods"], about["contours"]) == ("merge", "snic", "edges")
    assert (about["scales"], about["embedded"], about["edges"]) == ("1", "0", "1")
    assert 0.5 < float(about["asa"]) <= 1
    image = spx.read_image(data / "images/0.png")
    labels = spx.segment(image, "snic", 6, contours="edges", merge=str(best))
    assert labels.max() == 5
    assert not np.array_equal(labels, spx.segment(image, "snic", 6, contours="edges", merge="ward"))
    with pytest.raises(WeightsError, match=r"best\.safetensors looks at edges of colour .* but here are contours"):
        spx.segment(image, "snic", 6, contours=np.zeros((40, 60), np.float32), merge=str(best))


def test_a_run_that_was_stopped_ends_with_the_same_weights(data, tmp_path, capsys):
    assert run(command(data, tmp_path / "whole")) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for gone in (
        "best.safetensors",
        "rounds/all-1.safetensors",
        "rounds/fold1-1.safetensors",
        "cases/00002-snic-6.npz",
    ):
        (tmp_path / "cut" / gone).unlink()
    assert run(command(data, tmp_path / "cut")) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(command(data, tmp_path / "cut", "--resume")) == 0
    whole, cut = (load_file(tmp_path / name / "best.safetensors") for name in ("whole", "cut"))
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)
    assert run(command(data, tmp_path / "cut", "--resume", "--seed", "1")) == 2
    assert "cannot resume" in capsys.readouterr().err


def test_a_run_for_other_inputs_is_not_resumed(data, tmp_path, capsys):
    assert run(command(data, tmp_path / "run")) == 0
    path = tmp_path / "run/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": "1"}))
    (tmp_path / "run/rounds/all-1.safetensors").unlink()
    assert run(command(data, tmp_path / "run", "--resume")) == 2
    assert "inputs was 1" in capsys.readouterr().err


def test_a_run_of_other_maps_or_images_is_not_resumed(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(command(data, out)) == 0
    assert run(command(data, out, "--resume")) == 0
    capsys.readouterr()
    assert run(command(data, out, "--resume", "-p", "compactness=50")) == 2
    assert "run: params snic compactness was 20.0, is 50.0\n" in capsys.readouterr().err
    assert run(command(data, out, "--resume", "--contours", "none", "--seed", "1")) == 2
    assert "run: recipe seed was 0, is 1; contours was edges, is none\n" in capsys.readouterr().err
    fewer = tmp_path / "fewer"
    shutil.copytree(data, fewer)
    (fewer / "images/3.png").unlink()
    (fewer / "labels/3.png").unlink()
    assert run(command(fewer, out, "--resume")) == 2
    assert "files was 4 images" in capsys.readouterr().err
    relabelled = tmp_path / "relabelled"
    shutil.copytree(data, relabelled)
    shutil.copy(relabelled / "labels/1.png", relabelled / "labels/0.png")
    assert run(command(relabelled, out, "--resume")) == 2
    assert "files was 4 images" in capsys.readouterr().err
    (out / "run.json").unlink()
    assert run(command(data, out)) == 2
    assert "left of another run" in capsys.readouterr().err


def test_a_run_by_other_weights_or_contour_maps_says_so(data, tmp_path, capsys):
    file, maps, out = tmp_path / "sin.safetensors", tmp_path / "maps", tmp_path / "run"
    shutil.copy(path("sin"), file)
    maps.mkdir()
    for i in range(4):
        np.save(maps / f"{i}.npy", np.zeros((40, 60), np.float32))
    words = command(data, out, "-p", f"weights={file}", "--contours", str(maps))
    words[3] = "sin"
    assert run(words) == 0
    np.save(maps / "2.npy", np.ones((40, 60), np.float32))
    assert run([*words, "--resume"]) == 2
    assert re.search(r"run: contour maps was [0-9a-f]+, is [0-9a-f]+\n", capsys.readouterr().err)
    np.save(maps / "2.npy", np.zeros((40, 60), np.float32))
    save_file({name: np.asarray(2 * array) for name, array in load_file(file).items()}, file, provenance(file))
    assert run([*words, "--resume"]) == 2
    assert re.search(r"run: weights sin was [0-9a-f]+, is [0-9a-f]+\n", capsys.readouterr().err)
    moved = file.rename(tmp_path / "moved.safetensors")
    shutil.copy(path("sin"), moved)
    words[words.index(f"weights={file}")] = f"weights={moved}"
    assert run([*words, "--resume"]) == 0


def test_a_run_of_an_earlier_spx_is_not_resumed(data, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    for text in ('{"recipe": "{}", "maps": "0123456789abcdef"}', "[]", "{"):
        (out / "run.json").write_text(text)
        assert run(command(data, out, "--resume")) == 2
        assert "run.json is damaged, or of an earlier spx" in capsys.readouterr().err


def test_too_few_images_for_the_folds_are_refused_before_the_work(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Dataset, "load", lambda *_: pytest.fail("an image was read"))
    assert run(command(data, tmp_path / "run", "--set", "folds=5")) == 1
    assert "4 images with label maps are too few for 5 folds" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_images_without_label_maps_are_told(data, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(data / "images", root / "images/known")
    shutil.copytree(data / "labels", root / "labels/known")
    shutil.copytree(data / "images", root / "images/bare")
    (root / "labels/known/3.png").unlink()
    assert run(command(root, tmp_path / "run", "--split", "known+bare", "--set", "folds=4")) == 1
    err = capsys.readouterr().err
    assert f"spx: left out: {root / 'images/known/3.png'}: no annotation of that name\n" in err
    assert "3 images with label maps are too few for 4 folds" in err
    assert run(command(root, tmp_path / "run", "--split", "known+bare")) == 0
    assert "spx: left out: 4 images that have no label map\n" in capsys.readouterr().err
    assert provenance(tmp_path / "run/best.safetensors")["images"] == "3"
    assert run(command(root, tmp_path / "none", "--split", "bare")) == 1
    assert "no image of the data set has a label map" in capsys.readouterr().err


def test_one_contour_map_is_not_for_many_images(data, tmp_path, capsys):
    np.save(tmp_path / "map.npy", np.zeros((40, 60), np.float32))
    assert run(command(data, tmp_path / "run", "--contours", str(tmp_path / "map.npy"))) == 2
    assert "is one contour map, but there are 4 images" in capsys.readouterr().err


def test_methods_along_different_contours_are_not_mixed(data, tmp_path, capsys):
    words = ["train", "merge", "-m", "snic", "-m", "slic", "--data", str(data), "--out", str(tmp_path / "run")]
    assert run([*words, "--set", "counts=6", "--set", "factor=6"]) == 2
    assert "snic and slic merge along different contours" in capsys.readouterr().err
    assert run(["train", "merge", "-m", "snic", "-m", "sin", *words[6:], "--set", "counts=6", "--set", "factor=6"]) == 2
    assert "snic and sin merge along different contours" in capsys.readouterr().err
    assert not list((tmp_path / "run").iterdir())  # the folder is free again
    for counts in ("6.5", "1e19"):
        assert run([*words, "--set", f"counts={counts}"]) == 2
        assert "counts must be whole numbers" in capsys.readouterr().err


def test_what_went_wrong_is_said_and_leaves_no_weights(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(command(data, out, "--set", "lr=100")) == 1
    assert "the fit diverged" in capsys.readouterr().err
    assert not list((out / "rounds").iterdir())
    (case, *_) = sorted((out / "cases").iterdir())
    for content in (b"", case.read_bytes()[:900], b"x"):
        case.write_bytes(content)
        assert run(command(data, out, "--set", "lr=100", "--resume")) == 2
        assert f"{case} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "field",
    [
        *("factor=1e308", "factor=-1", "stops=2,1e10", "pairs=1000000001", "rounds=1001", "steps=1000000001"),
        *("batch_size=100001", "lr=1e308", "weight_decay=101", "folds=1000001", "seed=9223372036854775808"),
    ],
)
def test_values_beyond_all_reason_are_refused(data, tmp_path, capsys, field):
    name, _, value = field.partition("=")
    assert run(command(data, tmp_path / "run", "--set", field)) == 2
    assert re.search(rf"error: {name} must be .*, not .*{re.escape(value[-3:])}", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_the_largest_values_and_ten_steps_fit(data, tmp_path):
    most = ("factor=1e9", "pairs=1000000000", "seed=9223372036854775807", "batch_size=100000", "steps=10", "rounds=1")
    fields = [text for field in (*most, "stops=1e9,1", "counts=1000000000,3") for text in ("--set", field)]
    assert run(command(data, tmp_path / "run", *fields)) == 0


def test_what_is_not_for_merge_is_refused(data, tmp_path, capsys):
    assert run(command(data, tmp_path / "run", "--crop", "64")) == 2
    assert "--crop: not for merge" in capsys.readouterr().err
    assert run(["train", "ssn", "-m", "snic", "--data", str(data), "--out", str(tmp_path / "run")]) == 2
    assert "for merge alone" in capsys.readouterr().err
    assert run(["train", "merge", "--show-recipe"]) == 0
    assert "rounds = 3" in capsys.readouterr().out


def test_drawn_pairs_say_what_merging_them_loses():
    """Three regions in a row, truth parts the last: to merge it loses all of the smaller one, the first two nothing."""
    labels = np.repeat(np.arange(3), [4, 2, 3])[None].repeat(2, 0)
    truth = (labels == 2).astype(np.int32)
    lab = np.zeros((2, 9, 3), np.float32)
    lab[labels == 2] = 50
    tables = np.array([[0, 1, 2], [0, 0, 1], [8, 4, 6]], np.int32)
    case = Case(region_graph(labels, lab), (tables, tables), 3)
    assert truth.sum() == 6
    inputs, shares, weights = draw(case, Judge.ward(), (1.0,), 10, np.random.default_rng(0))
    assert inputs.shape == (2, 14)
    assert sorted(shares.tolist()) == [0, 1]
    assert weights.tolist() == pytest.approx([4 / 6] * 2)
    assert asa(case._replace(n_regions=2), Judge.ward()) == 1


@pytest.mark.parametrize("seen", BUNDLED)
def test_bundled_weights_suit_what_there_is(seen):
    scales, embedded, edges = seen
    assert WEIGHTS[BUNDLED[seen]].method == "merge"
    contours = np.zeros((scales, 4, 4), np.float32) if scales else None
    embedding = np.zeros((2, 2, 3), np.float32) if embedded else None
    lab = np.zeros((4, 4, 3), np.float32)
    assignment = Assignment(np.zeros((4, 4), int), lab, contours=contours, embedding=embedding, edges=edges)
    judge = judge_for(assignment, "loss", 0.5)
    assert judge.border_price == 0.5
    assert load_judge(BUNDLED[seen])[1] == seen
    assert judge_for(assignment, "ward", 0.0) is None


def test_weights_for_other_inputs_are_refused():
    lab = np.zeros((4, 4, 3), np.float32)
    two = Assignment(np.zeros((4, 4), int), lab, contours=np.zeros((2, 4, 4), np.float32))
    with pytest.raises(WeightsError, match=r"no bundled weights .* contours at 2 scales"):
        judge_for(two, "loss", 0.0)
    with pytest.raises(WeightsError, match=r"merge-contours\.safetensors looks at contours at 1 scale, but"):
        judge_for(two, "merge-contours", 0.0)
    one = Assignment(two.labels, lab, contours=np.zeros((4, 4), np.float32), edges=True)
    with pytest.raises(WeightsError, match=r"merge-contours\.safetensors looks at contours .* but here are edges"):
        judge_for(one, "merge-contours", 0.0)
    with pytest.raises(WeightsError, match=r"merge-edges\.safetensors looks at edges .* but here are contours"):
        judge_for(one._replace(edges=False), "merge-edges", 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, about: about.update(inputs="0"), "version 0"),
        (lambda tensors, about: about.update(method="ssn"), "of method 'ssn'"),
        (lambda tensors, about: about.clear(), "no weights of the expected loss"),
        (lambda tensors, about: tensors.pop("out"), "damaged: 'out'"),
        (lambda tensors, about: tensors.update(hidden=tensors["hidden"][1:]), "damaged: 'hidden'"),
        (lambda tensors, about: tensors["bias"].fill(np.nan), "not finite"),
        (lambda tensors, about: about.update(scales="many"), "damaged"),
        (lambda tensors, about: about.pop("edges"), "of an earlier spx: it does not say what it looks at"),
    ],
)
def test_unfit_files_are_named(tmp_path, change, message):
    source, file = path("merge"), tmp_path / "own.safetensors"
    tensors, about = {name: array.copy() for name, array in load_file(source).items()}, provenance(source)
    change(tensors, about)
    save_file(tensors, file, about)
    with pytest.raises(WeightsError, match=message) as caught:
        load_judge(str(file))
    assert "own.safetensors" in str(caught.value)


def test_torn_and_missing_files_are_named(tmp_path):
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(path("merge").read_bytes()[:-7])
    for file in (torn, tmp_path / "none.safetensors"):
        with pytest.raises(WeightsError, match=file.name):
            spx.segment(np.zeros((8, 8, 3), np.uint8), "slic", 4, merge=str(file))
    with pytest.raises(ParameterError, match="border_price"):
        spx.create("slic", merge="ward", border_price=1.0)
    assert spx.create("elm", merge="ward").border_price > 0  # its default, which then has no part


def test_a_price_on_borders_makes_them_shorter():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)

    def length(price):
        labels = spx.segment(image, "snic", 12, border_price=price)
        return (labels[1:] != labels[:-1]).sum() + (labels[:, 1:] != labels[:, :-1]).sum()

    assert length(2.0) < length(0.0)
