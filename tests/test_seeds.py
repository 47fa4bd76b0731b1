"""SEEDS and reSEEDS: what exchanging blocks and pixels must give."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pictures import quadrants
from spx_cli.methods import create
from spx_cli.methods._blocks import REMOVABLE, cells, halve, levels, pixels, same
from spx_cli.metrics import score
from spx_cli.regions.maps import components
from strategies import label_maps

METHODS = ("seeds", "reseeds")


@pytest.mark.parametrize("name", METHODS)
def test_quadrants(name: str) -> None:
    image, truth = quadrants()
    assert np.array_equal(create(name, merge="ward").segment(image, 4), truth)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("n_segments", [1, 7, 24])
def test_regions_stay_connected_while_pixels_move(name: str, n_segments: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (30, 45, 3), dtype=np.uint8)
    labels = create(name).segment(image, n_segments, raw=True)
    assert components(labels)[1] == len(np.unique(labels)) == labels.max() + 1


def test_sweeps_move_blocks_and_pixels() -> None:
    image, _ = quadrants()
    still = create("seeds", block_iterations=0, iterations=0).segment(image, 6, raw=True)
    blocks = create("seeds", iterations=0).segment(image, 6, raw=True)
    both = create("seeds").segment(image, 6, raw=True)
    assert np.array_equal(still[0], np.repeat([0, 1, 2], 20))
    errors = [score(labels, [], image, metrics=["sse_rgb"])[0]["sse_rgb"] for labels in (still, blocks, both)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.9 * errors[1]


def test_compactness_rounds_regions() -> None:
    image = np.random.default_rng(2).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    border = [
        np.count_nonzero(np.diff(create("reseeds", compactness=m).segment(image, 16, raw=True))) for m in (1.0, 1000.0)
    ]
    assert border[1] < border[0] / 2


def test_levels_halve_cells_down_to_the_smallest_block() -> None:
    steps = levels((30, 45), (2, 3), 3)
    assert [len(step.rows) - 1 for step in steps] == [2, 4, 8]
    assert np.diff(steps[-1].rows).min() == 3
    for coarse, fine in pairwise(steps):
        assert np.array_equal(coarse.rows, fine.rows[::2])
    assert np.array_equal(pixels(halve(cells((2, 3))), steps[1]), pixels(cells((2, 3)), steps[0]))


@given(label_maps(max_side=8, max_id=2), st.data())
def test_removable_block_never_splits_its_region(labels: np.ndarray, data: st.DataObject) -> None:
    y = data.draw(st.integers(0, labels.shape[0] - 1))
    x = data.draw(st.integers(0, labels.shape[1] - 1))
    lattice = np.pad(labels, 1, constant_values=-1)
    if REMOVABLE[same(lattice, y + 1, x + 1)]:
        without = labels.copy()
        without[y, x] = labels.max() + 1
        assert components(without)[1] == components(labels)[1] + 1
