"""What a run leaves, and how another goes on."""

import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from runs import TRAINEE, assert_equal, read_log, run
from spx_cli.errors import OutputError, ParameterError, WeightsError
from spx_cli.io.files import alone_in
from spx_cli.methods import create
from spx_cli.training.loop import train
from spx_cli.training.state import State
from spx_cli.training.validation import Validation
from spx_cli.weights import provenance
from trainee import RECIPE, Trainee, samples


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_a_checkpoint_and_resume_ends_alike(straight, tmp_path, monkeypatch, signum):
    before = signal.getsignal(signum)
    with monkeypatch.context() as patched:
        patched.setattr(Trainee, "before_step", lambda self, net, step: step == 5 and signal.raise_signal(signum))
        records = train(Trainee(), samples(), samples(2), RECIPE, tmp_path)
        assert [next(records).step for _ in range(5)] == [1, 2, 3, 4, 5]
        with pytest.raises(KeyboardInterrupt):
            next(records)
    assert signal.getsignal(signum) == before
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 6
    torch.manual_seed(99)
    records = run(tmp_path, resume=True)
    assert [r.step for r in records] == list(range(7, 13))
    assert [line["step"] for line in read_log(tmp_path) if "loss" in line] == list(range(1, 13))
    assert_equal(tmp_path, straight[0])
    assert_equal(tmp_path, straight[0], "best")


def test_between_the_lines_signals_are_the_callers(tmp_path, monkeypatch):
    """And one that comes late in a step stops the next, without a line that may be the last to be asked for."""
    records = train(Trainee(), samples(), samples(2), RECIPE, tmp_path)
    assert next(records).step == 1
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(Validation, "asa", lambda *_: signal.raise_signal(signal.SIGINT) or 0.5)
    assert [next(records).step for _ in range(2)] == [2, 3]
    with pytest.raises(KeyboardInterrupt):
        next(records)
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5


def test_killed_at_random_and_resumed_ends_alike(straight, tmp_path):
    """The acceptance test: kill -9 whenever the dice say, then resume."""
    command = [sys.executable, TRAINEE, str(tmp_path), "norm"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not (tmp_path / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.06))
    process.kill()
    _, complaint = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), complaint.decode()
    run(tmp_path, resume=True)
    assert_equal(tmp_path, straight[0])
    steps = [line["step"] for line in read_log(tmp_path) if "loss" in line]
    assert steps == list(range(1, 13))
    assert not [p for p in tmp_path.iterdir() if p.name not in known_files()]


def known_files():
    return {"checkpoint.pt", "log.jsonl", "best.safetensors", "last.safetensors"}


def test_weights_to_start_from(straight, tmp_path):
    start = load_file(straight[0] / "last.safetensors")
    records = run(tmp_path, replace(RECIPE, steps=1), Trainee(dropout=0.0), start=start)
    assert records[0].loss < straight[1][0].loss
    stated = [provenance(folder / "last.safetensors").get("start") for folder in (straight[0], tmp_path)]
    assert stated[0] is None
    assert len(stated[1]) == 16
    other = {name: value + 1 for name, value in start.items()}
    with pytest.raises(ParameterError, match="it began"):
        run(tmp_path, replace(RECIPE, steps=1), Trainee(dropout=0.0), start=other, resume=True)


def test_out_with_a_run_is_refused_without_resume(straight):
    with pytest.raises(ParameterError, match="--resume"):
        run(straight[0])


def test_out_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(OutputError, match=f"{name}: cannot be written"):
            run(tmp_path / name)


def test_two_runs_do_not_share_a_folder(tmp_path):
    with alone_in(tmp_path), pytest.raises(OutputError, match="another process is writing there"):
        run(tmp_path)
    assert run(str(tmp_path))[-1].step == RECIPE.steps


def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(straight, tmp_path, largest_file):
    out = tmp_path / "run"
    shutil.copytree(straight[0], out)
    before = (out / "checkpoint.pt").read_bytes()
    longer = replace(RECIPE, steps=RECIPE.steps + 1)
    with (
        largest_file(len(before) - 1000),
        pytest.raises(OutputError, match=r"checkpoint\.pt: cannot be written: File too"),
    ):
        run(out, longer, resume=True)
    assert (out / "checkpoint.pt").read_bytes() == before
    assert run(out, longer, resume=True)[-1].step == longer.steps
    assert not list(out.glob(".spx-*"))


def test_a_damaged_log_keeps_its_whole_lines(straight, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(straight[0], out)
    with (out / "log.jsonl").open("ab") as log:
        log.write(b'[1]\n{"step": "six"}\n\xff\xfe{\n{"ste')
    before = read_log(straight[0])
    run(out, replace(RECIPE, steps=RECIPE.steps + 1), resume=True)
    assert read_log(out)[: len(before)] == before


@pytest.mark.parametrize(
    ("recipe", "method", "data", "message"),
    [
        (replace(RECIPE, lr=1.0), Trainee(), None, "lr was 0.02, is 1.0"),
        (RECIPE, Trainee(dropout=0.1), None, "dropout"),
        (RECIPE, Trainee(), samples(3), "pairs was 10, is 6"),
    ],
)
def test_another_run_is_not_resumed(straight, recipe, method, data, message):
    with pytest.raises(ParameterError, match=message):
        run(straight[0], recipe, method, data, resume=True)


def test_a_finished_run_resumes_to_nothing_and_exports_again(straight, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes((straight[0] / "checkpoint.pt").read_bytes())
    assert run(tmp_path, replace(RECIPE, validate_every=3), resume=True) == []
    assert load_file(tmp_path / "last.safetensors").keys() == load_file(straight[0] / "last.safetensors").keys()


def test_a_resumed_run_may_become_longer(straight, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes((straight[0] / "checkpoint.pt").read_bytes())
    assert [r.step for r in run(tmp_path, replace(RECIPE, steps=14), resume=True)] == [13, 14]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(straight, tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes((straight[0] / "checkpoint.pt").read_bytes()[:3000] if content is None else content)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt"):
        run(tmp_path, resume=True)


def spoiled():
    """Ways to spoil what a checkpoint holds, each a place and what to put there; None takes it away."""
    yield from (((name,), None) for name in ("about", "network", "ema", "optimizer", "step", "asa", "best", "rng"))
    yield from (((name,), [1]) for name in ("about", "network", "ema", "optimizer", "step", "asa", "best", "rng"))
    yield from ((("network", name), value) for name in ("0.weight", "1.running_var") for value in (None, 1.0))
    yield ("network", "0.weight"), torch.zeros(4, 3, 3)
    yield ("ema", "1.num_batches_tracked"), torch.zeros((), dtype=torch.float32)
    yield ("ema", "more"), torch.zeros(1)
    yield from ((("about", name), torch.zeros(2)) for name in ("recipe", "data"))
    yield ("about", "recipe"), None
    yield ("cuda_rng",), 3
    yield ("rng",), torch.zeros(3, dtype=torch.uint8)
    yield ("rng",), torch.full_like(torch.get_rng_state(), 255)
    yield ("best",), {"asa": 1.0}
    yield ("step",), -1
    yield ("optimizer", "state"), None
    yield ("optimizer", "state", 0), None  # a parameter may be without a gradient: accepted below
    yield from ((("optimizer", "state", i), {}) for i in (0, 99))
    yield ("optimizer", "state", 0, "exp_avg"), None
    yield ("optimizer", "state", 0, "exp_avg"), torch.zeros(2)
    yield ("optimizer", "state", "0"), {}


def test_every_part_of_a_checkpoint_is_checked_before_it_is_used(straight, tmp_path):
    refused = 0
    for place, value in spoiled():
        content = torch.load(straight[0] / "checkpoint.pt", weights_only=True)
        inner = content
        for name in place[:-1]:
            inner = inner[name]
        if value is None:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        torch.save(content, tmp_path / "checkpoint.pt")
        if place == ("optimizer", "state", 0) and value is None:
            assert len(run(tmp_path, replace(RECIPE, steps=13), resume=True)) == 1
            continue
        with pytest.raises(WeightsError, match=r"checkpoint\.pt is .*damaged"):
            run(tmp_path, resume=True)
        refused += 1
    assert refused == len(list(spoiled())) - 1


def test_a_resumed_run_says_what_it_started_from(straight, tmp_path):
    start = load_file(straight[0] / "last.safetensors")
    run(tmp_path, replace(RECIPE, steps=2), start=start)
    about = provenance(tmp_path / "last.safetensors")
    run(tmp_path, replace(RECIPE, steps=4), resume=True)
    assert provenance(tmp_path / "last.safetensors")["start"] == about["start"]


def test_the_checkpoint_knows_the_best_weights(tmp_path, monkeypatch):
    recipe = replace(RECIPE, checkpoint_minutes=9)
    records = train(Trainee(), samples(), samples(2), recipe, tmp_path)
    while next(records).step < 7:
        pass
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["step"] == content["best"]["step"] == int(provenance(tmp_path / "best.safetensors")["steps"]) == 4


@pytest.mark.parametrize("interrupted", [False, True])
def test_who_stops_asking_for_lines_leaves_a_checkpoint(straight, tmp_path, interrupted):
    recipe = replace(RECIPE, checkpoint_minutes=9)

    def watch(records):
        for record in records:
            torch.rand(1)  # a random state that is not the run's
            if record.step == 7 and interrupted:
                raise KeyboardInterrupt
            if record.step == 7:
                break

    with pytest.raises(KeyboardInterrupt) if interrupted else nullcontext():
        watch(train(Trainee(), samples(), samples(2), recipe, tmp_path))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 7
    for _ in train(Trainee(), samples(), samples(2), recipe, tmp_path, resume=True):
        pass
    assert_equal(tmp_path, straight[0])


def test_best_weights_that_a_kill_left_out_are_written_at_the_next_start(straight, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("spx_cli.training.loop._export", kill)
        with pytest.raises(Killed):
            run(tmp_path)
    assert not (tmp_path / "best.safetensors").exists()
    next(train(Trainee(), samples(), samples(2), RECIPE, tmp_path, resume=True))
    assert provenance(tmp_path / "best.safetensors")["steps"] == "4"


def test_a_run_along_contours_is_resumed_along_them(tmp_path):
    method = create("lnsnet", device="cpu")
    recipe = replace(RECIPE, steps=1, crop=32, validate_every=0)
    run(tmp_path, recipe, method, contours="fcn")
    with pytest.raises(ParameterError, match="contours was 'fcn', is None"):
        run(tmp_path, replace(recipe, steps=2), method, resume=True)


def test_what_is_validated_on_stays_known_while_nothing_is_validated(tmp_path):
    state = State(Trainee(), RECIPE, torch.device("cpu"), None)
    state.step = 1
    about = {"recipe": {}, "validated": "a"}
    state.save(tmp_path / "checkpoint.pt", about)
    assert state.load(tmp_path / "checkpoint.pt", {"recipe": {}}) == about
    with pytest.raises(ParameterError, match="to validate on have another content"):
        state.load(tmp_path / "checkpoint.pt", {**about, "validated": "b"})
