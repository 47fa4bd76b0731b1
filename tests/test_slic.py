from math import ceil, sqrt

import numpy as np
import pytest
from skimage.segmentation import slic

from spx_cli.color import rgb_to_lab
from spx_cli.methods import create
from spx_cli.methods._grid import grid_seeds
from spx_cli.metrics import score


def quadrants(noise=8):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:], image[20:, :30] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    truth = (np.arange(40)[:, None] // 20) * 2 + np.arange(60)[None] // 30
    jitter = np.random.default_rng(0).integers(0, noise, image.shape)
    return (image + jitter).astype(np.uint8), truth


def mosaic(seed):
    """Forty patches of one colour each, under noise."""
    rng = np.random.default_rng(seed)
    points, place = rng.uniform((0, 0), (120, 160), (40, 2)), np.moveaxis(np.mgrid[:120, :160], 0, -1)[:, :, None]
    truth = ((place - points) ** 2).sum(-1).argmin(2)
    image = rng.integers(40, 216, (40, 3))[truth] + rng.normal(0, 20, (120, 160, 3))
    return image.clip(0, 255).astype(np.uint8), truth


def paper(image, n, compactness, rounds, adaptive):
    """The paper's k-means in plain NumPy; `adaptive` is SLICO, which takes the largest colour distance it met."""
    lab, seeds = rgb_to_lab(image).astype(float), grid_seeds(image.shape[:2], n)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    spacing = sqrt(y.size / len(seeds))
    centres = [[*lab[int(v + 0.5), int(u + 0.5)], v, u] for v, u in seeds]
    squared = [compactness**2] * len(seeds)
    for _ in range(rounds + 1):
        nearest, labels = np.full(y.shape, np.inf), np.zeros(y.shape, int)
        colours = []
        for k, (*colour, v, u) in enumerate(centres):
            colours.append(((lab - colour) ** 2).sum(-1))
            distance = colours[-1] / squared[k] + ((y - v) ** 2 + (x - u) ** 2) / spacing**2
            window = (abs(y - v) <= ceil(spacing)) & (abs(x - u) <= ceil(spacing)) & (distance < nearest)
            nearest[window], labels[window] = distance[window], k
        for k in np.unique(labels):
            if adaptive:
                squared[k] = max(1, ((lab - lab[labels == k].mean(0)) ** 2).sum(-1)[labels == k].max())
            centres[k] = [*lab[labels == k].mean(0), y[labels == k].mean(), x[labels == k].mean()]
    return labels


@pytest.mark.parametrize(("name", "more"), [("slic", {"compactness": 30.0}), ("slico", {})])
def test_it_is_the_papers_algorithm(name, more):
    image, _ = mosaic(0)
    found = create(name, iterations=4, row_step=1, **more).segment(image, 40, raw=True)
    assert (found == paper(image, 40, more.get("compactness", 10), 4, name == "slico")).mean() > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_it_is_as_good_as_scikit_images(seed):
    image, truth = mosaic(seed)
    peer = slic(image, 96, compactness=40, start_label=0, enforce_connectivity=False)
    ours = create("slic", compactness=40, iterations=10).segment(image, 96, raw=True)
    (theirs,), (found,) = (score(labels, [truth], metrics=["asa", "co", "k"]) for labels in (peer, ours))
    assert found["asa"] > theirs["asa"] - 0.01
    assert 0.8 < found["co"] / theirs["co"] < 1.25
    assert abs(found["k"] - theirs["k"]) <= 5


@pytest.mark.parametrize("name", ["slic", "slico"])
def test_four_coloured_quadrants_give_four_superpixels(name):
    image, truth = quadrants()
    assert np.array_equal(create(name).segment(image, 4), truth)


def test_a_flat_image_gives_a_regular_grid():
    sizes = np.bincount(create("slic").segment(np.full((40, 60, 3), 99, np.uint8), 24, native_count=True).ravel())
    assert len(sizes) == 24
    assert sizes.min() == sizes.max() == 100


def test_compactness_trades_colour_for_shape():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    loose = create("slic", compactness=5.0).segment(image, 30, raw=True)
    tight = create("slic", compactness=500.0).segment(image, 30, raw=True)
    changes = [(m[:, 1:] != m[:, :-1]).sum() for m in (loose, tight)]
    assert changes[1] < 0.5 * changes[0]


def test_an_image_smaller_than_the_window_and_one_large_superpixel():
    image, _ = quadrants()
    assert create("slic").segment(image, 1).max() == 0


def test_all_rows_in_every_round_is_the_paper_and_nearly_the_same():
    image, _ = quadrants(noise=60)
    fast = create("slic", row_step=3).segment(image, 20, raw=True)
    paper = create("slic", row_step=1).segment(image, 20, raw=True)
    assert (fast == paper).mean() > 0.8
