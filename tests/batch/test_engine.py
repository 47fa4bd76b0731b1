"""What is done to every image, in this process and in others."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import standin
from photos import picture, segment, statuses, tree
from spx_cli.batch import engine
from spx_cli.batch.engine import Run, segment_files
from spx_cli.batch.job import SegmentJob
from spx_cli.batch.manifest import Manifest
from spx_cli.batch.plan import LABELS, plan
from spx_cli.errors import WeightsError
from spx_cli.io import FORMATS, read_labels
from spx_cli.methods import create
from spx_cli.options import SegmentOptions
from spx_cli.pool import spread
from standin import StandIn
from waiting import wait_until


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


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_bytes_twice(photos, format):
    segment("photos", "one", format=format)
    segment("photos", "two", format=format)
    assert tree("one") == tree("two")
    assert len(tree("one")) == 5


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


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


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
    monkeypatch.setattr(StandIn, "device", "cuda:0", raising=False)
    monkeypatch.setattr("spx_cli.device.cores", lambda: 16)
    asked = []

    def instead(job, tasks, begin, jobs, executor):
        asked.append(jobs)
        yield from ()

    monkeypatch.setattr(engine, "_in_processes", instead)
    for jobs in (0, 3):
        segment(photos, f"out{jobs}", jobs=jobs)
    assert asked == [4, 3]


def test_workers_get_whole_groups(tmp_path):
    for i in range(70):
        picture(tmp_path / f"in/{i:02}.png", seed=i)

    class Kept(ThreadPoolExecutor):
        def submit(self, function, portion):
            sizes.append(len(portion))
            return super().submit(function, portion)

    sizes = []
    with Kept(1) as executor:
        segment(tmp_path / "in", tmp_path / "out", jobs=1, batch_size=3, executor=executor)
    assert sum(sizes) == 70
    assert {size % 3 for size in sizes[:-1]} == {0}


def test_a_guide_works_where_it_is_told_to(photos):
    assert segment_files("snic", photos, "out", contours="fcn", guide_device="cpu").job.guide.method.device == "cpu"
    assert segment_files(create("ssn", device="cpu"), photos, "out", contours="fcn").job.guide.method.device == "cpu"


def test_what_came_to_be_since_the_start_is_not_replaced(photos):
    run = segment_files(StandIn(), photos, "out", n_segments=4)
    again = segment_files(StandIn(), photos, "out", n_segments=4)
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"somebody's")
    results = {Path(r.output).name if "sub" not in r.output else "sub": r for r in run}
    assert results["a.png"].status == "failed"
    assert "since the start, and only --overwrite" in results["a.png"].error
    assert results["b.png"].status == "done"
    assert Path("out/a.png").read_bytes() == b"somebody's"
    Path("out/a.png").unlink()
    assert statuses(again) == ["done"] * 5  # the others hold just what they should
    assert [path.name for path in Path("out").glob(".spx-*")] == [".spx-manifest.jsonl"]
