from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from spx_cli.methods._muon import Muon, orthogonalise
from spx_cli.training.loop import train
from trainee import RECIPE, Trainee, samples


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (8, 8), (16, 45), (64, 9)])
def test_orthogonalised_keeps_directions_and_evens_out_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    out = orthogonalise(matrix)
    assert out.shape == matrix.shape
    u, length, v = torch.linalg.svd(matrix, full_matrices=False)
    along = (u.T @ out @ v.T).diagonal()
    assert ((along[length > 0.2 * length.max()] - 0.95).abs() < 0.3).all()


def test_of_a_zero_matrix_is_zero():
    assert (orthogonalise(torch.zeros(3, 4)) == 0).all()


def test_one_axis_is_adam():
    vectors = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizers = [Muon([vectors[0]], lr=0.1), torch.optim.Adam([vectors[1]], lr=0.1)]
    for i in range(5):
        for vector, optimizer in zip(vectors, optimizers, strict=True):
            vector.grad = torch.arange(4.0) * (i + 1) - 1
            optimizer.step()
    torch.testing.assert_close(vectors[0], vectors[1])


def test_the_step_of_a_convolution_does_not_depend_on_the_size_of_its_gradient():
    moved = []
    for size in (1e-6, 1e3):
        weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
        weight.grad = size * torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(1))
        Muon([weight], lr=0.1).step()
        moved.append(weight.detach())
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-4)
    assert 0.01 < moved[0].square().mean().sqrt() < 0.03  # 0.2 lr, as a step of Adam


def test_decay_is_decoupled():
    weight = nn.Parameter(torch.ones(3, 3))
    weight.grad = torch.zeros(3, 3)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((3, 3), 0.95))


def test_a_run_learns_and_resumes_exactly(tmp_path):
    recipe = replace(RECIPE, optimizer="muon", schedule="constant", lr=0.05)
    losses = [record.loss for record in train(Trainee(), samples(), samples(2), recipe, tmp_path / "a")]
    assert min(losses[-3:]) < 0.7 * losses[0]
    half = replace(recipe, steps=recipe.steps // 2)
    list(train(Trainee(), samples(), samples(2), half, tmp_path / "b"))
    list(train(Trainee(), samples(), samples(2), recipe, tmp_path / "b", resume=True))
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)
