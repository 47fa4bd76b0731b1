import numpy as np
import pytest
import torch

from spx_cli.errors import ParameterError
from spx_cli.methods import _association as association
from spx_cli.methods import create
from spx_cli.methods._association import Grid
from spx_cli.methods.fcn import FCN
from trainee import assert_learns


def naive_loss(q, truth, m):
    """The loss of one image straight from Yang equations 3 to 5: dense one-hot channels and a loop over pixels."""
    height, width = truth.shape
    rows, columns, labels = height // 16, width // 16, int(truth.max()) + 1
    x = np.zeros((labels + 2, height, width))
    for label in range(labels):
        x[label] = truth == label
    x[-2:] = np.mgrid[:height, :width]
    total, mass = np.zeros((labels + 2, rows, columns)), np.zeros((rows, columns))
    near = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]

    def cells(r, c):
        for n, (i, j) in enumerate(near):
            if 0 <= r // 16 + i < rows and 0 <= c // 16 + j < columns:
                yield n, r // 16 + i, c // 16 + j

    for r, c in np.ndindex(height, width):
        for n, i, j in cells(r, c):
            total[:, i, j] += q[n, r, c] * x[:, r, c]
            mass[i, j] += q[n, r, c]
    loss = 0.0
    for r, c in np.ndindex(height, width):
        rebuilt = sum(q[n, r, c] * total[:, i, j] / mass[i, j] for n, i, j in cells(r, c))
        loss -= np.log(rebuilt[truth[r, c]] + 1e-8)
        loss += m / 16 * np.linalg.norm(rebuilt[-2:] - x[-2:, r, c])
    return loss / truth.size


def test_loss_is_that_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 9, 32, 48, generator=generator).softmax(1)
    truth = torch.randint(0, 3, (1, 32, 48), generator=generator)
    got = association.grid_loss(q, truth, Grid(32, 48, 2, 3), 0.003).item()
    assert got == pytest.approx(naive_loss(q[0].double().numpy(), truth[0].numpy(), 0.003), rel=1e-5)


def test_state_has_the_layout_of_the_authors():
    state = create("fcn", contours=False).build().state_dict()
    assert state["conv0a.0.weight"].shape == (16, 3, 3, 3)
    assert state["deconv3.0.weight"].shape == (256, 128, 4, 4)
    assert state["conv3_1.0.weight"].shape == (128, 256, 3, 3)
    assert state["conv0_1.1.running_mean"].shape == (16,)
    assert state["pred_mask0.weight"].shape == (9, 16, 3, 3)
    theirs = {**state, "pred_mask3.weight": torch.zeros(9, 128, 3, 3), "pred_mask1.bias": torch.zeros(9)}
    assert FCN.convert(theirs).keys() == state.keys()


def test_a_few_steps_lower_the_loss():
    assert_learns(create("fcn"), 32)


def test_crop_must_fit_the_grid():
    method = create("fcn")
    with pytest.raises(ParameterError, match="16 n"):
        method.loss(method.build(), torch.zeros(1, 3, 33, 32, dtype=torch.uint8), torch.zeros(1, 33, 32).long())


def test_maps_stay_inside_the_grid():
    torch.manual_seed(0)
    method = create("fcn")
    method = method.bind(method.build())
    image = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)
    assignment = method.assign(image, 24)
    assert assignment.labels.shape == (90, 140)
    assert assignment.labels.min() >= 0
    assert assignment.labels.max() < 24


def test_a_large_input_is_seen_in_pieces_that_make_the_same_map(monkeypatch):
    image = np.random.default_rng(0).integers(90, 120, (150, 200, 3)).astype(np.uint8)
    image[:, 90:] += 100
    method = create("fcn", device="cpu")
    whole = method.assign(image, 400)
    monkeypatch.setattr("spx_cli.methods._pieces._PIECE", 64)
    pieces = method.assign(image, 400)
    assert (pieces.labels == whole.labels).mean() > 0.9999
    np.testing.assert_allclose(pieces.contours, whole.contours, atol=1e-4)
    monkeypatch.setattr("spx_cli.methods.fcn._REACH", 16)
    assert np.abs(method.assign(image, 400).contours - whole.contours).max() > 1e-2
