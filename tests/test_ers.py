"""ERS against a greedy maximiser written straight from the definitions, and on images with an obvious answer."""

import numpy as np
import pytest

from spx_cli.color import rgb_to_lab
from spx_cli.methods import create
from spx_cli.regions.maps import components


def edges_of(image: np.ndarray, sigma: float) -> tuple[list[tuple[int, int]], list[float]]:
    height, width, _ = image.shape
    lab = rgb_to_lab(image).reshape(-1, 3).astype(np.float64)
    at = np.arange(height * width).reshape(height, width)
    pairs = [
        *zip(at[:, :-1].ravel(), at[:, 1:].ravel(), strict=True),
        *zip(at[:-1].ravel(), at[1:].ravel(), strict=True),
    ]
    return pairs, [float(np.exp(-((lab[i] - lab[j]) ** 2).sum() / (2 * sigma**2))) for i, j in pairs]


def entropy_rate(pixels: int, pairs: list[tuple[int, int]], weights: list[float], chosen: set[int]) -> float:
    """H(A) of Eq. 4, the walk staying where it is on the edges that are not chosen."""
    degree, walk = np.zeros(pixels), np.zeros((pixels, pixels))
    for e, ((i, j), w) in enumerate(zip(pairs, weights, strict=True)):
        degree[[i, j]] += w
        if e in chosen:
            walk[i, j] = walk[j, i] = w
    walk /= degree[:, None]
    np.fill_diagonal(walk, 1 - walk.sum(1))
    walk[walk < 1e-12] = 1
    return float(-(degree / degree.sum() * (walk * np.log(walk)).sum(1)).sum())


def trees(pixels: int, pairs: list[tuple[int, int]], chosen: set[int]) -> np.ndarray:
    label = np.arange(pixels)
    for e in chosen:
        i, j = pairs[e]
        label[label == label[j]] = label[i]
    return label


def naive(image: np.ndarray, n_segments: int, sigma: float, balance: float) -> np.ndarray:
    pixels = image.shape[0] * image.shape[1]
    pairs, weights = edges_of(image, sigma)
    first = max(entropy_rate(pixels, pairs, weights, {e}) for e in range(len(pairs)))

    def value(chosen: set[int]) -> float:
        share = np.unique(trees(pixels, pairs, chosen), return_counts=True)[1] / pixels
        balanced = -(share * np.log(share)).sum() - len(share)  # Eq. 6
        return entropy_rate(pixels, pairs, weights, chosen) / first + balance * n_segments * balanced

    chosen: set[int] = set()
    for _ in range(pixels - n_segments):
        label = trees(pixels, pairs, chosen)
        open_edges = [e for e, (i, j) in enumerate(pairs) if label[i] != label[j]]
        chosen.add(max(open_edges, key=lambda e: value(chosen | {e})))
    return components(trees(pixels, pairs, chosen).reshape(image.shape[:2]))[0]


@pytest.mark.parametrize("seed", range(6))
def test_takes_the_edges_of_largest_gain(seed: int) -> None:
    image = np.random.default_rng(seed).integers(80, 160, (5, 6, 3), dtype=np.uint8)
    labels = create("ers", sigma=20.0).segment(image, 5, raw=True)
    assert np.array_equal(components(labels)[0], naive(image, 5, 20.0, 0.5))


def test_exactly_the_count_and_connected_without_finishing() -> None:
    y, x = np.mgrid[:31, :46]
    image = np.stack([5 * x, 8 * y, 2 * (x + y)], axis=-1).astype(np.uint8)
    for n_segments in (1, 2, 17, 31 * 46):
        labels = create("ers").segment(image, n_segments, raw=True)
        assert components(labels)[1] == len(np.unique(labels)) == n_segments


def test_lone_pixels_are_not_counted() -> None:
    image = np.full((40, 60, 3), 100, np.uint8)
    rng = np.random.default_rng(1)
    image.reshape(-1, 3)[rng.permutation(2400)[:60]] = rng.integers(0, 256, (60, 3))
    sizes = np.bincount(create("ers").segment(image, 24, raw=True).ravel())
    assert 0.9 * 24 <= (sizes >= 6).sum() <= 1.1 * 24 < (sizes > 0).sum()


def test_two_noisy_halves() -> None:
    truth = np.add.outer(np.arange(30), np.arange(40)) > 33
    image = np.where(truth[..., None], [180, 90, 60], [60, 90, 180])
    image = (image + np.random.default_rng(2).integers(-4, 5, image.shape)).astype(np.uint8)
    assert (create("ers").segment(image, 2) == truth).mean() > 0.998


def test_balance_evens_out_sizes() -> None:
    image = np.random.default_rng(3).integers(100, 120, (40, 40, 3), dtype=np.uint8)
    spread = [
        np.bincount(components(create("ers", balance=balance).segment(image, 20, raw=True))[0].ravel()).std()
        for balance in (0.0, 0.1, 0.5)
    ]
    assert spread[0] > 4 * spread[1]
    assert spread[1] > 1.2 * spread[2]
