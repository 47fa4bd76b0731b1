import numpy as np
import pytest

from spx_cli.methods import create


def quadrants(noise=8):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:], image[20:, :30] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    truth = (np.arange(40)[:, None] // 20) * 2 + np.arange(60)[None] // 30
    jitter = np.random.default_rng(0).integers(0, noise, image.shape)
    return (image + jitter).astype(np.uint8), truth


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
