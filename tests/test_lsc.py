"""LSC: its feature space, and what clustering in it must give."""

import numpy as np
import pytest

from spx_cli.color import rgb_to_lab
from spx_cli.methods import create, lsc
from spx_cli.methods._grid import grid_seeds, grid_shape
from spx_cli.methods._smoothing import smooth
from spx_cli.methods.lsc import _features


def stripes() -> tuple[np.ndarray, np.ndarray]:
    """A noisy image of three bands that cut across every grid, and its truth."""
    y, x = np.mgrid[:42, :61]
    truth = ((x + y) > 35).astype(np.int32) + ((x + y) > 70)
    colors = np.array([[210, 60, 40], [40, 190, 70], [50, 60, 200]], np.int16)
    return (colors[truth] + np.random.default_rng(0).integers(-6, 7, (42, 61, 3))).astype(np.uint8), truth


def test_three_bands() -> None:
    image, truth = stripes()
    labels = create("lsc", smoothing=0).segment(image, 3)
    assert (labels == truth).mean() > 0.99


def test_cosines_and_sines_have_the_norm_of_the_paper() -> None:
    lab = rgb_to_lab(np.random.default_rng(1).integers(0, 256, (7, 35, 3), dtype=np.uint8))
    tiles = _features(lab, 20.0, 2.55)
    flat = tiles.transpose(0, 1, 3, 2).reshape(7, -1, 7)[:, :35]
    squares = (flat[..., 0:6:2] ** 2 + flat[..., 1:6:2] ** 2).reshape(-1, 3)
    np.testing.assert_allclose(squares, np.broadcast_to([400.0, 51.0**2, 51.0**2], squares.shape), rtol=1e-5)
    np.testing.assert_allclose(flat[..., 0], 20 * np.cos(np.pi / 2 * lab[..., 0] / 100), atol=1e-4)
    np.testing.assert_allclose(flat[..., 3], 51 * np.sin(np.pi / 2 * (lab[..., 1] + 128) / 255), atol=2e-4)


def test_weights_are_inner_products_with_the_whole_image() -> None:
    lab = rgb_to_lab(np.random.default_rng(2).integers(0, 256, (9, 20, 3), dtype=np.uint8))
    flat = _features(lab, 20.0, 2.55).transpose(0, 1, 3, 2).reshape(9, -1, 7)[:, :20].reshape(-1, 7).astype(np.float64)
    expected = flat[:, :6] @ flat[:, :6].sum(0)
    np.testing.assert_allclose(flat[:, 6], expected / expected.mean(), rtol=1e-5)


def paper(lab: np.ndarray, n: int, ratio: float, rounds: int) -> np.ndarray:
    """The paper's weighted k-means in ten dimensions in plain NumPy, each centre in a window of two grid steps."""
    height, width, _ = lab.shape
    rows, columns = grid_shape((height, width), n)
    flat = _features(lab, 20.0, 2.55).transpose(0, 1, 3, 2).reshape(height, -1, 7)[:, :width].astype(float)
    y, x = np.mgrid[:height, :width]
    turns = [
        f(np.pi / 2 * at * parts / size)
        for at, parts, size in ((x, columns, width), (y, rows, height))
        for f in (np.cos, np.sin)
    ]
    weight = flat[..., 6]
    phi = np.concatenate([flat[..., :6], 20.0 * ratio * np.stack(turns, -1)], -1) / weight[..., None]
    places = grid_seeds((height, width), n).astype(float)
    centres = [phi[round(v), round(u)] for v, u in places]
    for _ in range(rounds + 1):
        nearest, labels = np.full(y.shape, np.inf), np.zeros(y.shape, int)
        for k, (v, u) in enumerate(places):
            inside = (y >= int(max(v - height / rows, 0))) & (y <= v + height / rows)
            tile = x // lsc._LANES  # windows are of whole tiles
            inside &= tile >= int(max(u - width / columns, 0)) // lsc._LANES
            inside &= tile <= int(min(u + width / columns, width - 1)) // lsc._LANES
            distance = ((phi - centres[k]) ** 2).sum(-1)
            inside &= distance < nearest
            nearest[inside], labels[inside] = distance[inside], k
        for k in np.unique(labels):
            own = labels == k
            centres[k] = (weight[own, None] * phi[own]).sum(0) / weight[own].sum()
            places[k] = y[own].mean(), x[own].mean()
    return labels


def test_it_is_the_papers_algorithm() -> None:
    image, _ = stripes()
    found = create("lsc", smoothing=0, iterations=3, row_step=1).segment(image, 12, raw=True)
    assert (found == paper(rgb_to_lab(image), 12, create("lsc").ratio, 3)).mean() > 0.95


def test_a_larger_ratio_rounds_regions() -> None:
    image = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    border = [np.count_nonzero(np.diff(create("lsc", ratio=r).segment(image, 20, raw=True))) for r in (0.02, 2.0)]
    assert border[1] < border[0] / 2


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (4, 6)])
def test_smoothing_keeps_the_mean_of_a_flat_image_and_spreads_a_point(size: tuple[int, int]) -> None:
    np.testing.assert_array_equal(smooth(np.full((*size, 3), 7, np.float32), 2), 7)
    point = np.zeros((5, 5, 2), np.float32)
    point[2, 2, 1] = 16
    once = smooth(point, 1)
    np.testing.assert_array_equal(once[1:4, 1:4, 1], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    assert once[..., 0].max() == 0


def test_sums_over_a_million_pixels_are_exact(monkeypatch) -> None:
    totals, kmeans = [], lsc._kmeans
    monkeypatch.setattr(lsc, "_kmeans", lambda *given: (totals.append(given[-1]), kmeans(*given))[1])
    lsc.LSC(smoothing=0, row_step=1, iterations=1).assign(np.full((1100, 1000, 3), 77, np.uint8), 1)
    pixels = 1100 * 1000
    np.testing.assert_allclose(totals[0][0, [6, 11, 12, 13]] / pixels, [1, 549.5, 499.5, 1], rtol=1e-6)
