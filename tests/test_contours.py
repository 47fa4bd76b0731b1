from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spx_cli.errors import ParameterError, WeightsError
from spx_cli.methods import create
from spx_cli.methods._contours import chances, contour_loss
from spx_cli.methods._pieces import pieces
from spx_cli.methods._recipe import Recipe
from spx_cli.training.state import State
from strategies import label_maps

LEARNED = ["fcn", "sin", "ssn"]


def naive_loss(scores, truth):
    terms = []
    for y, x in np.argwhere(truth >= 0):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [p for p in around if 0 <= p[0] < truth.shape[0] and 0 <= p[1] < truth.shape[1] and truth[p] >= 0]
        chance = 1 / (1 + np.exp(-scores[y, x]))
        border = any(truth[p] != truth[y, x] for p in inside)
        terms.append(-np.log(chance if border else 1 - chance))
    return np.mean(terms) if terms else 0.0


@given(label_maps(max_side=9, max_id=4), st.integers(0, 99))
def test_loss_agrees_with_a_double_loop(labels, seed):
    truth = labels.astype(np.int64) - 1
    scores = np.random.default_rng(seed).normal(size=truth.shape).astype(np.float32)
    loss = contour_loss(torch.from_numpy(scores)[None], torch.from_numpy(truth)[None])
    assert loss.item() == pytest.approx(naive_loss(scores, truth), rel=1e-4)


def test_flow_has_no_contours():
    with pytest.raises(ParameterError, match="contours=false"):
        contour_loss(torch.zeros(1, 4, 4), torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize("size", [(4, 6), (8, 12), (3, 5)])
def test_maps_are_probabilities_at_the_size_of_the_image(size):
    scores = torch.zeros(2, 4, 6)
    scores[1] = 20
    maps = chances(scores, size)
    assert maps.shape == (2, *size)
    assert maps.dtype == torch.float32
    np.testing.assert_allclose(maps[0], 0.5)
    np.testing.assert_allclose(maps[1], 1)


def picture():
    image = np.random.default_rng(0).integers(90, 120, (64, 96, 3)).astype(np.uint8)
    image[:, 50:] += 100
    return image


@pytest.mark.parametrize("scales", [(), (0,), (float("nan"),), ("1",), 1.0])
def test_sizes_at_which_nothing_is_seen_are_refused(scales):
    with pytest.raises(ParameterError, match="scales must lie between"):
        create("fcn", device="cpu").contour_map(picture(), scales=scales)


@pytest.mark.parametrize("name", LEARNED)
def test_regions_merge_along_learned_contours_only_where_they_are_wanted(name):
    torch.manual_seed(0)
    method = create(name, device="cpu")
    network = method.build()
    bound, blind = method.bind(network), create(method, contours=False).bind(network)
    assignment = bound.assign(picture(), 40)
    assert assignment.contours.shape == (64, 96)
    assert assignment.contours.dtype == np.float32
    assert blind.assign(picture(), 40).contours is None
    assert bound.finish(assignment, 12).max() == 11
    flat = assignment._replace(contours=np.full((64, 96), 0.3, np.float32))
    assert not np.array_equal(bound.finish(flat, 12), bound.finish(assignment, 12))


@pytest.mark.parametrize("name", LEARNED)
def test_network_of_the_paper_has_no_contours(name):
    torch.manual_seed(0)
    own, paper = (create(name, contours=on, device="cpu").build().state_dict() for on in (True, False))
    method = create(name, device="cpu")
    assert method.like(own).contours
    assert not method.like(paper).contours
    with pytest.raises(WeightsError, match="to start from"):
        State(method, Recipe(), torch.device("cpu"), paper)


@pytest.mark.parametrize("name", LEARNED)
def test_contour_map_of_any_image(name):
    method = create(name, device="cpu")
    for size in ((1, 1), (1, 40), (17, 33), (64, 96)):
        image = np.ascontiguousarray(picture()[: size[0], : size[1]])
        seen = method.contour_map(image, scales=(1.0, 0.5), mirrored=True)
        assert (seen.shape, seen.dtype) == (size, np.float32)
        assert ((seen >= 0) & (seen <= 1)).all()
    border, inside = seen[10:54, 48:52].max(1).mean(), seen[10:54, 60:90].mean()
    assert border > 3 * inside


def test_contour_map_of_a_mirrored_image_is_mirrored():
    method = create("fcn", device="cpu")
    one, other = (method.contour_map(image, mirrored=True) for image in (picture(), picture()[:, ::-1].copy()))
    np.testing.assert_allclose(one, other[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("name", LEARNED)
def test_a_network_without_contours_gives_no_map(name):
    torch.manual_seed(0)
    method = create(name, contours=False, device="cpu")
    with pytest.raises(ParameterError, match="learned no contours"):
        method.bind(method.build()).contour_map(picture())


def test_a_large_image_is_seen_in_pieces(monkeypatch):
    image = np.tile(picture(), (3, 3, 1))
    method = create("fcn", device="cpu")
    whole = method.contour_map(image)
    monkeypatch.setattr("spx_cli.methods._pieces._PIECE", 128)
    monkeypatch.setattr("spx_cli.methods._torch.pieces", partial(pieces, beyond=64))
    parts = method.contour_map(image)
    assert parts.shape == (192, 288)
    assert np.abs(parts - whole).mean() < 0.01
