import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import standin
from spx_cli.batch import engine
from spx_cli.batch.engine import Run, segment_files
from spx_cli.batch.inputs import collect, read_list
from spx_cli.batch.job import SegmentJob
from spx_cli.batch.manifest import NAME, Made, Manifest
from spx_cli.batch.plan import LABELS, plan
from spx_cli.errors import NothingToDo, ParameterError, UnknownName, WeightsError
from spx_cli.io import FORMATS, read_image, read_labels
from spx_cli.options import SegmentOptions
from spx_cli.pool import spread
from standin import StandIn


def picture(path, *, size=(6, 8), corner=(9, 9, 9), seed=0):
    """Write a small image of noise and return its path."""
    pixels = np.random.default_rng(seed).integers(0, 250, (*size, 3), np.uint8)
    pixels[0, 0] = corner
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Five images in a tree, and the folder above it as the current one."""
    monkeypatch.chdir(tmp_path)
    StandIn.groups.clear()
    for i, name in enumerate(["a.png", "b.png", "sub/a.png", "sub/deep/c.JPG", "z.png"]):
        picture(tmp_path / "photos" / name, seed=i)
    return tmp_path / "photos"


def segment(inputs, out=None, **options):
    options = {"n_segments": 4, **options}
    return list(segment_files(StandIn(), inputs, out, **options))


def tree(folder):
    """Contents by relative path, of everything but the manifest."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != NAME
    }


def statuses(records):
    return [record.status for record in records]


# --- inputs


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


# --- plans


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


# --- failures


def test_bad_files_are_named_and_the_rest_goes_on(photos):
    whole = (photos / "sub/deep/c.JPG").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").touch()
    (photos / "text.png").write_text("not a picture")
    records = segment(["photos", "missing.png"], "out")
    failed = {record.input: record.error for record in records if record.status == "failed"}
    assert set(failed) == {"photos/cut.jpg", "photos/empty.png", "photos/text.png", "missing.png"}
    assert all(error.startswith(name) and "\n" not in error for name, error in failed.items())
    assert "No such file" in failed["missing.png"]
    assert len(tree("out")) == 5


def test_folders_without_images_fail_beside_others(photos):
    (photos / "empty").mkdir()
    records = segment(["photos/a.png", "photos/empty"], "out")
    assert [(r.status, r.as_json()["output"]) for r in records] == [("failed", None), ("done", "out/a.png")]


def test_too_many_segments_fail_that_image_alone(photos):
    picture(photos / "tiny.png", size=(1, 2))
    failed = [r for r in segment("photos", "out") if r.status == "failed"]
    assert [r.input for r in failed] == ["photos/tiny.png"]
    assert "between 1 and the number of pixels, 2" in failed[0].error
    assert failed[0].exit_code == 2


def test_a_bug_in_a_method_costs_one_image(photos, caplog):
    picture(photos / "bug.png", corner=(255, 0, 0))
    failed = [r for r in segment("photos", "out", batch_size=3) if r.status == "failed"]
    assert [r.error for r in failed] == ["photos/bug.png: RuntimeError: red makes me fail"]
    assert "Traceback" in caplog.text


def test_an_interrupt_that_compiled_code_made_an_error_stops_the_run(photos, monkeypatch):
    def interrupted(*_, **__):
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    monkeypatch.setattr(StandIn, "segment_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        segment("photos", "out")


def test_damaged_weights_stop_the_run(photos):
    picture(photos / "aa.png", corner=(0, 255, 0))
    with pytest.raises(WeightsError, match="damaged"):
        segment("photos", "out")


def test_unwritable_outputs_are_failures(photos):
    Path("out").mkdir()
    Path("out/sub").write_text("a file where a folder should be")
    records = segment("photos", "out")
    assert sorted(r.input for r in records if r.status == "failed") == ["photos/sub/a.png", "photos/sub/deep/c.JPG"]


def test_a_full_disk_leaves_nothing_under_a_final_name(photos, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    records = segment("photos", "out")
    assert {r.error.partition(": ")[2] for r in records if "a.png" in r.input} >= {
        "out/a.png: cannot be written: No space left on device"
    }
    assert tree("out") == {}


@pytest.mark.parametrize(("allowed", "seen"), [(0, 1), (1, 2), (9, 3)])
def test_max_failures_stops_the_run(photos, allowed, seen):
    for name in ("1.png", "2.png", "3.png"):
        (photos / name).touch()
    failures = statuses(segment("photos", "out", max_failures=allowed)).count("failed")
    assert failures == seen


# --- groups, order and memory


def test_images_of_one_size_are_segmented_together(photos):
    for i in range(5):
        picture(photos / f"wide{i}.png", size=(4, 16), seed=i)
    segment("photos", "out", batch_size=4)
    assert sum(map(len, StandIn.groups)) == 10
    assert all(len(set(group)) == 1 and len(group) <= 4 for group in StandIn.groups)
    assert max(map(len, StandIn.groups)) == 4


def test_groups_do_not_change_results(photos):
    picture(photos / "wide.png", size=(4, 16))
    segment("photos", "one")
    segment("photos", "four", batch_size=4)
    assert tree("one") == tree("four")


def test_few_images_are_read_ahead(tmp_path, monkeypatch):
    paths = [picture(tmp_path / "in" / f"{i:03}.png") for i in range(100)]
    reads = count(1)
    taken = []
    begin = Manifest.begin
    monkeypatch.setattr(Manifest, "begin", lambda self, *args: (taken.append(next(reads)), begin(self, *args)))
    ahead = [taken[-1] - done for done, _ in enumerate(segment_files(StandIn(), paths, tmp_path / "out", n_segments=4))]
    assert max(ahead) <= 40  # 32 may wait to be written


def test_a_method_object_is_used_as_it_is(photos):
    class Counting(StandIn):
        def segment_batch(self, *args, **options):
            self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
            return super().segment_batch(*args, **options)

    method = Counting()
    list(segment_files(method, ["photos"], "out", n_segments=4))
    assert method.__dict__["calls"] == 5


# --- resume


def test_resume_passes_over_what_is_done(photos):
    segment("photos", "out")
    first = tree("out")
    StandIn.groups.clear()
    records = segment("photos", "out", resume=True)
    assert statuses(records) == ["skipped"] * 5
    assert {r.k for r in records} == {4}
    assert StandIn.groups == []
    assert tree("out") == first


@pytest.mark.parametrize("change", [{"n_segments": 5}, {"format": "npy"}, {"overlay": "mean"}, {"raw": True}])
def test_resume_makes_anew_with_other_parameters(photos, change):
    segment("photos", "out")
    assert statuses(segment("photos", "out", resume=True, **change)) == ["done"] * 5


def test_resume_makes_anew_what_other_weights_made(photos):
    Path("w").write_bytes(b"1")
    method = StandIn(weights="w")
    assert statuses(segment_files(method, ["photos"], "out", n_segments=4)) == ["done"] * 5
    Path("w").write_bytes(b"2")
    assert statuses(segment_files(method, ["photos"], "out", n_segments=4, resume=True)) == ["done"] * 5


def test_resume_makes_anew_what_changed(photos):
    segment("photos", "out")
    picture(photos / "b.png", seed=99)
    Path("out/z.png").unlink()
    done = [r.input for r in segment("photos", "out", resume=True) if r.status == "done"]
    assert sorted(done) == ["photos/b.png", "photos/z.png"]


def test_resume_leaves_files_of_others_alone(photos):
    picture(Path("out/b.png"), size=(1, 1))
    before = tree("out")
    with pytest.raises(ParameterError, match="no earlier run made it"):
        segment("photos", "out", resume=True)
    assert tree("out") == before
    assert statuses(segment("photos", "out", resume=True, overwrite=True)) == ["done"] * 5


def test_what_a_killed_run_was_writing_goes(photos):
    for name in ("out/.spx-0123.part", "out/sub/.spx-4567.part", "out/other.part"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    segment("photos", "out", dry_run=True)
    assert len(list(Path("out").rglob("*.part"))) == 3
    segment("photos", "out")
    assert list(Path("out").rglob("*.part")) == [Path("out/other.part")]


def test_resume_after_a_run_that_was_cut_off(photos):
    segment("photos", "whole")
    run = iter(segment_files(StandIn(), ["photos"], "cut", n_segments=4))
    next(run), next(run)
    run.close()
    # As if killed between the renaming of an output and its line, and within the last line.
    lines = (Path("cut") / NAME).read_bytes().splitlines(keepends=True)
    done = [line for line in lines if json.loads(line)[1][2]]
    (Path("cut") / NAME).write_bytes(b"".join(line for line in lines if line not in done[1:]) + b'["z.png", "sp')
    records = segment("photos", "cut", resume=True)
    assert sorted(statuses(records)) == ["done"] * 4 + ["skipped"]
    assert tree("cut") == tree("whole")
    assert statuses(segment("photos", "cut", resume=True)) == ["skipped"] * 5


def test_one_image_resumes_too(photos):
    assert [segment("photos/a.png", "x.png", resume=True)[0].status for _ in range(2)] == ["done", "skipped"]


def test_what_a_damaged_line_says_counts_for_nothing(photos):
    segment("photos", "out")
    lines = (Path("out") / NAME).read_bytes().splitlines(keepends=True)
    for damage in (b"4", b'"'), (b"4", b"5"), (b", ", b",\n"), (b"[", b"[" * 100_000):
        (Path("out") / NAME).write_bytes(b"".join([*lines[:-1], lines[-1].replace(*damage)]))
        records = segment("photos", "out", resume=True)
        assert sorted(statuses(records)) == ["done"] + ["skipped"] * 4
        assert {r.k for r in records} == {4}


def test_a_torn_line_does_not_swallow_the_next(tmp_path):
    (tmp_path / NAME).write_bytes(b'["torn')
    with Manifest(tmp_path) as manifest:
        manifest.done(tmp_path / "a.png", Made("recipe", "digest", 3))
    assert Manifest(tmp_path).entries == {"a.png": Made("recipe", "digest", 3)}


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_bytes_twice(photos, format):
    segment("photos", "one", format=format)
    segment("photos", "two", format=format)
    assert tree("one") == tree("two")
    assert len(tree("one")) == 5


# --- processes


def test_workers_give_the_same_bytes(photos):
    (photos / "bad.png").touch()
    picture(photos / "bug.png", corner=(255, 0, 0))
    one, two = segment("photos", "one", overlay="mean"), segment("photos", "two", overlay="mean", jobs=2)
    assert tree("one") == tree("two")
    assert {r.input: r.error for r in one} == {r.input: r.error for r in two}


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_own_image(photos):
    picture(photos / "blue.png", corner=(0, 0, 255))
    for i in range(30):
        picture(photos / f"more{i}.png")
    records = segment("photos", "out", jobs=2)
    failed = [r.error for r in records if r.status == "failed"]
    assert len(failed) == 1
    assert failed[0].startswith("photos/blue.png: its worker process died")
    assert len([name for name in tree("out") if name.endswith(".png")]) == 35


def test_any_executor_will_do(photos):
    with ThreadPoolExecutor(2) as pool:
        segment("photos", "one", executor=pool, jobs=2)
    segment("photos", "two")
    assert tree("one") == tree("two")


def test_spread_takes_few_items_ahead():
    taken = []
    items = (taken.append(i) or i for i in range(50))
    with ThreadPoolExecutor(2) as pool:
        ahead = [len(taken) - done for done, _ in enumerate(spread(standin.double, items, jobs=2, executor=pool))]
    assert max(ahead) <= 6
    assert len(taken) == 50


def test_a_worker_that_dies_costs_its_own_item():
    results = dict(spread(standin.double_or_die, range(8), jobs=2))
    assert results == {i: None if i == 3 else 2 * i for i in range(8)}


def test_workers_run_one_kernel_thread():
    assert dict(spread(standin.threads, [1], jobs=1)) == {1: "1 1"}


def test_workers_go_with_their_parent(tmp_path):
    code = (
        "import pathlib, standin; from spx_cli.pool import spread\n"
        f"if __name__ == '__main__': list(spread(standin.leave_pid, [pathlib.Path({str(tmp_path)!r})], jobs=1))"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    wait_until(lambda: any(path.name.isdigit() for path in tmp_path.iterdir()))
    worker = next(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(worker))


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_kill_and_resume_gives_the_bytes_of_an_undisturbed_run(tmp_path, jobs):
    for i in range(24):
        picture(tmp_path / "in" / f"{i:02}.png", size=(120, 160), seed=i)
    command = [sys.executable, "-m", "spx_cli", "segment", str(tmp_path / "in"), "-q", "--jobs", str(jobs)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    subprocess.run([*command, "-o", str(tmp_path / "whole")], env=environment, check=True, stdout=subprocess.DEVNULL)
    cut = [*command, "-o", str(tmp_path / "cut"), "--resume"]
    for stop in (1, 13):
        run = subprocess.Popen(cut, env=environment, stdout=subprocess.DEVNULL)
        wait_until(lambda stop=stop: len(list((tmp_path / "cut").glob("*.png"))) >= stop)
        run.send_signal(signal.SIGKILL)
        run.wait()
        for path in (tmp_path / "cut").glob("*.png"):
            assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
    subprocess.run(cut, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole = {name: data for name, data in tree(tmp_path / "cut").items() if not name.endswith(".part")}
    assert whole == tree(tmp_path / "whole")


# Files in parts


@dataclass(frozen=True)
class Halves(SegmentJob):
    """Segments the two halves of each image on their own."""

    def parts(self, image):
        return [image[: len(image) // 2], image[len(image) // 2 :]]

    def join(self, image, made):
        upper, lower = made
        return np.concatenate([upper, lower + upper.max() + 1])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_file_may_go_to_the_method_in_parts(photos, batch_size):
    picture(photos / "b.png", corner=(255, 0, 0))  # its upper half fails
    options = SegmentOptions(n_segments=2, batch_size=batch_size, format="png")
    planned = plan(["photos"], "out", options, "png", False, LABELS)
    run = Run(job=Halves(StandIn(), options, StandIn().identity()), plan=planned, executor=None)
    assert sorted(statuses(run)) == ["done"] * 4 + ["failed"]
    assert sorted(tree("out")) == ["a.png", "sub/a.png", "sub/deep/c.png", "z.png"]
    whole = read_labels("out/a.png")
    assert whole.shape == (6, 8)
    assert np.unique(whole[:3]).tolist() == [0, 1]
    assert np.unique(whole[3:]).tolist() == [2, 3]
    assert {size for group in StandIn.groups for size in group} == {(3, 8)}
    assert max(map(len, StandIn.groups)) == batch_size


def test_a_gpu_has_a_process_for_four_cores(photos, monkeypatch):
    monkeypatch.setattr(SegmentJob, "device", "cuda:0")
    monkeypatch.setattr(engine, "cores", lambda: 16)
    asked = []

    def instead(job, tasks, begin, jobs, executor):
        asked.append(jobs)
        yield from ()

    monkeypatch.setattr(engine, "_in_processes", instead)
    for jobs in (0, 3):
        segment(photos, f"out{jobs}", jobs=jobs)
    assert asked == [4, 3]
