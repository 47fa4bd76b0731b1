"""Which images a run works on, and where its results go."""

import os
from pathlib import Path

import numpy as np
import pytest

from photos import picture, segment, statuses, tree
from spx_cli.batch.engine import segment_files
from spx_cli.batch.inputs import collect, read_list
from spx_cli.batch.plan import LABELS, plan
from spx_cli.errors import NothingToDo, ParameterError, UnknownName
from spx_cli.io import read_image, read_labels
from spx_cli.options import SegmentOptions
from standin import StandIn


def test_folders_are_mirrored_and_hidden_files_passed_over(photos):
    picture(photos / ".hidden.png")
    picture(photos / ".cache/a.png")
    (photos / "notes.txt").write_text("no image")
    (photos / "raw.HEIC").touch()
    (photos / "sub/raw.heic").touch()
    found, barren, notes = collect(["photos"], (".png", ".jpg"))
    assert [str(i.relative) for i in found] == ["a.png", "b.png", "z.png", "sub/a.png", "sub/deep/c.JPG"]
    assert barren == []
    assert notes == ["photos: passed over what is no picture by its name: 2 .heic, 1 .txt"]


def test_patterns_are_mirrored_below_their_fixed_part(photos):
    found, _, notes = collect(["photos/**/*.png"], (".png",))
    assert sorted(str(i.relative) for i in found) == ["a.png", "b.png", "sub/a.png", "z.png"]
    assert notes == []
    for pattern, fitting in [
        ("photos/**", ["a.png", "b.png", "sub/a.png", "z.png"]),
        ("photos/**/[!a].*", ["b.png", "z.png"]),
        ("photos/**/sub/*", ["sub/a.png"]),
        ("photos/*/**/a.png", ["sub/a.png"]),
    ]:
        assert sorted(i.source.removeprefix("photos/") for i in collect([pattern], (".png",)).inputs) == fitting


def test_folders_that_fit_a_pattern_are_told(photos):
    found, _, notes = collect(["photos/*"], (".png",))
    assert [i.source for i in found] == ["photos/a.png", "photos/b.png", "photos/z.png"]
    assert notes == ["photos/*: passed over 1 folders, such as photos/sub; name them, or use **"]


@pytest.mark.parametrize("source", ["photos", "photos/**/*.png", "photos/**"])
def test_links_are_followed_but_not_in_circles(photos, tmp_path, source):
    picture(tmp_path / "store/deep/l.png")
    (photos / "scene").symlink_to(tmp_path / "store")
    (photos / "again").symlink_to("scene")
    (tmp_path / "store/deep/back").symlink_to("..")
    (photos / "up").symlink_to(tmp_path)
    (photos / "self").symlink_to("self")
    (photos / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "pipe.png")
    found, barren, notes = collect([source], (".png",))
    names = ["a.png", "b.png", "gone.png", "z.png", "again/deep/l.png", "scene/deep/l.png", "sub/a.png"]
    assert sorted(str(i.relative) for i in found) == sorted(names)
    assert barren == []
    loops = [note.partition(": leads back")[0] for note in notes if "leads back to a folder in which it lies" in note]
    assert sorted(loops) == ["photos/again/deep/back", "photos/scene/deep/back", "photos/up"]


def test_links_of_two_folders_to_each_other(tmp_path):
    for name, other in (("one", "two"), ("two", "one")):
        picture(tmp_path / f"{name}/x.png")
        (tmp_path / f"{name}/to").symlink_to(tmp_path / other)
    found = collect([str(tmp_path / "one")], (".png",)).inputs
    assert [str(i.relative) for i in found] == ["x.png", "to/x.png"]


def test_a_folder_that_cannot_be_entered_is_a_failure(photos, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path) == "photos/sub":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert collect(["photos"], (".png",)).barren == [("photos/sub", "Permission denied")]
    results = list(segment("photos", "out"))
    assert next((r.status, r.error) for r in results) == ("failed", "photos/sub: Permission denied")


def test_named_files_are_mirrored_below_the_folder_they_share(photos):
    named = ["photos/b.png", "photos/sub/a.png", "photos/missing.png"]
    assert [str(i.relative) for i in collect(named, (".png",)).inputs] == ["b.png", "sub/a.png", "missing.png"]
    assert str(collect(["photos/sub/a.png"], (".png",)).inputs[0].relative) == "a.png"


def test_a_file_named_like_a_pattern_is_a_file(photos):
    picture(photos / "[1].png")
    assert [i.source for i in collect(["photos/[1].png"], (".png",)).inputs] == ["photos/[1].png"]


def test_an_image_found_twice_is_one_input(photos):
    assert len(collect(["photos", "photos/a.png", "photos/*.png"], (".png",)).inputs) == 4


def test_sources_without_images_are_told(photos):
    (photos / "empty").mkdir()
    (photos / "sub/x.heic").touch()
    barren = collect(["photos/empty", "photos/*.bmp", "photos/sub/*.heic"], (".png",)).barren
    assert barren == [
        ("photos/empty", "no images in there"),
        ("photos/*.bmp", "no images in there"),
        ("photos/sub/*.heic", "no images in there, but 1 .heic"),
    ]


@pytest.mark.parametrize(
    ("data", "null"),
    [(b"a.png\r\n\nb b.png", False), (b"\xef\xbb\xbfa.png\nb b.png", False), (b"a.png\0b b.png\0", True)],
)
def test_lists(tmp_path, data, null):
    (tmp_path / "list").write_bytes(data)
    assert read_list(str(tmp_path / "list"), null=null) == ["a.png", "b b.png"]


def test_names_in_lists_are_bytes(tmp_path):
    (tmp_path / "list").write_bytes(b"caf\xe9.png\n")
    assert os.fsencode(read_list(str(tmp_path / "list"))[0]) == b"caf\xe9.png"


def test_one_image_goes_beside_you(photos):
    (record,) = segment("photos/a.png", overlay="mean")
    assert (record.output, record.overlay) == ("a.labels.png", "a.overlay.png")
    assert read_labels("a.labels.png").shape == read_image("a.overlay.png").shape[:2] == (6, 8)


def test_the_suffix_of_out_decides_on_the_format(photos):
    assert segment("photos/a.png", "x/y.npy")[0].output == "x/y.npy"
    assert len(np.unique(np.load("x/y.npy"))) == 4


def test_a_pipe_takes_any_format_and_is_never_in_the_way(photos):
    os.mkfifo("pipe")
    assert plan(["photos/a.png"], "pipe", SegmentOptions(), None, False, LABELS).format == "png"
    assert plan(["photos/a.png"], "pipe", SegmentOptions(), "csv", False, LABELS).format == "csv"


def test_one_input_needs_no_list(photos):
    for inputs in ("photos", Path("photos")):
        assert len(segment_files(StandIn(), inputs, "out", n_segments=4)) == 5


def test_one_image_into_a_folder(photos):
    assert segment("photos/a.png", "out", format="npz")[0].output == "out/a.npz"


def test_many_images_mirror_their_tree(photos):
    records = segment("photos", "out", overlay="boundaries")
    assert statuses(records) == ["done"] * 5
    assert sorted(tree("out")) == sorted(
        f"{stem}{end}" for stem in ("a", "b", "z", "sub/a", "sub/deep/c") for end in (".png", ".overlay.png")
    )


def test_outputs_inside_the_input_tree_are_no_inputs(photos):
    segment("photos", "photos/out")
    assert len(segment("photos", "photos/out", overwrite=True)) == 5


@pytest.mark.parametrize(
    ("inputs", "out", "options", "error", "message"),
    [
        (["photos"], None, {}, ParameterError, "-o FOLDER"),
        (["photos/a.png", "photos/b.png"], "x.png", {}, ParameterError, "x.png is a file"),
        (["photos/a.png", "photos/./a.png"], "out", {}, ParameterError, "would both write"),
        (["photos"], "photos", {}, ParameterError, "would replace the input"),
        (["photos/a.png"], "photos/a.png", {}, ParameterError, "would replace the input"),
        (["photos/a.png"], "x.npy", {"format": "mat"}, ParameterError, "end it in .mat"),
        (["photos/a.png"], "x.jpg", {}, UnknownName, ".jpg"),
        (["photos"], "out", {"format": "tif"}, UnknownName, "did you mean 'tiff'"),
        (["photos"], "out", {"overlay": "means"}, UnknownName, "did you mean 'mean'"),
        (["photos"], "out", {"overlay": "mean", "color": "blu-ish"}, ParameterError, "blu-ish"),
        (["photos"], "out", {"n_segments": 0}, ParameterError, ">= 1"),
        (["photos"], "out", {"n_segments": 70_000}, ParameterError, "png holds 65536 ids, not 70000; use"),
        (["photos"], "out", {"n_segments": 70_000, "dry_run": True}, ParameterError, "png holds 65536 ids"),
        (["photos/a.png"], "photos/a.png/x.png", {}, ParameterError, "photos/a.png is a file, not a folder"),
        (["photos"], "photos/a.png/x", {}, ParameterError, "photos/a.png is a file, not a folder"),
        (["photos"], "out", {"value_range": (1.0, 0.0)}, ParameterError, "black below white"),
        ([], "out", {}, NothingToDo, "no inputs"),
        (["photos/*.bmp"], "out", {}, NothingToDo, "photos/*.bmp"),
    ],
)
def test_refused_before_work_starts(photos, inputs, out, options, error, message):
    before = tree(".")
    with pytest.raises(error) as caught:
        segment(inputs, out, **options)
    assert message in str(caught.value)
    assert tree(".") == before


def test_inputs_are_not_written_to_through_links(photos):
    before = tree(".")
    Path("link.png").symlink_to("photos/a.png")
    Path("out").mkdir()
    Path("out/z.png").hardlink_to("photos/b.png")
    for out in ("link.png", "out/z.png"):
        with pytest.raises(ParameterError, match="would replace the input"):
            segment(
                ["photos/z.png", "photos/a.png", "photos/b.png"] if "/" in out else "photos/a.png",
                out.partition("/")[0],
                overwrite=True,
            )
    assert {name: tree(".")[name] for name in before} == before


def test_two_images_of_one_stem_collide_before_work_starts(photos):
    picture(photos / "a.bmp")
    with pytest.raises(ParameterError, match=r"a.bmp and .*a.png would both write"):
        segment("photos", "out")
    assert not Path("out").exists()


def test_existing_outputs_are_kept_unless_overwrite(photos):
    picture(Path("out/b.png"), size=(1, 1))
    before = tree("out")
    with pytest.raises(ParameterError, match=r"out/b.png exists: --overwrite or --resume"):
        segment("photos", "out")
    assert tree("out") == before
    assert statuses(segment("photos", "out", overwrite=True)) == ["done"] * 5
    assert tree("out")["b.png"] != before["b.png"]


def test_dry_run_touches_nothing(photos):
    assert statuses(segment("photos", "out", dry_run=True)) == ["planned"] * 5
    assert not Path("out").exists()
