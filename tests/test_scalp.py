"""SCALP: what looking along straight lines must give."""

import numpy as np
import pytest

from pictures import quadrants
from spx_cli.color import rgb_to_lab
from spx_cli.methods import create
from spx_cli.methods.scalp import _average, _bends


def test_quadrants() -> None:
    image, truth = quadrants()
    labels = create("scalp", compactness=2.0).segment(image, 4)
    assert np.mean(labels == truth) > 0.99


def test_flat_image_gives_the_grid() -> None:
    labels = create("scalp").segment(np.full((33, 44, 3), 90, np.uint8), 12, raw=True)
    assert np.array_equal(labels, np.arange(12).reshape(3, 4).repeat(11, 0).repeat(11, 1))


def test_a_strip_is_covered_by_its_cells() -> None:
    labels = create("scalp").segment(np.full((512, 2, 3), 90, np.uint8), 8, raw=True)
    sizes = np.bincount(labels.ravel())
    assert np.all(np.diff(labels[:, 0]) >= 0)
    assert sizes.max() <= sizes.min() + 4


@pytest.mark.parametrize("weights", [{"path_weight": 1.0, "contour_weight": 0.0}, {"contour_weight": 500.0}])
def test_lines_do_not_cross_a_wall(weights: dict[str, float]) -> None:
    # The two sides have one colour: only what lies between a pixel and a centre can tell them apart.
    image = np.full((60, 60, 3), 100, np.uint8)
    image[:, 24:26] = 240
    blind = {"path_weight": 0.0, "contour_weight": 0.0}
    shared = [
        np.intersect1d(labels[:, :23], labels[:, 27:]).size
        for labels in (create("scalp", neighborhood=0, **w).segment(image, 9, raw=True) for w in (weights, blind))
    ]
    assert shared[0] == 0 < shared[1]


def test_lines_are_nearly_straight() -> None:
    bends = _bends(64)
    for n in range(1, 65):
        assert 0 <= bends[n] < n
        for m in range(n + 1):
            at = m
            for step in range(n, 0, -1):
                at -= at > bends[step]
                assert abs(at - m * (step - 1) / n) < 3
            assert at == 0


def test_average_is_that_of_the_neighborhood() -> None:
    lab = rgb_to_lab(np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    around = np.empty((9, 7, 4), np.float32)
    _average(lab, 2, np.float32(0.5 / 80**2), around)
    window = lab[2:7, 1:6].reshape(-1, 3).astype(float)
    weight = np.exp(-((window - lab[4, 3]) ** 2).sum(1) / (2 * 80**2))
    color = np.array([50.0, 10.0, -20.0])
    expected = np.average(((window - color) ** 2).sum(1), weights=weight)
    got = around[4, 3, 3] - 2 * around[4, 3, :3] @ color + color @ color
    assert got == pytest.approx(expected, rel=0.02)
