from dataclasses import replace

import numpy as np
import pytest
import torch

from spx_cli.datasets import Sample
from spx_cli.errors import ParameterError
from spx_cli.methods import create, sen
from spx_cli.methods.sen import Cosines, MeanShift, contrastive_loss, of_pairs, variable_margins
from spx_cli.training.samples import Pairs, make_batch
from trainee import assert_learns

SMALL = {"width": 2, "channels": 4, "device": "cpu"}


def unit(generator, *shape):
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=1)


def naive_loss(e, lab, superpixels, chosen, alpha, beta, exact):
    """Gaur equations 1 to 4 with one loop over pixels and one over their 24 neighbours; arrays of one image."""
    height, width = superpixels.shape
    mean = {k: lab[:, superpixels == k].mean(1) for k in np.unique(superpixels)}
    sums, counts = [0.0, 0.0], [0, 0]
    for y, x in np.argwhere(chosen):
        for d in (1, 2, 3):
            for v, u in [(y + d * i, x + d * j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]:
                if not (0 <= v < height and 0 <= u < width):
                    continue
                a, b, psi = int(superpixels[y, x]), int(superpixels[v, u]), 0.5 * (1 - e[:, y, x] @ e[:, v, u])
                margin = min(beta * np.linalg.norm(mean[a] - mean[b]), 1.0)
                far = abs(margin - psi) if exact else max(margin - psi, 0)
                sums[int(a != b)] += max(psi - alpha, 0) if a == b else far
                counts[int(a != b)] += 1
    return sums[0] / counts[0] + sums[1] / counts[1]


@pytest.mark.parametrize("exact", [False, True])
def test_loss_is_that_of_the_paper(exact):
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    e = unit(generator, 1, 4, 9, 11)
    lab = torch.rand(1, 3, 9, 11, generator=generator) * 60
    superpixels = torch.from_numpy(rng.integers(0, 3, (1, 3, 4)).repeat(3, 1).repeat(3, 2)[:, :, :11])
    chosen = torch.from_numpy(rng.random((1, 9, 11)) < 0.5)
    weight = of_pairs(lambda a, b: a.float() + b, chosen)
    got = contrastive_loss(e, variable_margins(lab, superpixels, 20.0, 1.0), weight, 0.3, exact=exact).item()
    arrays = [t[0].numpy() for t in (e.double(), lab.double(), superpixels, chosen)]
    assert got == pytest.approx(naive_loss(*arrays, 0.3, 0.05, exact), rel=1e-5)


def test_gradient_of_the_cosines():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = torch.rand(2, len(sen.OFFSETS), 5, 6, dtype=torch.float64)
    plain = x.clone().requires_grad_()
    total = torch.zeros(())
    for i, (dy, dx) in enumerate(sen.OFFSETS):
        first = slice(5 - dy), slice(max(-dx, 0), 6 - max(dx, 0))
        second = slice(dy, 5), slice(max(dx, 0), 6 - max(-dx, 0))
        products = (plain[:, :, *first] * plain[:, :, *second]).sum(1)
        total = total + (weight[:, i, *first] * products).sum()
    total.backward()
    ours = x.clone().requires_grad_()
    (Cosines.apply(ours) * weight).sum().backward()
    assert torch.allclose(ours.grad, plain.grad)


def test_mean_shift_of_single_pixels_is_that_of_the_paper():
    x = unit(torch.Generator().manual_seed(2), 2, 3, 4, 5).requires_grad_()
    cluster = MeanShift(1, 3, kappa=7.0)
    got = cluster(x)
    points = x.flatten(2)  # (B, D, N), the paper's X
    for step in got:
        kernel = (7 * points.transpose(1, 2) @ points).exp()
        points = torch.nn.functional.normalize(points @ (kernel / kernel.sum(1, keepdim=True)), dim=1)
        assert torch.allclose(step.flatten(2), points, atol=1e-5)
    got[-1].square()[:, 0].sum().backward()
    assert cluster.kappa.grad.abs() > 0
    assert x.grad.abs().sum() > 0


def test_mean_shift_gathers_what_is_alike_wherever_it_lies():
    generator = torch.Generator().manual_seed(3)
    side = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])[torch.arange(12) // 3 % 2].T
    x = side[None, :, None, :] + 0.2 * torch.randn(1, 4, 12, 12, generator=generator)
    x = torch.nn.functional.normalize(x, dim=1)
    after = MeanShift(3, 2, kappa=20.0)(x)[-1][0]
    same = after[:, :, :3].flatten(1).mean(1) @ after[:, :, 6:9].flatten(1).mean(1)
    assert after[:, :, :3].flatten(1).std(1).max() < 0.3 * x[0, :, :, :3].flatten(1).std(1).max()
    assert same > 0.99


def test_learns_from_images_alone():
    method = create("sen", **SMALL)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    wrong = np.zeros((3, 3), np.int32)  # an annotation of another size would be refused if it were looked at
    pairs = Pairs([Sample("a", image, (wrong, wrong))], method.teacher())
    assert len(pairs) == 1
    recipe = replace(method.recipes["short"], batch_size=2, crop=64)
    first, again, later = (make_batch(pairs, recipe, n) for n in (0, 0, 2))
    assert np.array_equal(first.truth, again.truth)
    assert not np.array_equal(first.truth, later.truth)
    assert first.truth.dtype == np.int64
    assert [len(np.unique(truth)) for truth in first.truth] == [truth.max() + 1 for truth in first.truth]


def test_superpixels_to_learn_from_keep_to_their_sizes():
    method = create("sen", spacing=11, variety=1.5)
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    counts = [method.pseudo_labels(image, np.random.default_rng(i)).max() + 1 for i in range(12)]
    assert 30 <= min(counts) < 60 < max(counts) <= 150


@pytest.mark.parametrize("clustering", [True, False])
def test_a_few_steps_lower_the_loss(clustering):
    assert_learns(create("sen", clustering=clustering, noise=0.0, share=1.0, anchor=16, **SMALL), 64)


def test_a_state_shows_its_network():
    built = create("sen", width=3, channels=5, clustering=False)
    method = create("sen").like(built.build().state_dict())
    assert (method.width, method.channels, method.clustering) == (3, 5, False)


def test_crops_must_be_halved_five_times():
    method = create("sen", **SMALL)
    for side in (32, 80):
        with pytest.raises(ParameterError, match="32 n"):
            method.loss(
                method.build(), torch.zeros(1, 3, side, side, dtype=torch.uint8), torch.zeros(1, side, side).long()
            )


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 2), (64, 96)])
def test_any_size(size):
    torch.manual_seed(0)
    method = create("sen", **SMALL)
    method = method.bind(method.build())
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    (rows,) = method.embed([image])
    assert rows.shape == (*size, 4)
    assert np.linalg.norm(rows, axis=2) == pytest.approx(0.5, abs=1e-4)
    assert method.segment(image, 1).max() == 0
