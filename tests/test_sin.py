import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from spx_cli.errors import ParameterError
from spx_cli.methods import create, sin
from spx_cli.methods._resize import resize_image, resize_labels
from spx_cli.methods._spixelnet import cell_grid, normalise
from spx_cli.methods.sin import SIN, Level
from spx_cli.regions import maps
from trainee import assert_learns

# Values of the resized image that lie within 1e-5 of a half, which OpenCV's order of summation rounds the other way.
TIES = {(6, 9): {}, (16, 24): {(1, 89, 2): 80, (12, 69, 0): 148, (43, 301, 0): 40, (218, 338, 0): 178}}


def leads(scores):
    return [Level(h[:, 0, :, 1::2] - h[:, 1, :, 1::2], v[:, 0, 1::2] - v[:, 1, 1::2]) for h, v in scores]


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "reference/deep/sin"
    state = {k: torch.from_numpy(v) for k, v in np.load(folder / "sin_seeded_state_fp16.npz").items()}
    network = create("sin", skips=False, contours=False).build()
    network.load_state_dict(SIN.convert({k: v.float() if v.ndim else v for k, v in state.items()}), strict=True)
    return folder, network.eval()


@pytest.mark.parity
@pytest.mark.parametrize("shape", list(TIES), ids=str)
def test_probabilities_and_maps_are_those_of_the_authors(shared, reference, shape):
    folder, network = reference
    wanted = np.load(folder / f"100007_{shape[0]}x{shape[1]}.npz")
    picture = np.asarray(Pillow.open(next((shared / "data/BSDS500").rglob("100007.jpg"))))
    small = resize_image(picture, (16 * shape[0] - 15, 16 * shape[1] - 15))
    for place, value in TIES[shape].items():
        assert abs(int(small[place]) - value) == 1
        small[place] = value
    with torch.no_grad():
        levels = network.scores(normalise(torch.from_numpy(small)[None].permute(0, 3, 1, 2)))
    for i, level in zip((3, 2, 1, 0), levels, strict=True):
        for axis, scores in (("h", level.horizontal), ("v", level.vertical)):
            if f"prob{i}_{axis}" in wanted:
                np.testing.assert_allclose(scores[0].softmax(0).numpy(), wanted[f"prob{i}_{axis}"], atol=1e-5)
    np.testing.assert_array_equal(sin.expand(leads(levels))[0].numpy() + 1, wanted["label_net"])


@pytest.mark.parity
def test_resized_image_is_that_of_opencv(shared, reference):
    wanted = np.load(reference[0] / "100007_6x9.npz")["resized_rgb_uint8"]
    picture = np.asarray(Pillow.open(next((shared / "data/BSDS500").rglob("100007.jpg"))))
    np.testing.assert_array_equal(resize_image(picture, wanted.shape[:2]), wanted)


@pytest.mark.parity
def test_loss_and_gradients_are_those_of_the_authors(reference):
    folder, network = reference
    fixture, wanted = np.load(folder / "loss_fixture.npz"), json.loads((folder / "meta.json").read_text())["loss"]
    network.zero_grad()
    truth = torch.from_numpy(fixture["label"][:, 0]).long()
    loss = sin.interpolation_loss(network(torch.from_numpy(fixture["x"])), truth, softmax_twice=True)
    assert loss.item() == pytest.approx(wanted["total"], rel=1e-5)
    loss.backward()
    # Both are of float32, and sums of a million terms: with the instructions of another processor they move by 3e-4.
    for name, parameter in network.named_parameters():
        assert parameter.grad.norm().item() == pytest.approx(wanted["grad_norms"][name], rel=2e-3), name


def random_levels(rows, columns, seed):
    generator, levels = torch.Generator().manual_seed(seed), []
    for _ in range(4):
        columns = 2 * columns - 1
        horizontal = torch.randn(1, 2, rows, columns, generator=generator)
        rows = 2 * rows - 1
        levels.append(Level(horizontal, torch.randn(1, 2, rows, columns, generator=generator)))
    return levels


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_superpixels_are_connected_whatever_the_scores(rows, columns, seed):
    labels = sin.expand(leads(random_levels(rows, columns, seed)))[0].numpy()
    assert labels.shape == (16 * rows - 15, 16 * columns - 15)
    _, count = maps.components(labels)
    assert count == len(np.unique(labels)) == rows * columns


def test_inserted_columns_follow_the_scores():
    scores = torch.zeros(1, 2, 1, 5)
    scores[0, 1, 0, 3] = 1  # the second new column prefers its right; the first is a tie
    scores[0, 1, 0, ::2] = 9  # old columns keep their label whatever their scores
    lead = leads([Level(scores, scores)])[0].horizontal
    assert sin.insert(torch.tensor([[[4, 5, 6]]], dtype=torch.int32), lead).tolist() == [[[4, 4, 5, 6, 6]]]


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1), (4, 5)])
def test_leads_are_the_differences_of_the_scores(skips, shape):
    torch.manual_seed(0)
    method = create("sin", skips=skips)
    network = method.build()
    x = torch.randn(2, 3, 16 * shape[0] - 15, 16 * shape[1] - 15)
    if min(shape) > 1:
        network.train()(x)  # so that the batch normalisations have something to fold
    network.eval()
    with torch.no_grad():
        wanted = leads(network.scores(x))
        for got in (network(x), method.bind(network).network(x)):
            for a, b in zip(got, wanted, strict=True):
                torch.testing.assert_close(a.horizontal, b.horizontal, atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(a.vertical, b.vertical, atol=1e-4, rtol=1e-4)


def test_level_loss_counts_pixels_with_exactly_one_neighbour_of_their_own():
    labels = torch.tensor([[[1, 1, 2, 3, 2, 2, 2, -1, 2]]])
    lead = torch.tensor([[[3.0, 0.0, 0.0, 0.0]]])
    # column 1 is like its left one only; 3 is like none, 5 like both, 7 is unlabelled
    assert sin.level_loss(lead, labels).item() == pytest.approx(np.log1p(np.exp(-3.0)), rel=1e-6)
    twice = torch.softmax(torch.tensor([3.0, 0.0]), 0)
    wanted = -torch.log_softmax(twice, 0)[0].item()
    assert sin.level_loss(lead, labels, softmax_twice=True).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("skips", [False, True])
def test_a_few_steps_lower_the_loss(skips):
    assert_learns(create("sin", skips=skips), 33)


def test_crop_must_fit_the_grid():
    method = create("sin")
    with pytest.raises(ParameterError, match="16 n \\+ 1"):
        method.loss(method.build(), torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, 32, 32).long())


@pytest.mark.parametrize("size", [(321, 481), (481, 321), (100, 1000), (1, 50), (64, 64)])
@pytest.mark.parametrize("count", [1, 2, 7, 100, 384, 600])
def test_grid_is_close_above_the_count(size, count):
    rows, columns = cell_grid(size, count)
    if size[0] * size[1] >= 16 * 1.3 * count:
        assert count <= rows * columns <= count * 1.15 + 2
    if (size, count) == ((321, 481), 600):
        assert (rows, columns) == (20, 30)


def test_labels_are_resized_without_arithmetic():
    labels = np.array([[2**31 - 1, 5], [7, 2**24 + 1]], np.int32)
    np.testing.assert_array_equal(resize_labels(labels, (4, 4)), labels.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(resize_labels(labels.repeat(3, 0).repeat(3, 1), (2, 2)), labels)
