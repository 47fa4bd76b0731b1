import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spx_cli.methods import create, rim
from spx_cli.methods.base import progress
from spx_cli.methods.rim import RIMNet


@pytest.fixture(autouse=True)
def _one_thread():
    """Images are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blocks(size=(24, 32), seed=0):
    """Four blocks of colour under noise, and which pixel lies in which."""
    truth = np.zeros(size, np.int64)
    truth[: size[0] // 2, size[1] // 2 :], truth[size[0] // 2 :, : size[1] // 2] = 1, 2
    truth[size[0] // 2 :, size[1] // 2 :] = 3
    colours = np.array([[30, 30, 200], [200, 40, 30], [40, 180, 50], [220, 220, 210]])
    noise = np.random.default_rng(seed).normal(0, 8, (*size, 3))
    return np.clip(colours[truth] + noise, 0, 255).astype(np.uint8), truth


@pytest.mark.parity
def test_agrees_with_the_author(shared):
    folder = shared / "reference/deep/rim"
    wanted = np.load(folder / "crop_N30_it100.npz")
    network = RIMNet(30)
    state = {k: torch.from_numpy(v) for k, v in np.load(folder / "rim_init_seed0_N30.npz").items()}
    network.load_state_dict(state)
    image = np.asarray(Image.open(folder / "crop_100007_81x121.png"))
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    x = rim.standardise(pixels)
    np.testing.assert_allclose(x[0].numpy(), wanted["input"], atol=1e-6)
    logits, rebuilt = network(x)
    np.testing.assert_allclose(logits[0].detach().numpy(), wanted["logits0"], atol=1e-4)
    np.testing.assert_allclose(rebuilt[0].detach().numpy(), wanted["recon0"], atol=1e-4)
    parts = rim.objective(logits, rebuilt, x, 2.0)
    np.testing.assert_allclose([part.item() for part in parts], wanted["loss_log"][0, 1:], rtol=1e-5)
    method = create("rim", iterations=5, quick=False, device="cpu")
    loss = method.loss(network, x)
    assert loss.item() == pytest.approx(wanted["loss_log"][0, 0], rel=1e-5)
    loss.backward()
    norms = json.loads((folder / "meta.json").read_text())["crop_N30"]["grad_norm0"]
    for name, parameter in network.named_parameters():
        assert parameter.grad.norm().item() == pytest.approx(norms[name], rel=1e-4)
    method.optimise(network, pixels)
    assert (network(x)[0].argmax(1)[0].numpy() != wanted["label_raw_it5"]).mean() < 0.01


def naive_objective(logits, rebuilt, x, marginal):
    """Equations 2 to 4 pixel by pixel."""
    p = torch.softmax(logits, 0)
    _, height, width = p.shape
    entropy = sum(-(p[:, i, j] * p[:, i, j].log()).sum() for i in range(height) for j in range(width))
    share = p.flatten(1).mean(1)
    rough = [[], []]
    for i in range(height):
        for j in range(width):
            for axis, (v, u) in enumerate([(i + 1, j), (i, j + 1)]):
                if v < height and u < width:
                    apart = (x[:, v, u] - x[:, i, j]).square().sum() / 8
                    rough[axis].append((p[:, v, u] - p[:, i, j]).abs().sum() * (-apart).exp())
    clustering = entropy / (height * width) + marginal * (share * share.log()).sum()
    return clustering, sum(sum(r) / len(r) for r in rough), (rebuilt - x[:3]).square().mean()


def test_objective_is_that_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    logits, rebuilt, x = (torch.randn(c, 5, 7, generator=generator, dtype=torch.float64) for c in (6, 3, 5))
    got = rim.objective(logits[None], rebuilt[None], x[None], 1.5)
    for part, wanted in zip(got, naive_objective(logits, rebuilt, x, 1.5), strict=True):
        torch.testing.assert_close(part, wanted)


def test_blocks_are_found_and_the_count_is_below_the_bound():
    image, truth = blocks()
    labels = create("rim", iterations=30, device="cpu").segment(image, 12, raw=True)
    assert labels.max() < 12
    assert 4 <= len(np.unique(labels)) <= 12
    # every cluster lies in one block
    assert sum(np.bincount(truth[labels == k]).max() for k in np.unique(labels)) > 0.95 * truth.size


def test_the_seed_decides_and_the_callers_random_numbers_stay():
    image = blocks()[0]
    method = create("rim", iterations=5, device="cpu")
    torch.manual_seed(3)
    first = method.segment(image, 8, raw=True)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(method.segment(image, 8, raw=True), first)
    assert not np.array_equal(replace(method, seed=1).segment(image, 8, raw=True), first)


def test_the_default_learns_on_a_small_copy(monkeypatch):
    seen = []
    monkeypatch.setattr(rim.RIM, "loss", lambda self, network, x: seen.append(x.shape[2:]) or network(x)[0].mean())
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    method = create("rim", iterations=1, device="cpu")
    assert method.segment(image, 5, raw=True).shape == (240, 320)
    replace(method, quick=False).segment(image, 5, raw=True)
    assert seen == [(43, 58), (240, 320)]


def test_shrinking_keeps_the_mean():
    pixels = torch.rand(1, 3, 200, 300)
    small = rim.shrink(pixels, 600)
    assert small.shape == (1, 3, 20, 30)
    torch.testing.assert_close(small.mean(), pixels.mean())
    assert rim.shrink(pixels, 60_000) is pixels


def test_progress_is_told_and_patience_ends_early():
    image, told = blocks()[0], []
    token = progress.set(lambda done, total: told.append((done, total)))
    try:
        create("rim", iterations=7, quick=False, device="cpu").segment(image, 4)
        assert told == [(i, 7) for i in range(1, 8)]
        told.clear()
        create("rim", iterations=300, quick=False, patience=2, rate=1.0, device="cpu").segment(image, 4)
        assert len(told) < 400
    finally:
        progress.reset(token)


def test_more_weight_of_equal_sizes_gives_more_superpixels():
    image = blocks((30, 40))[0]
    counts = [
        len(np.unique(create("rim", iterations=50, marginal=m, device="cpu").segment(image, 30, raw=True)))
        for m in (0.2, 2.5)
    ]
    assert counts[0] < counts[1]


def test_restarts_are_laid_over_each_other():
    image, truth = blocks()
    method = create("rim", iterations=30, restarts=2, device="cpu")
    assignment = method.assign(image, 6)
    single = [method.cluster(image, 6, seed) for seed in range(2)]
    # a region of the overlay lies in one cluster of each map
    for labels in single:
        pairs = np.unique(np.stack([assignment.labels.ravel(), labels.ravel()]), axis=1).shape[1]
        assert pairs == len(np.unique(assignment.labels))
    assert set(np.unique(np.round(assignment.contours * 2))) <= {0, 1, 2}
    labels = method.finish(assignment, 6)
    assert labels.max() == 5
    assert sum(np.bincount(truth[labels == k]).max() for k in range(6)) > 0.95 * truth.size


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (300, 2), (16, 16)])
@pytest.mark.parametrize("kind", ["constant", "grey", "noise"])
def test_objective_stays_finite(size, kind):
    image = np.full((*size, 3), 77, np.uint8)
    if kind != "constant":
        image[:] = np.random.default_rng(0).integers(0, 256, (*size, 1 if kind == "grey" else 3))
    network = RIMNet(4, torch.Generator().manual_seed(0))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    method = create("rim", iterations=3, device="cpu")
    method.optimise(network, pixels)
    assert torch.isfinite(method.loss(network, rim.standardise(pixels)))
