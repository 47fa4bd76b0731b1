import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spx_cli.errors import ParameterError
from spx_cli.methods import _association as association
from spx_cli.methods._association import Grid

GRIDS = [
    Grid(41, 33, 4, 3),
    Grid(20, 20, 4, 5),
    Grid(7, 5, 7, 5),
    Grid(9, 9, 1, 1),
    Grid(60, 50, 2, 2),
    Grid(5, 1, 5, 1),
]


def chain(dtype, features, truth, grid, iterations, *, amp=False):
    """Everything a loss may use, and the gradient of one that uses it all."""
    x = features.to(dtype).requires_grad_(True)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=amp):
        q, centres = association.cluster(x, grid, iterations)
        agreement = association.label_agreement(q, truth, grid)
        means = association.pool(q, x[:, :2], grid)
        rebuilt = association.unpool(q, means, grid)
    loss = -(agreement + 1e-16).log().mean() + (rebuilt - x[:, :2]).square().mean() + centres.square().mean()
    (gradient,) = torch.autograd.grad(loss, x)
    return [t.detach() for t in (q, centres, agreement, means, rebuilt, gradient)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("channels", [5, 8])
def test_compiled_kernels_equal_plain_torch(grid, channels):
    generator = torch.Generator().manual_seed(0)
    features = 2 * torch.randn(2, channels, grid.height, grid.width, generator=generator)
    truth = torch.randint(-1, 4, (2, grid.height, grid.width), generator=generator)
    compiled = chain(torch.float32, features, truth, grid, 3)
    plain = chain(torch.float64, features, truth, grid, 3)
    for got, wanted in zip(compiled, plain, strict=True):
        assert got.shape == wanted.shape
        torch.testing.assert_close(got.double(), wanted, atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("iterations", [1, 4])
def test_labels_of_inference_are_those_of_the_differentiable(grid, iterations):
    features = torch.randn(2, 7, grid.height, grid.width, generator=torch.Generator().manual_seed(0))
    wanted = association.hard_labels(association.cluster(features, grid, iterations)[0], grid)
    got = association.cluster_labels(features, grid, iterations)
    assert got.dtype == torch.int32
    assert (got != wanted).float().mean() < 1e-3  # within the rounding of a softmax, two weights may be equal
    assert torch.equal(association.cluster_labels(features.double(), grid, iterations), wanted.int())


def test_gradients_of_plain_torch_are_right():
    grid, truth = Grid(6, 7, 2, 3), torch.randint(-1, 3, (1, 6, 7), generator=torch.Generator().manual_seed(1))
    x = torch.randn(1, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()

    def both(x):
        q, centres = association.cluster(x, grid, 2)
        return association.label_agreement(q, truth, grid), centres, association.unpool(q, centres, grid)

    assert torch.autograd.gradcheck(both, x)


def test_threads_do_not_change_a_bit():
    features = torch.randn(2, 6, 50, 40, generator=torch.Generator().manual_seed(0))
    truth = torch.zeros(2, 50, 40, dtype=torch.int64)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(chain(torch.float32, features, truth, Grid(50, 40, 5, 4), 4))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_weights_sum_to_one_over_the_cells_around(height, width, data):
    grid = Grid(height, width, data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    features = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height * 31 + width)) * 5
    q, _ = association.cluster(features, grid, 2)
    torch.testing.assert_close(q.sum(1), torch.ones(1, height, width), atol=1e-5, rtol=0)
    rows, columns = np.divmod(association.hard_labels(q, grid)[0].numpy(), grid.columns)
    own_rows, own_columns = np.divmod(grid.index, grid.columns)
    assert abs(rows - own_rows).max() <= 1
    assert abs(columns - own_columns).max() <= 1


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_edges_are_those_of_the_index(grid):
    index = grid.index
    for i in range(grid.rows):
        for j in range(grid.columns):
            rows, columns = grid.row_edges[i : i + 2], grid.column_edges[j : j + 2]
            assert (index[rows[0] : rows[1], columns[0] : columns[1]] == i * grid.columns + j).all()
    assert np.bincount(index.ravel(), minlength=grid.cells).max() == grid.area


def test_agreement_is_that_of_one_hot_channels():
    grid, labels = Grid(12, 15, 3, 4), 5
    generator = torch.Generator().manual_seed(3)
    q = torch.rand(2, 9, 12, 15, generator=generator).softmax(1)
    truth = torch.randint(-1, labels, (2, 12, 15), generator=generator)
    one_hot = torch.nn.functional.one_hot(truth.clamp(min=0), labels).permute(0, 3, 1, 2) * (truth >= 0)[:, None]
    known = (truth >= 0)[:, None].float()
    rebuilt = association.unpool(q, association.pool(q * known, one_hot.float(), grid), grid)
    wanted = torch.where(truth >= 0, rebuilt.gather(1, truth.clamp(min=0)[:, None])[:, 0], 1.0)
    torch.testing.assert_close(association.label_agreement(q, truth, grid), wanted)
    torch.testing.assert_close(association.label_agreement(q, truth * 5000, grid), wanted)  # instance ids


def test_two_halves_belong_to_their_own_side():
    features = torch.zeros(1, 3, 20, 20)
    features[:, 0, :, 10:] = 9
    labels = association.hard_labels(association.cluster(features, Grid(20, 20, 1, 2), 3)[0], Grid(20, 20, 1, 2))
    assert (labels[0, :, :10] == 0).all()
    assert (labels[0, :, 10:] == 1).all()


def test_equal_weights_go_to_the_first_cell_inside():
    labels = association.hard_labels(torch.ones(1, 9, 4, 4), Grid(4, 4, 2, 2))
    assert (labels == 0).all()
    outside = torch.zeros(1, 9, 4, 4)
    outside[:, 0] = 1  # the upper left neighbour, which cells of the frame do not have
    assert association.hard_labels(outside, Grid(4, 4, 2, 2)).max() < 4
    torch.testing.assert_close(
        association.hard_labels(outside.double(), Grid(4, 4, 2, 2)), association.hard_labels(outside, Grid(4, 4, 2, 2))
    )


@pytest.mark.parity
def test_cells_are_those_of_the_authors(shared):
    for name, index in np.load(shared / "reference/deep/ssn_nvlabs/init_maps.npz").items():
        size, _, count = name.partition("_K")
        height, width = map(int, size.split("x"))
        rows, columns = int((int(count) * height / width) ** 0.5), int((int(count) * width / height) ** 0.5)
        np.testing.assert_array_equal(Grid(height, width, rows, columns).index, index)


def test_k_means_of_nine_centres_is_that_of_a_plain_loop():
    grid = Grid(17, 14, 3, 2)
    features = torch.randn(1, 4, 17, 14, generator=torch.Generator().manual_seed(0))
    pixels = features[0].permute(1, 2, 0).double().numpy()
    centres = association.initial_centres(features.double(), grid)[0].flatten(1).T.numpy()
    near = association.neighbours(grid)[grid.index]
    for turn in range(4):
        distance = np.square(pixels[:, :, None] - centres[near]).sum(-1)
        best = np.where(near >= 0, distance, np.inf).argmin(2)
        labels = np.take_along_axis(near, best[..., None], 2)[..., 0]
        if turn < 3:
            centres = np.stack([pixels[labels == k].mean(0) for k in range(grid.cells)])
    np.testing.assert_array_equal(association.nearest_labels(features, grid, 4)[0].numpy(), labels)


def test_a_promise_spares_the_look_at_the_labels():
    grid, q = Grid(8, 8, 2, 2), torch.rand(1, 9, 8, 8, generator=torch.Generator().manual_seed(0))
    truth = torch.arange(64).view(1, 8, 8) % 5
    looked = association.label_agreement(q, truth, grid)
    with association.labels_below(40):
        torch.testing.assert_close(association.label_agreement(q, truth, grid), looked)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_triton_kernels_interpreted_on_the_cpu():
    script = """
import torch
from spx_cli.methods._association import Grid, compiled, fused, initial_centres, plain
for grid in (Grid(13, 9, 2, 3), Grid(40, 40, 1, 1)):
    x = 2 * torch.randn(1, 5, grid.height, grid.width).to(memory_format=torch.channels_last)
    start = initial_centres(x, grid)
    for rounds in (1, 3):
        assert (fused.cluster_labels(x, grid, rounds) == compiled.cluster_labels(x, start, grid, rounds)).all()
        assert (fused.cluster_labels(x, grid, rounds, hard=True) == plain.nearest_labels(x, start, grid, rounds)).all()
    q = torch.rand(2, 11, grid.height, grid.width)
    assert (fused.hard_labels(q, grid) == plain.hard_labels(q, grid)).all()
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(association.__file__).parents[3])}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_inner_products_and_the_nearest_centre(grid):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, grid.height, grid.width, generator=generator)
    values = torch.randn(2, 6, grid.rows, grid.columns, generator=generator)
    weight = torch.randn(2, 9, grid.height, grid.width, generator=generator)
    results = []
    for dtype in (torch.float32, torch.float64):
        inputs = x.to(dtype).requires_grad_(), values.to(dtype).requires_grad_()
        products = association.dots(*inputs, grid)
        gradients = torch.autograd.grad((products * weight.to(dtype)).sum(), inputs)
        results.append([products.detach().double(), *(g.double() for g in gradients)])
        nearest = association.nearest(*(t.detach() for t in inputs), grid)
        table = torch.from_numpy(association.neighbours(grid))[torch.from_numpy(grid.index)]
        far = (values.flatten(2)[:, :, table.clamp(min=0)] - x[..., None]).square().sum(1)
        wanted = table.expand(2, -1, -1, -1).gather(3, far.where(table >= 0, torch.inf).argmin(3, keepdim=True))[..., 0]
        assert nearest.dtype == torch.int32
        assert (nearest != wanted).sum() <= 1
        chosen = products.detach().permute(0, 2, 3, 1)
        wanted = (values.flatten(2)[:, :, table.clamp(min=0)] * x[..., None]).sum(1).where(table >= 0, 0).to(dtype)
        torch.testing.assert_close(chosen, wanted, atol=1e-5, rtol=1e-4)
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_properties_of_another_size_are_refused():
    soft = association.SoftSuperpixels(torch.full((1, 9, 6, 8), 1 / 9), Grid(6, 8, 2, 2))
    assert soft.pool(torch.ones(1, 3, 6, 8)).allclose(torch.ones(1, 3, 2, 2), atol=1e-3)
    for wrong in (torch.ones(1, 3, 3, 4), torch.ones(2, 3, 6, 8), torch.ones(3, 6, 8)):
        with pytest.raises(ParameterError, match=r"a property of pixels must be \(1, D, 6, 8\)"):
            soft.pool(wrong)
    with pytest.raises(ParameterError, match=r"values of superpixels must be \(1, D, 2, 2\)"):
        soft.unpool(torch.ones(1, 3, 6, 8))
    for wrong in (torch.ones(1, 9, 3, 4), torch.ones(1, 8, 6, 8), torch.ones(1, 9, 48)):
        soft = association.SoftSuperpixels(wrong, Grid(6, 8, 2, 2))
        truth = torch.zeros(1, 6, 8, dtype=torch.int64)
        for use, *arguments in (
            (soft.pool, torch.ones(1, 3, 6, 8)),
            (soft.unpool, torch.ones(1, 3, 2, 2)),
            (soft.labels,),
            (association.label_agreement, wrong, truth, soft.grid),
        ):
            with pytest.raises(ParameterError, match=r"q must be \(B, 9, 6, 8\)"):
                use(*arguments)
