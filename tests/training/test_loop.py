"""The loop of training: steps, validation, export."""

import json
import math
import os
import subprocess
import sys
import threading
import types
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, safe_open

from runs import TRAINEE, assert_equal, read_log, run
from spx_cli.errors import DataError, MissingExtra, ParameterError, TrainingError
from spx_cli.methods import create
from spx_cli.methods._recipe import Recipe
from spx_cli.metrics import score
from spx_cli.training.loop import rate, train
from spx_cli.training.processes import World
from spx_cli.training.samples import Pairs, make_batch
from spx_cli.training.state import export, make_optimizer
from spx_cli.training.validation import Validation
from trainee import RECIPE, Trainee, samples


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


def test_random_numbers_of_the_caller_and_of_the_run_are_apart(straight, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(14)
    torch.manual_seed(3)
    records, drawn = train(Trainee(), samples(), samples(2), RECIPE, tmp_path), []
    for record in records:
        drawn.append(torch.rand(1))
        if record.step == 6:
            records.close()
    records = train(Trainee(), samples(), samples(2), RECIPE, tmp_path, resume=True)
    drawn += [torch.rand(1) for _ in records]
    assert_equal(tmp_path, straight[0])
    with pytest.raises(DataError):
        run(tmp_path / "none", data=[])
    assert torch.equal(torch.cat([*drawn, torch.rand(2)]), expected)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_where_the_caller_has_another_type(straight, tmp_path, kind):
    try:
        torch.set_default_dtype(kind)
        run(tmp_path)
        assert torch.get_default_dtype() == kind
    finally:
        torch.set_default_dtype(torch.float32)
    assert_equal(tmp_path, straight[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_the_caller_records_no_gradients(straight, tmp_path, mode):
    with mode():
        for _ in train(Trainee(), samples(), samples(2), RECIPE, tmp_path):
            assert not torch.is_grad_enabled()
            assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert_equal(tmp_path, straight[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ssn"}, r"method must be a learned one, such as create\('ssn'\), not 'ssn'"),
        ({"method": create("slic")}, "slic is not trained; "),
        ({"recipe": "paper"}, r"recipe must be one of method\.recipes \(paper\), not 'paper'"),
        ({"val_samples": None}, r"val_samples must be a sequence of samples, \[\] for none, not None"),
        ({"train_samples": "data"}, "train_samples must be a sequence of samples, .* not 'data'"),
        ({"out": None}, "out must be a path, not None"),
        ({"start": "ssn"}, "start must be weights by name, .* not 'ssn'"),
    ],
)
def test_arguments_of_another_kind_are_refused_at_once(tmp_path, changes, message):
    given = {"method": Trainee(), "train_samples": samples(), "val_samples": [], "recipe": RECIPE, "out": tmp_path}
    with pytest.raises(ParameterError, match=message):
        train(**given | changes)


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


def test_a_loss_that_is_not_a_number_names_the_batch_and_spares_the_checkpoint(tmp_path, monkeypatch):
    loss = Trainee.loss
    calls = iter(range(100))
    monkeypatch.setattr(Trainee, "loss", lambda *a: loss(*a) * (math.nan if next(calls) == 6 else 1))
    with pytest.raises(TrainingError, match=r"step 6: loss nan.* s\d:\d, s\d:\d"):
        run(tmp_path)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["step"] == 6
    assert all(t.isfinite().all() for t in content["network"].values())


def test_validation_images_smaller_than_the_count(tmp_path):
    assert run(tmp_path, replace(RECIPE, validate_counts="1000", steps=4))[-1].asa == 1


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


def test_nobody_waits_for_a_batch_in_his_turn(tmp_path, monkeypatch):
    """What makes batches may need turns on the same GPU: a network that guides, say."""
    turns, real = threading.Lock(), make_batch

    @contextmanager
    def turn(*args, **options):
        with turns:
            yield

    def make(*args):
        assert turns.acquire(timeout=30)
        turns.release()
        return real(*args)

    monkeypatch.setattr("spx_cli.training.loop.turn", turn)
    monkeypatch.setattr("spx_cli.training.feed.make_batch", make)
    assert run(tmp_path, replace(RECIPE, steps=3, validate_every=0))
