"""Manifold SLIC: superpixels must follow the content."""

import numpy as np
import pytest

from pictures import quadrants
from spx_cli.color import FIXED_POINT
from spx_cli.methods import create
from spx_cli.methods.mslic import _place_seeds, _sum_areas


def half_busy(height: int = 120, width: int = 120) -> np.ndarray:
    """An image that is flat on the left and noise of few colours on the right."""
    image = np.full((height, width, 3), 120, np.uint8)
    image[:, width // 2 :] = np.random.default_rng(0).integers(60, 180, (height, width // 2, 1), dtype=np.uint8)
    return image


def test_quadrants() -> None:
    image, truth = quadrants()
    assert np.mean(create("mslic").segment(image, 4) == truth) > 0.98


def test_flat_image_gives_the_grid() -> None:
    labels = create("mslic").segment(np.full((33, 44, 3), 90, np.uint8), 12, raw=True)
    assert np.array_equal(labels, np.arange(12).reshape(3, 4).repeat(11, 0).repeat(11, 1))


def test_busy_half_gets_more_superpixels() -> None:
    labels = create("mslic").segment(half_busy(), 36, raw=True)
    flat, busy = len(np.unique(labels[:, :60])), len(np.unique(labels[:, 60:]))
    assert busy > 1.5 * flat


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.0, 3.0), (2.0, 3.0)])
def test_area_of_a_ramp(slope: tuple[float, float]) -> None:
    # A pixel of the plane L = slope . (y, x) is larger by sqrt(1 + |slope|^2) than one of a flat image.
    planes = np.zeros((3, 9, 9), np.int16)
    planes[0] = FIXED_POINT * np.tensordot(slope, np.mgrid[:9, :9], 1)
    area = np.zeros((10, 10))
    _sum_areas(planes, np.float32(1 / FIXED_POINT**2), area)
    inner = area[8, 8] - area[8, 1] - area[1, 8] + area[1, 1]
    assert inner == pytest.approx(49 * np.sqrt(1 + np.square(slope).sum()), rel=1e-5)


def test_cells_share_the_area() -> None:
    rng = np.random.default_rng(1)
    density = rng.uniform(1, 3, (90, 120)) * (1 + 4 * (np.arange(120) > 60))
    area = np.zeros((91, 121))
    area[1:, 1:] = density.cumsum(0).cumsum(1)
    labels, seeds = np.full((90, 120), -1, np.int32), np.empty((12, 2), np.float32)
    _place_seeds(area, 3, 4, seeds, labels)
    shares = np.bincount(labels.ravel(), density.ravel(), minlength=12) / density.sum()
    assert np.allclose(shares, 1 / 12, atol=0.01)
    assert np.array_equal(labels[tuple((seeds + 0.5).astype(int).T)], np.arange(12))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2)])
def test_every_pixel_a_cell(size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = create("mslic").segment(image, size[0] * size[1], raw=True)
    assert np.array_equal(labels.ravel(), np.arange(labels.size))
