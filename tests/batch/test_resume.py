"""Runs that go on where others ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from photos import picture, segment, statuses, tree
from spx_cli.batch.engine import segment_files
from spx_cli.batch.manifest import NAME, Made, Manifest
from spx_cli.errors import ParameterError
from standin import StandIn
from waiting import wait_until


def test_resume_passes_over_what_is_done(photos):
    segment("photos", "out")
    first = tree("out")
    StandIn.groups.clear()
    records = segment("photos", "out", resume=True)
    assert statuses(records) == ["skipped"] * 5
    assert {r.k for r in records} == {4}
    assert StandIn.groups == []
    assert tree("out") == first


def test_resume_makes_anew_what_has_another_content(photos):
    segment("photos", "out")
    first = tree("out")
    Path("out/a.png").write_bytes(b"")
    Path("out/z.png").write_bytes(Path("photos/z.png").read_bytes())
    assert sorted(statuses(segment("photos", "out", resume=True))) == ["done"] * 2 + ["skipped"] * 3
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
