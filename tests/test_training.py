import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, safe_open

from spx_cli.datasets import Sample
from spx_cli.datasets.folder import Folder
from spx_cli.errors import DataError, LabelError, MissingExtra, OutputError, ParameterError, TrainingError, WeightsError
from spx_cli.io.files import alone_in
from spx_cli.methods import create
from spx_cli.methods._recipe import Recipe
from spx_cli.metrics import score
from spx_cli.training.augment import index
from spx_cli.training.loop import rate, train
from spx_cli.training.processes import World
from spx_cli.training.samples import Pairs, make_batch, open_samples
from spx_cli.training.state import export, make_optimizer
from spx_cli.training.validation import Validation
from spx_cli.weights import provenance
from trainee import RECIPE, Trainee, samples

TRAINEE = str(Path(__file__).with_name("trainee.py"))


def run(out, recipe=RECIPE, method=None, data=None, **options):
    data = samples() if data is None else data
    return list(train(method or Trainee(), data, samples(2), recipe, out, **options))


def read_log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_equal(out, other, name="last"):
    one, two = (load_file(folder / f"{name}.safetensors") for folder in (out, other))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Folder and records of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight")
    return out, run(out)


def test_the_loss_falls(straight):
    _, records = straight
    assert [r.step for r in records] == list(range(1, 13))
    assert np.mean([r.loss for r in records[-3:]]) < 0.7 * np.mean([r.loss for r in records[:3]])


def test_the_same_twice(straight, tmp_path):
    out, records = straight
    again = run(tmp_path)
    assert [r.loss for r in again] == [r.loss for r in records]
    assert_equal(tmp_path, out)


def test_another_seed_is_another_run(straight, tmp_path):
    assert run(tmp_path, replace(RECIPE, seed=1))[0].loss != straight[1][0].loss


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_a_checkpoint_and_resume_ends_alike(straight, tmp_path, signum):
    before = signal.getsignal(signum)
    records = train(Trainee(), samples(), samples(2), RECIPE, tmp_path)
    assert [next(records).step for _ in range(5)] == [1, 2, 3, 4, 5]
    signal.raise_signal(signum)
    with pytest.raises(KeyboardInterrupt):
        list(records)
    assert signal.getsignal(signum) == before
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 6
    torch.manual_seed(99)
    records = run(tmp_path, resume=True)
    assert [r.step for r in records] == list(range(7, 13))
    assert_equal(tmp_path, straight[0])
    assert_equal(tmp_path, straight[0], "best")


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


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, TRAINEE, str(tmp_path / "two"), "plain"], check=True, env=environment, timeout=600)
    # every pixel must count alike, or the mean of two means is not the mean
    recipe = replace(RECIPE, batch_size=4)
    one = run(tmp_path / "one", recipe, Trainee(norm=False, dropout=0.0))
    two = [line for line in read_log(tmp_path / "two") if "loss" in line]
    np.testing.assert_allclose([line["loss"] for line in two], [r.loss for r in one], rtol=2e-3)
    scores = [[line["asa"] for line in read_log(tmp_path / run) if "best" in line] for run in ("one", "two")]
    assert len(scores[0]) == 3
    np.testing.assert_allclose(*scores, atol=0.02)
    for name, tensor in load_file(tmp_path / "one" / "last.safetensors").items():
        torch.testing.assert_close(tensor, load_file(tmp_path / "two" / "last.safetensors")[name], rtol=0, atol=5e-3)


def test_two_processes_see_what_one_with_the_doubled_batch_sees():
    pairs = Pairs(samples())
    whole = make_batch(pairs, replace(RECIPE, batch_size=4), 12)
    parts = [make_batch(pairs, RECIPE, 12 + 2 * rank) for rank in range(2)]
    assert whole.ids == parts[0].ids + parts[1].ids
    np.testing.assert_array_equal(whole.images, np.concatenate([p.images for p in parts]))
    np.testing.assert_array_equal(whole.truth, np.concatenate([p.truth for p in parts]))


def test_processes_share_the_images_of_a_validation(monkeypatch):
    torch.manual_seed(0)
    network, images, cpu = Trainee().build(), samples(5), torch.device("cpu")
    alone = Validation(Trainee(), RECIPE, images, World(0, 1, cpu)).asa(network)
    told = []
    monkeypatch.setattr(World, "total", lambda self, *numbers: told.append(numbers) or [*numbers])
    for rank in range(2):
        assert Validation(Trainee(), RECIPE, images, World(rank, 2, cpu)).asa(network) != alone
    read, (first, n), also_read, (second, m) = told
    assert (read, also_read) == ((3,), (2,))
    assert (first + second) / (n + m) == pytest.approx(alone)


def test_a_batch_holds_the_samples_of_its_positions():
    pairs = Pairs(samples(5))
    for first in (0, 7):
        wanted = [pairs[index(RECIPE.seed, at, len(pairs))].id for at in range(first, first + RECIPE.batch_size)]
        assert make_batch(pairs, RECIPE, first).ids == wanted


def test_every_annotation_is_a_sample_and_ignored_pixels_are_marked():
    pairs = Pairs(samples(2))
    assert [pairs[i].id for i in range(len(pairs))] == ["s0:0", "s0:1", "s1:0", "s1:1"]
    assert (pairs[1].truth[0] == -1).all()
    assert pairs[0].truth.min() == 0


def test_a_teacher_takes_the_place_of_annotations():
    def count(image, rng):
        return np.full(image.shape[:2], rng.integers(1000))

    unlike = Sample("a", np.zeros((20, 30, 3), np.uint8), (np.zeros((3, 3), np.int32),) * 2)
    pairs = Pairs([unlike], count)
    assert len(pairs) == 1
    first, again, later = (make_batch(pairs, RECIPE, position) for position in (0, 0, 2))
    assert first.truth.dtype == np.int64
    assert first.truth.shape == first.images.shape[:3]
    assert np.array_equal(first.truth, again.truth)
    assert len(np.unique(np.concatenate([first.truth, later.truth]))) == 4


def test_samples_beyond_the_memory_are_read_again(monkeypatch):
    kept = Pairs(samples())
    ids = [kept[i].id for i in range(10)]
    monkeypatch.setattr("spx_cli.training.samples.MEMORY", 3000)
    read = Pairs(samples())
    assert [read[i].id for i in range(10)] == [f"s{i // 2}:{i % 2}" for i in range(10)] == ids
    assert len(read._kept) < 3 < len(kept._kept)
    assert read.order == kept.order
    np.testing.assert_array_equal(read[9].truth, kept[9].truth)


def test_nothing_is_decoded_before_it_is_needed(tmp_path, monkeypatch):
    write_folder(tmp_path, [f"{i:02}" for i in range(12)])
    found = open_samples("folder", tmp_path)
    whole = [Pairs([found.train[i] for i in range(len(found.train))], teacher) for teacher in (None, lambda *_: None)]
    read = []
    load = Folder.load
    monkeypatch.setattr(Folder, "load", lambda self, entry: (read.append(entry.id), load(self, entry))[1])
    for expected, teacher in zip(whole, (None, lambda *_: None), strict=True):
        pairs = Pairs(found.train, teacher)
        assert (len(pairs), pairs.order) == (len(expected), expected.order)
    assert read == []
    assert pairs[3].id == "03"
    assert read == ["03"]


def test_a_sample_that_changed_meanwhile_is_named(tmp_path):
    data = samples(2)
    pairs = Pairs(data)
    data[1] = data[1]._replace(truths=())
    with pytest.raises(DataError, match="s1: the file has changed since the training began"):
        pairs[3]


def test_images_alone_can_be_trained_on(tmp_path):
    bare = [s._replace(truths=()) for s in samples()]
    assert len(list(train(Trainee(), bare, bare, RECIPE, tmp_path))) == 12
    assert not (tmp_path / "best.safetensors").exists()


def test_superpixels_for_flow_are_trained_on_flow(tmp_path):
    rng = np.random.default_rng(0)
    flow = np.zeros((40, 60, 2), np.float32)
    flow[:, 30:] = 5.0
    image = (np.where(flow[..., :1] > 0, 140, 100) + rng.integers(0, 60, (40, 60, 3))).astype(np.uint8)
    known = np.ones((40, 60), bool)
    known[:4] = False
    flow[:4] = 1e10
    data = [Sample("a", image, flow=flow, valid=known)]
    recipe = replace(RECIPE, crop=36, steps=8, lr=0.003, schedule="constant", clip=0.0, flips="none")
    method = create("ssn", contours=False, train_segments=9, device="cpu")
    losses = [record.loss for record in train(method, data, [], recipe, tmp_path)]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    for name in ("fcn", "sin"):
        with pytest.raises(ParameterError, match="label maps"):
            list(train(create(name, device="cpu"), data, [], recipe, tmp_path / name))


def test_the_best_weights_by_validation_are_exported_with_their_provenance(straight):
    out, _ = straight
    scores = {line["step"]: line["asa"] for line in read_log(out) if "best" in line}
    assert list(scores) == [4, 8, 12]
    with safe_open(out / "best.safetensors", "pt") as file:
        about = file.metadata()
        names = set(file.keys())
    assert float(about["asa"]) == max(scores.values())
    assert scores[int(about["steps"])] == max(scores.values())
    assert json.loads(about["recipe"])["lr"] == RECIPE.lr
    assert {"method", "data", "spx"} <= set(about)
    assert "0.weight" in names


def test_exported_weights_segment_as_the_network_that_was_validated(straight):
    out, records = straight
    method = Trainee(weights=str(out / "last.safetensors"))
    scores = [row["asa"] for s in samples(2) for row in score(method.segment(s.image, 4), s.truths, ignore_label=9)]
    assert np.mean(scores) == pytest.approx(records[-1].asa)


def test_half_precision_export_keeps_vectors_whole(tmp_path):
    digest = export(tmp_path / "w.safetensors", {"a": torch.ones(2, 2), "b": torch.ones(2)}, {"method": "x"}, half=True)
    loaded = load_file(tmp_path / "w.safetensors")
    assert (loaded["a"].dtype, loaded["b"].dtype) == (torch.float16, torch.float32)
    assert len(digest) == 64


def test_weights_to_start_from(straight, tmp_path):
    start = load_file(straight[0] / "last.safetensors")
    records = run(tmp_path, replace(RECIPE, steps=1), Trainee(dropout=0.0), start=start)
    assert records[0].loss < straight[1][0].loss
    stated = [provenance(folder / "last.safetensors").get("start") for folder in (straight[0], tmp_path)]
    assert stated[0] is None
    assert len(stated[1]) == 16
    other = {name: value + 1 for name, value in start.items()}
    with pytest.raises(ParameterError, match="start was"):
        run(tmp_path, replace(RECIPE, steps=1), Trainee(dropout=0.0), start=other, resume=True)


def test_a_loss_that_is_not_a_number_names_the_batch_and_spares_the_checkpoint(tmp_path, monkeypatch):
    loss = Trainee.loss
    calls = iter(range(100))
    monkeypatch.setattr(Trainee, "loss", lambda *a: loss(*a) * (math.nan if next(calls) == 6 else 1))
    with pytest.raises(TrainingError, match=r"step 6: loss nan.* s\d:\d, s\d:\d"):
        run(tmp_path)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["step"] == 6
    assert all(t.isfinite().all() for t in content["network"].values())


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
    records.close()
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["step"] == content["best"]["step"] == int(provenance(tmp_path / "best.safetensors")["steps"]) == 4


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


def test_an_annotation_that_cannot_be_scored_is_named_at_the_start(tmp_path):
    blank = samples(1)[0]._replace(id="blank", truths=(np.full((18, 24), 9, np.int32),))
    with pytest.raises(LabelError, match="annotation blank:0: no labelled pixel"):
        next(train(Trainee(), samples(), [blank], RECIPE, tmp_path))
    with pytest.raises(LabelError, match="annotation blank:0: no labelled pixel"):
        run(tmp_path, data=[blank])


def test_validation_images_smaller_than_the_count(tmp_path):
    assert run(tmp_path, replace(RECIPE, validate_counts="1000", steps=4))[-1].asa == 1


def test_no_samples(tmp_path):
    with pytest.raises(DataError, match="empty"):
        run(tmp_path, data=[])


def test_whole_images_of_different_sizes_do_not_make_a_batch(tmp_path):
    mixed = samples(2) + samples(2, (24, 18))
    recipe = replace(RECIPE, crop=0, scale_min=1.0, scale_max=1.0)
    with pytest.raises(ParameterError, match="batch_size=1"):
        run(tmp_path, recipe, data=mixed)
    assert len(run(tmp_path / "single", replace(recipe, batch_size=1), data=mixed)) == 12


def test_a_crop_larger_than_the_image_enlarges_it(tmp_path):
    assert len(run(tmp_path, replace(RECIPE, crop=40, steps=2))) == 2


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match="tensorboard"):
        run(tmp_path, tensorboard=True)


def test_tensorboard_gets_the_numbers(tmp_path, monkeypatch):
    class Writer:
        seen: ClassVar = []

        def __init__(self, folder):
            assert folder == str(tmp_path)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.seen.append("closed")

        def add_scalar(self, name, value, step):
            self.seen.append((name, step))

    module = types.ModuleType("tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    run(tmp_path, replace(RECIPE, steps=4), tensorboard=True)
    assert ("loss", 1) in Writer.seen
    assert ("asa", 1) not in Writer.seen
    assert ("asa", 4) in Writer.seen
    assert Writer.seen[-1] == "closed"


def test_outside_the_main_thread(tmp_path):
    worker = threading.Thread(target=run, args=(tmp_path, replace(RECIPE, steps=2)))
    worker.start()
    worker.join()
    assert (tmp_path / "last.safetensors").exists()


def test_bf16_trains(tmp_path):
    full, half = (run(tmp_path / amp, replace(RECIPE, amp=amp, steps=2))[-1].loss for amp in ("none", "bf16"))
    assert half == pytest.approx(full, rel=0.05)
    assert half != full


def test_rate():
    cycle = Recipe(steps=100, lr=1.0, schedule="one-cycle", warmup=0.1)
    rates = [rate(cycle, step) for step in range(100)]
    assert np.argmax(rates) == 10
    assert rates[10] == pytest.approx(1)
    assert rates[0] == pytest.approx(0.04)
    assert rates[-1] < 0.01
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    halved = Recipe(schedule="halve", halve_at=5, lr=1.0)
    assert [rate(halved, step) for step in (0, 4, 5, 9)] == [1, 1, 0.5, 0.5]
    assert rate(Recipe(lr=0.5), 10**6) == 0.5


@pytest.mark.parametrize(("decay", "count"), [("matrices", 2), ("weights", 3), ("all", 6)])
def test_what_decays(decay, count):
    optimizer = make_optimizer(Trainee().build(), replace(RECIPE, decay=decay, weight_decay=0.1))
    assert sum(len(group["params"]) for group in optimizer.param_groups if group["weight_decay"]) == count


def write_folder(root, names):
    for name in names:
        sample = samples(1)[0]
        for kind, array in (("images", sample.image), ("labels", sample.truths[0].astype(np.uint8))):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return root


def test_a_folder_without_splits_holds_every_tenth_back(tmp_path):
    found = open_samples("folder", write_folder(tmp_path, [f"{i:02}" for i in range(20)]))
    assert (len(found.train), len(found.val)) == (18, 2)
    assert [s.id for s in (found.val[0], found.val[1])] == ["09", "19"]
    assert {found.train[i].id for i in range(18)}.isdisjoint({"09", "19"})
    assert len(open_samples("folder", tmp_path, None, "none").train) == 20
    alone = open_samples("folder", tmp_path / "images")  # nothing to validate by
    assert (len(alone.train), len(alone.val)) == (20, 0)
    assert "validated on nothing" in alone.about


def test_a_folder_with_splits(tmp_path):
    write_folder(tmp_path, ["train/a", "train/b", "val/c", "test/d"])
    found = open_samples("folder", tmp_path)
    assert [len(found.train), len(found.val)] == [2, 1]
    both = open_samples("folder", tmp_path, "train+val")
    assert [len(both.train), len(both.val)] == [3, 0]
    assert "nothing" in both.about
    with pytest.raises(DataError):
        open_samples("folder", tmp_path / "absent")


def test_images_without_annotation_are_named(tmp_path, caplog):
    write_folder(tmp_path, ["a", "b"])
    (tmp_path / "labels/a.png").rename(tmp_path / "labels/c.png")
    found = open_samples("folder", tmp_path, None, "none")
    assert [found.train[0].id, len(found.train)] == ["b", 1]
    assert "c.png: no image of that name; " in caplog.text
    (tmp_path / "labels/b.png").rename(tmp_path / "labels/d.png")
    with pytest.raises(DataError, match=r"nothing to train on in .*c\.png: no image of that name.*and 1 more"):
        open_samples("folder", tmp_path)


def test_bsds500(shared):
    found = open_samples("bsds500", shared / "data" / "BSDS500")
    assert [len(found.train), len(found.val)] == [200, 100]
    id, annotations = found.train.outline(7)
    assert (found.train[7].id, len(found.train[7].truths)) == (id, annotations)
