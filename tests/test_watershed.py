"""Waterpixels: what flooding the regularised gradient must give."""

import numpy as np
import pytest

from spx_cli.methods import create
from spx_cli.regions.maps import components


def two_halves(height: int = 40, width: int = 60, edge: int = 23) -> np.ndarray:
    """An image that is dark left of column `edge` and bright right of it."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[:, edge:] = 180
    return image


def test_basins_meet_on_the_edge() -> None:
    labels = create("watershed").segment(two_halves(), 2)
    # A gradient by central differences is two pixels wide, so the basins may meet on either of them.
    assert set(np.argmax(labels, axis=1)) <= {22, 23, 24}
    assert np.array_equal(np.sort(labels, axis=1), labels)


def test_flat_image_gives_nearly_the_grid() -> None:
    labels = create("watershed").segment(np.full((33, 44, 3), 90, np.uint8), 12, raw=True)
    assert np.mean(labels == np.arange(12).reshape(3, 4).repeat(11, 0).repeat(11, 1)) > 0.95


@pytest.mark.parametrize("n_segments", [1, 7, 24])
def test_every_marker_floods_one_connected_basin(n_segments: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (30, 45, 3), dtype=np.uint8)
    labels = create("watershed").segment(image, n_segments, raw=True)
    assert labels.min() == 0
    assert components(labels)[1] == len(np.unique(labels)) == labels.max() + 1


def test_compactness_pulls_basins_to_the_grid() -> None:
    image = np.random.default_rng(2).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    lengths = [
        np.count_nonzero(np.diff(create("watershed", compactness=k).segment(image, 16, raw=True)))
        for k in (0.0, 50.0, 1000.0)
    ]
    assert lengths[0] > lengths[1] > 1.1 * lengths[2]


def test_markers_lie_away_from_the_frame_of_their_cell() -> None:
    # One dark line in each row of cells is the lowest place only for markers that may reach it.
    image = np.random.default_rng(3).integers(100, 200, (40, 40, 3), dtype=np.uint8)
    image[:, 19:22] = 30
    wide, narrow = (create("watershed", shrink=s, compactness=0.0).segment(image, 4, raw=True) for s in (1.0, 0.1))
    assert not np.array_equal(wide, narrow)


def test_strips_of_a_large_image_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(4).integers(0, 256, (130, 40, 3), dtype=np.uint8)
    image = image // 8 + 8 * np.arange(130, dtype=np.uint8)[:, None, None] // 10
    whole = create("watershed").segment(image, 208, raw=True)
    monkeypatch.setattr("spx_cli.methods.watershed._STRIP", 1)
    assert np.mean(create("watershed").segment(image, 208, raw=True) == whole) > 0.99
