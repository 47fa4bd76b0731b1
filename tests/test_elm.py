from functools import partial

import numpy as np
import pytest
import torch

from spx_cli.methods import _pairs, create
from spx_cli.methods._association import Grid
from spx_cli.methods._pieces import pieces
from spx_cli.methods._resize import resize_image
from spx_cli.regions.graph import FEATURES, SIZE, region_graph
from spx_cli.regions.runs import find_runs

GRID = Grid(24, 32, 3, 4)


@pytest.fixture
def labels() -> torch.Tensor:
    """Two maps in which pixels took cells around their own."""
    index = torch.from_numpy(GRID.index)
    shifted = index.roll((1, -2), (0, 1))
    shifted[:, -8:], shifted[:8] = index[:, -8:], index[:8]
    return torch.stack([index, shifted])


def test_edges_are_those_of_the_region_graph(labels):
    contours = torch.rand(2, 3, 24, 32, generator=torch.manual_seed(0))
    edges = _pairs._edges(labels, GRID, contours)
    found = {(int(a), int(b)): (int(n), *c.tolist()) for a, b, n, c in zip(*edges, strict=True)}
    count = 0
    for i, one in enumerate(labels.numpy()):
        # the features tell which label each of the graph's connected pieces has
        features = np.repeat(one[..., None], 3, 2).astype(np.float32)
        graph = region_graph(find_runs(one.astype(np.int32)), features, contours=contours[i].numpy())
        label = (graph.sums[:, FEATURES] / graph.sums[:, SIZE]).round().astype(int)
        sums: dict[tuple[int, int], np.ndarray] = {}
        for (a, b), border, strength in zip(graph.edges, graph.border, graph.contour, strict=True):
            pair = min(label[a], label[b]), max(label[a], label[b])
            sums[pair] = sums.get(pair, np.zeros(4)) + np.array([border, *strength])
        for (a, b), (border, *strength) in sums.items():
            known = found[a + i * GRID.cells, b + i * GRID.cells]
            assert known[0] == border
            assert known[1:] == pytest.approx(np.array(strength) / border, rel=1e-4)
        count += len(sums)
    assert count == len(found)


def test_share_lost_is_what_counting_gives(labels):
    truth = (
        torch.randint(-1, 4, (2, 6, 8), generator=torch.manual_seed(1)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    )
    edges = _pairs._edges(labels, GRID, torch.zeros(2, 1, 24, 32))
    share, known = _pairs._share_lost(labels, GRID, edges.a, edges.b, truth)
    for a, b, s, k in zip(edges.a.tolist(), edges.b.tolist(), share.tolist(), known.tolist(), strict=True):
        i = a // GRID.cells
        one, other = (
            np.bincount(t[t >= 0], minlength=4) for t in (truth[i][labels[i] == x % GRID.cells].numpy() for x in (a, b))
        )
        smaller = min(one.sum(), other.sum())
        assert k == (smaller > 0)
        if smaller:
            assert s == pytest.approx((one.max() + other.max() - (one + other).max()) / smaller)


def test_pairs_across_a_border_come_to_cost_more():
    torch.manual_seed(0)
    method = create("elm", weights="unused")
    truth = torch.zeros(2, 64, 64, dtype=torch.int64)
    truth[:, :, 32:] = 1
    images = (60 + 120 * truth[:, None] + torch.randint(0, 20, (2, 3, 64, 64))).to(torch.uint8)
    network = method.build().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = method.loss(network, images, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    used = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters()]
    assert all(used)


def test_a_large_image_is_seen_in_pieces(monkeypatch):
    image = np.random.default_rng(0).integers(90, 120, (150, 200, 3)).astype(np.uint8)
    image[:, 90:] += 100
    method = create("elm", device="cpu")
    whole = method.assign(image, 20)
    monkeypatch.setattr("spx_cli.methods._pieces._PIECE", 64)
    monkeypatch.setattr("spx_cli.methods.elm.pieces", partial(pieces, beyond=64))
    parts = method.assign(image, 20)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    assert not np.array_equal(parts.contours, whole.contours)
    assert np.abs(parts.contours - whole.contours).mean() < 0.03
    assert np.abs(parts.embedding - whole.embedding).mean() < 0.1 * np.abs(whole.embedding).mean()


def test_an_image_that_is_large_for_its_count_is_seen_smaller(monkeypatch):
    image = np.random.default_rng(0).integers(90, 120, (301, 401, 3)).astype(np.uint8)
    image[:, 181:] += 100
    method = create("elm", device="cpu")
    whole = method.assign(image, 300)
    assert whole.contours.shape == (4, 301, 401)
    assert whole.embedding.shape == (301, 401, 8)
    monkeypatch.setattr("spx_cli.methods.elm.LARGEST", 400)  # the image has six times as many pixels per superpixel
    smaller = method.assign(image, 300)
    assert smaller.contours.shape == (4, 301, 401)
    assert smaller.embedding.shape == (151, 201, 8)
    np.testing.assert_array_equal(smaller.labels, whole.labels)
    for contours in (whole.contours, smaller.contours):
        assert (contours[0, :, 178:184].max(1) > 0.3).all()
    _, embedding = method._look([resize_image(image, (123, 163))])
    rows, columns = (np.arange(n) * m // n for n, m in ((151, 123), (201, 163)))
    nearest = embedding[0][:, rows[:, None], columns].transpose(1, 2, 0)
    assert np.corrcoef(smaller.embedding.ravel(), nearest.ravel())[0, 1] > 0.8
    assert method.segment(image, 50).max() == 49
