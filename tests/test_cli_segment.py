"""spx segment, as users type it."""

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spx_cli
from spx_cli.io import read_image, read_labels
from spx_cli.regions import maps
from started import picture, process

KEYS = {"input", "output", "method", "params", "device", "k_requested", "k", "seconds", "status", "error"}


@pytest.fixture
def photos(tmp_path):
    for i, name in enumerate(["a.png", "b.jpg", "sub/c.png"]):
        picture(tmp_path / "photos" / name, seed=i)
    return "photos"


def test_segment_one_image(spx):
    picture("a.png")
    assert spx("segment", "a.png", "-m", "slic", "-k", 12, "--overlay", "boundaries") == (0, "a.labels.png\n", "")
    found = read_labels("a.labels.png")
    maps.check(found)
    assert (found.shape, found.max() + 1) == ((24, 32), 12)
    assert read_image("a.overlay.png").shape == (24, 32, 3)


def test_segment_a_folder(spx, photos):
    result = spx("segment", photos, "-m", "standin", "-k", 5, "-o", "out")
    assert result.code == 0
    assert sorted(result.out.split()) == ["out/a.png", "out/b.png", "out/sub/c.png"]
    assert result.err.startswith("spx: 3 done in ")
    assert all(read_labels(path).max() + 1 == 5 for path in result.out.split())


def test_json_is_one_object_a_line(spx, photos):
    Path("photos/bad.png").touch()
    result = spx("segment", photos, "-m", "slic", "-p", "iterations=2", "-k", 5, "-o", "out", "--json")
    assert result.code == 1
    rows = {row["input"]: row for row in map(json.loads, result.out.splitlines())}
    assert all(row.keys() >= {*KEYS, "version", "repr", "overlay"} for row in rows.values())
    good, bad = rows["photos/a.png"], rows["photos/bad.png"]
    assert good["params"]["iterations"] == 2
    assert "iterations=2" in good["repr"]
    assert (good["method"], good["device"], good["k_requested"], good["k"]) == ("slic", "cpu", 5, 5)
    assert (good["status"], good["error"], good["output"]) == ("done", None, "out/a.png")
    assert good["seconds"] > 0
    assert (bad["status"], bad["k"], bad["seconds"]) == ("failed", None, None)
    assert bad["error"] == "photos/bad.png: the file is empty"


def test_a_bad_directory(spx):
    """One truncated JPEG, one empty PNG, one text file called .png, two good images: two results, three named."""
    for name in ("1.png", "2.jpg", "cut.jpg"):
        picture(f"photos/{name}")
    cut = Path("photos/cut.jpg")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    Path("photos/empty.png").touch()
    Path("photos/text.png").write_text("these are not pixels")
    result = spx("segment", "photos", "-m", "standin", "-k", 5, "-o", "out")
    assert result.code == 1
    assert sorted(result.out.split()) == ["out/1.png", "out/2.png"]
    summary, *errors = sorted(result.err.splitlines())
    for name, line in zip(["cut.jpg", "empty.png", "text.png"], errors, strict=True):
        assert line.startswith(f"spx: error: photos/{name}: ")
    assert "2 done" in summary
    assert "3 failed" in summary


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["missing.png"], 1, "missing.png: No such file or directory"),
        (["photos/empty"], 3, "photos/empty: no images in there"),
        (["photos/*.webp"], 3, "photos/*.webp: no images in there"),
        ([], 3, "no inputs"),
        (["photos/a.png", "-k", "769"], 2, "between 1 and the number of pixels, 768"),
        (["photos/a.png", "--max-pixels", "700"], 1, "--max-pixels"),
        (["photos/nan.tif"], 1, "photos/nan.tif: "),
        (["photos/a.png", "photos/missing.png", "-o", "out"], 1, "photos/missing.png: No such file"),
        (["photos", "--fail-fast", "-o", "out"], 1, "photos/nan.tif: "),
    ],
)
def test_bad_input_is_named(spx, photos, args, code, message):
    import tifffile

    Path("photos/empty").mkdir()
    tifffile.imwrite("photos/nan.tif", np.full((24, 32), np.nan, np.float32))
    result = spx("segment", *args, "-q", "-m", "standin")
    assert (result.code, result.err.count("\n")) == (code, 1)
    assert message in result.err


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (5, 7)])
@pytest.mark.parametrize("black", [True, False])
def test_small_and_constant_images(spx, size, black):
    Image.fromarray(np.full((*size, 3), 0 if black else 255, np.uint8)).save("a.png")
    for k in {1, size[0] * size[1]}:
        assert spx("segment", "a.png", "-m", "slic", "-k", k, "--overwrite").code == 0
        found = read_labels("a.labels.png")
        maps.check(found)
        assert found.max() + 1 == k


@pytest.mark.parametrize(("failures", "code"), [([], 1), (["--max-failures", 1], 1), (["--max-failures", 2], 0)])
def test_allowed_failures(spx, photos, failures, code):
    for name in ("bad.png", "worse.png"):
        Path(photos, name).touch()
    assert spx("segment", photos, "-m", "standin", "-o", "out", *failures).code == code


def test_overwrite_and_resume(spx, photos):
    args = ["segment", photos, "-m", "standin", "-o", "out"]
    assert spx(*args).code == 0
    refused = spx(*args)
    assert refused.code == 2
    assert "and 2 more exist: --overwrite or --resume" in refused.err
    resumed = spx(*args, "--resume", "--json")
    assert [json.loads(line)["status"] for line in resumed.out.splitlines()] == ["skipped"] * 3
    assert spx(*args, "--overwrite").code == 0


def test_dry_run(spx, photos):
    result = spx("segment", photos, "-m", "standin", "-o", "out", "--dry-run")
    assert result.code == 0
    assert "planned\tphotos/sub/c.png\tout/sub/c.png\n" in result.out
    assert not Path("out").exists()


def test_standard_input_and_output(spx):
    picture("a.png")
    with Path("a.png").open("rb") as image, Path("labels.png").open("wb") as out:
        assert process("segment", "-", "-k", 7, "-o", "-", stdin=image, stdout=out).wait() == 0
    assert read_labels("labels.png").max() + 1 == 7


def test_one_image_from_standard_input(spx):
    picture("a.png")
    result = spx("segment", "-", "-m", "standin", stdin=Path("a.png").read_bytes())
    assert (result.code, result.out) == (0, "stdin.labels.png\n")
    failed = spx("segment", "-", "-m", "standin", "--overwrite", stdin=b"")
    assert (failed.code, failed.err) == (1, "spx: error: -: the file is empty\n")


@pytest.mark.parametrize(("flags", "end"), [([], b"\n"), (["-0"], b"\0")])
def test_lists_of_inputs(spx, photos, flags, end):
    names = end.join([b"photos/a.png", b"photos/sub/c.png"]) + end
    result = spx("segment", "--from-file", "-", *flags, "-m", "standin", "-o", "out", "-q", stdin=names)
    assert (result.code, sorted(result.out.split())) == (0, ["out/a.png", "out/sub/c.png"])


def test_seed_weights_and_parameters_reach_the_method(spx):
    picture("a.png")
    args = ["segment", "a.png", "-m", "standin", "--overwrite", "--json"]
    row = json.loads(spx(*args, "--seed", 7, "--weights", "w.bin").out)
    assert row["params"] == {"merge": "loss", "border_price": 0, "seed": 7, "weights": "w.bin"}


def test_verbose_tells_of_each_image(spx):
    picture("a.png")
    assert "a.png: 200 superpixels in " in spx("segment", "a.png", "-m", "standin", "-v").err


def test_the_reader_may_leave(spx):
    for i in range(40):
        picture(f"photos/{i:02}.png")
    command = ["segment", "photos", "-k", 5, "-o", "out", "--json"]
    with process(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert json.loads(reader.stdout.readline())["status"] == "done"
        reader.stdout.close()
        assert reader.stderr.read() == b""
    assert reader.returncode == 1


def test_a_terminal_gets_a_bar_and_a_table(spx, photos):
    terminal, end = pty.openpty()
    run = process("segment", photos, "-k", 5, "-o", "out", stdin=end, stdout=end, stderr=end)
    os.close(end)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # how Linux says that the other side has gone
            break
    os.close(terminal)
    assert run.wait() == 0
    assert b"images/s" in shown
    assert b"done" in shown
    assert b"out/a.png" not in shown


@pytest.fixture
def deep(tmp_path):
    """Three pictures of 16 bits whose values end at 3000, 3010 and 12."""
    import tifffile

    (tmp_path / "deep").mkdir()
    for name, high in (("a", 3000), ("b", 3010), ("c", 12)):
        tifffile.imwrite(
            tmp_path / f"deep/{name}.tif", np.linspace(0, high, 768).round().reshape(24, 32).astype(np.uint16)
        )
    return "deep"


@pytest.mark.parametrize("jobs", [1, 2])
def test_values_that_use_little_of_their_range_are_told_once(spx, deep, jobs):
    code, _, err = spx("segment", deep, "-o", "out", "-m", "snic", "-k", 4, "--jobs", jobs)
    first, total, _ = err.splitlines()
    assert code == 0
    assert re.fullmatch(
        r"spx: deep/.\.tif: its values, 0 to (\d+), use little of the range from 0 to 65535, so that few shades are "
        r"left; unless that is meant, say --range 0 \1 or --range auto",
        first,
    )
    assert total == "spx: 3 pictures use little of their range; --range 0 3010 fits all of them"
    assert spx("segment", deep, "-o", "quiet", "-m", "standin", "-q").err == ""


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (["--range", "0", "3000"], (0, 3000)),
        (["--range=0,3000"], (0, 3000)),
        (["--range", "0,3000"], (0, 3000)),
        (["--range", "-10", "3e3"], (-10, 3000)),
        (["--range", "auto"], "auto"),
    ],
)
def test_a_range_as_it_may_be_typed(spx, deep, given, same):
    code, _, err = spx("segment", "deep/a.tif", "-m", "snic", "-k", 9, *given, "-o", "a.npy")
    assert (code, err) == (0, "")
    image = spx_cli.read_image("deep/a.tif", value_range=same)
    assert np.array_equal(np.load("a.npy"), spx_cli.segment(image, "snic", 9))
    assert spx("render", "a.npy", "deep/a.tif", *given, "-o", "a.png")[::2] == (0, "")


@pytest.mark.parametrize(
    "given", [["--range", "1"], ["--range", "high"], ["--range", "3", "2"], ["--range", "nan", "1"]]
)
def test_a_range_that_is_none(spx, deep, given):
    code, _, err = spx("segment", "deep/a.tif", *given, "-m", "standin")
    assert code == 2
    assert "range" in err
    assert err.count("\n") == 1


def test_lines_of_a_thickness(spx, tmp_path):
    Image.new("RGB", (32, 24)).save("a.png")
    args = ("segment", "a.png", "-m", "standin", "-k", 2, "--overlay", "boundaries", "--color", "white", "--overwrite")
    spx(*args, "--thickness", 3, "-o", "a.labels.png")
    thick = read_image("a.overlay.png")
    assert thick[:, 0, 0].sum() / 255 == 3
    spx("render", "a.labels.png", "a.png", "--color", "white", "--thickness", 3, "-o", "b.png")
    assert np.array_equal(read_image("b.png"), thick)
    spx(*args, "-o", "a.labels.png")
    assert read_image("a.overlay.png")[:, 0, 0].sum() / 255 == 1
