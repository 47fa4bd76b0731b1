"""ETPS: what descending its energy must give."""

import numpy as np
import pytest

from pictures import quadrants
from spx_cli.color import rgb_to_lab
from spx_cli.methods import create
from spx_cli.regions.maps import components


def energy(image: np.ndarray, labels: np.ndarray, position_weight: float, border_weight: float) -> float:
    """The energy that the parameters weigh, from its definition."""
    height, width = labels.shape
    lab, total = rgb_to_lab(image).astype(float), 0.0
    position = np.stack(np.mgrid[:height, :width], -1) * (position_weight / (labels.size / (labels.max() + 1))) ** 0.5
    for region in range(labels.max() + 1):
        for feature in (lab[labels == region], position[labels == region]):
            total += ((feature - feature.mean(0)) ** 2).sum()
    border = (labels[1:] != labels[:-1]).sum() + (labels[:, 1:] != labels[:, :-1]).sum()
    border += (labels[1:, 1:] != labels[:-1, :-1]).sum() + (labels[1:, :-1] != labels[:-1, 1:]).sum()
    return float(total + border_weight * border)


def test_quadrants() -> None:
    image, truth = quadrants()
    assert np.array_equal(create("etps").segment(image, 4, native_count=True), truth)


def test_constant_image_keeps_its_grid() -> None:
    labels = create("etps").segment(np.full((30, 40, 3), 90, np.uint8), 12, raw=True)
    assert np.array_equal(labels, np.arange(12).reshape(3, 4).repeat(10, 0).repeat(10, 1))


@pytest.mark.parametrize("n_segments", [1, 7, 24])
def test_topology_and_least_size_are_kept(n_segments: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (30, 45, 3), dtype=np.uint8)
    labels = create("etps", border_weight=0.0, min_size=0.5).segment(image, n_segments, raw=True)
    size = np.bincount(labels.ravel())
    assert components(labels)[1] == len(size)
    assert size.min() >= 0.5 * labels.size / len(size)


def test_energy_falls() -> None:
    image, _ = quadrants()
    weights = {"position_weight": 500.0, "border_weight": 30.0}
    still, once, often = (
        energy(image, create("etps", iterations=n, min_size=0.0, **weights).segment(image, 6, raw=True), **weights)
        for n in (0, 1, 100)
    )
    assert still > 2 * once
    assert once >= often


@pytest.mark.parametrize(("border_weight", "moves"), [(4000.0, True), (6000.0, False)])
def test_a_pixel_moves_where_its_colour_outweighs_the_border(border_weight: float, moves: bool) -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = image[10, 9] = 255
    # Of its eight neighbours five stay and three are gained, so two more borders; its colour is worth 100^2 or so.
    method = create("etps", border_weight=border_weight, position_weight=0.0, min_size=0.0, iterations=10)
    expected = np.broadcast_to(np.arange(20) >= 10, (20, 20)).copy()
    expected[10, 9] = moves
    assert np.array_equal(method.segment(image, 2, raw=True), expected)


def test_border_weight_shortens_borders() -> None:
    image = np.random.default_rng(4).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    lengths = [
        np.count_nonzero(np.diff(create("etps", border_weight=weight).segment(image, 16, raw=True)))
        for weight in (0.0, 1000.0)
    ]
    assert lengths[1] < lengths[0] / 2
