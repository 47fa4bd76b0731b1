import json
import tomllib

import numpy as np
import pytest
from PIL import Image

from spx_cli.cli import run
from spx_cli.methods import METHODS
from trainee import RECIPE, samples


@pytest.fixture(autouse=True)
def _listed(monkeypatch):
    monkeypatch.setitem(METHODS, "trainee", "trainee:Trainee")


@pytest.fixture
def folder(tmp_path):
    """Six images and their label maps, without splits."""
    for sample in samples(6):
        for kind, array in (("images", sample.image), ("labels", sample.truths[0].astype(np.uint8))):
            path = tmp_path / "data" / kind / f"{sample.id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "data"


def train(folder, *args):
    return run(["train", "trainee", "--data", str(folder), "--out", str(folder.parent / "run"), *args])


def test_a_folder_of_ones_own(folder, capsys):
    assert train(folder, "--steps", "3", "--set", "log_every=1") == 0
    out, err = capsys.readouterr()
    assert (folder.parent / "run" / "last.safetensors").exists()
    assert "step 3/3  loss" in err
    assert "last.safetensors\tsha256 " in out


def test_json_lines(folder, capsys):
    assert train(folder, "--steps", "2", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[0]["asa"] is None


def test_recipe_then_file_then_set_then_option(folder, tmp_path, capsys):
    file = tmp_path / "recipe.toml"
    file.write_text("lr = 0.5\nbatch_size = 3\nsteps = 7\n")
    args = ["--config", str(file), "--set", "steps=8", "--set", "batch_size=4", "--batch-size", "5", "--show-recipe"]
    assert train(folder, *args) == 0
    recipe = tomllib.loads(capsys.readouterr().out)
    assert (recipe["lr"], recipe["steps"], recipe["batch_size"]) == (0.5, 8, 5)
    assert recipe["crop"] == RECIPE.crop
    assert not (tmp_path / "run").exists()


def test_a_shown_recipe_can_be_read_back(folder, tmp_path, capsys):
    assert train(folder, "--show-recipe") == 0
    shown = capsys.readouterr().out
    (tmp_path / "r.toml").write_text(shown)
    assert train(folder, "--config", str(tmp_path / "r.toml"), "--show-recipe") == 0
    assert capsys.readouterr().out == shown


def test_resume(folder, capsys):
    assert train(folder, "--steps", "2") == 0
    assert train(folder, "--steps", "2") == 2
    assert "already holds a run; --resume" in capsys.readouterr().err
    assert train(folder, "--steps", "2", "--resume") == 0


def test_a_resumed_run_finds_its_data_again_and_has_steps_to_take(folder, capsys):
    assert train(folder, "--steps", "2") == 0
    assert train(folder, "--steps", "1", "--resume") == 2
    assert "has taken 2 steps already, more than 1" in capsys.readouterr().err
    path = next((folder / "images").iterdir())
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.ROTATE_180)
    turned.save(path)
    assert train(folder, "--steps", "3", "--resume") == 2
    assert "images or annotations have another content" in capsys.readouterr().err


def test_a_resumed_run_is_validated_on_the_same_images(folder, capsys):
    for kind in ("images", "labels"):
        files = sorted((folder / kind).iterdir())
        for split, some in (("train", files[:4]), ("val", files[4:])):
            (folder / kind / split).mkdir()
            for path in some:
                path.rename(path.parent / split / path.name)
    options = ["--set", "validate_every=2", "--set", "validate_counts=4"]
    assert train(folder, *options, "--steps", "2") == 0
    assert train(folder, *options, "--steps", "3", "--resume") == 0
    one, other = sorted((folder / "images/val").iterdir())
    one.write_bytes(other.read_bytes())
    assert train(folder, *options, "--steps", "4", "--resume") == 2
    assert "images or annotations to validate on have another content" in capsys.readouterr().err
    assert train(folder, "--set", "validate_every=0", "--steps", "4", "--resume") == 0


def test_a_run_from_other_weights_or_of_another_split_is_told_in_words(folder, capsys):
    assert train(folder, "--steps", "2") == 0
    assert train(folder, "--steps", "3", "--resume", "--weights", str(folder.parent / "run/last.safetensors")) == 2
    assert "it began without --weights" in capsys.readouterr().err
    for kind in ("images", "labels"):
        min((folder / kind).iterdir()).unlink()
    assert train(folder, "--steps", "3", "--resume") == 2
    assert "other images or annotations are trained on (--data, --split)" in capsys.readouterr().err


def test_crops_too_small_for_batch_normalisation_are_told(folder, capsys):
    command = ["train", "elm", "--data", str(folder), "--out", str(folder.parent / "few"), "--val-split", "none"]
    assert run([*command, "--steps", "1", "--batch-size", "1", "--crop", "64"]) == 2
    assert "crop = 64 and batch_size = 1 are too little" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--recipe", "papper"], 2, "unknown recipe 'papper'; did you mean 'paper'?"),
        (["--set", "lrr=1"], 2, "unknown parameter of the recipe 'lrr'; did you mean 'lr'?"),
        (["--set", "lr=fast"], 2, "lr must be float, not 'fast'"),
        (["--lr", "0"], 2, "lr must be > 0 and <= 100, not 0.0"),
        (["--lr", "-1"], 2, "lr must be > 0 and <= 100, not -1.0"),
        (["--amp", "fp8"], 2, "amp must be one of none, tf32, bf16"),
        (["--layout", "foulder"], 2, "did you mean 'folder'?"),
        (["--split", "nowhere"], 1, "nowhere"),
        (["--config", "absent.toml"], 2, "no such file: absent.toml"),
        (["--set", "validate_counts=none"], 2, "validate_counts must be like 100,200"),
        (["--weights", "absent.safetensors"], 1, "absent.safetensors"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, args, code, message):
    assert train(folder, *args) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_method_that_is_not_trained(folder, capsys):
    assert run(["train", "slic", "--data", str(folder), "--out", "run"]) == 2
    assert "slic is not trained" in capsys.readouterr().err


def test_data_and_out_are_needed(capsys):
    assert run(["train", "trainee"]) == 2
    assert "--data DIR and --out RUN" in capsys.readouterr().err


def test_a_file_that_is_no_toml(folder, tmp_path, capsys):
    (tmp_path / "bad.toml").write_text("lr = ")
    assert train(folder, "--config", str(tmp_path / "bad.toml")) == 1
    assert "is not TOML" in capsys.readouterr().err


def test_help(capsys):
    assert run(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--resume" in out
    assert "--val-split" in out


def test_a_range_for_the_images(folder, capsys):
    for path in (folder / "images").iterdir():
        Image.fromarray(np.asarray(Image.open(path))[..., 0].astype(np.uint16)).save(path)
    assert train(folder, "--steps", "1") == 0
    assert "use little of the range from 0 to 65535" in capsys.readouterr().err
    assert (
        run(
            [
                "train",
                "trainee",
                "--data",
                str(folder),
                "--out",
                str(folder / "r"),
                "--steps",
                "1",
                "--range",
                "0",
                "255",
            ]
        )
        == 0
    )
    assert "range" not in capsys.readouterr().err
