import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage

from spx_cli.errors import LabelError
from spx_cli.regions import maps
from spx_cli.regions.runs import find_runs, paint
from strategies import label_maps


@given(label_maps())
def test_components_agree_with_scipy(labels):
    ours, count = maps.components(labels)
    theirs, total = np.zeros_like(labels), 0
    for value in np.unique(labels):
        found, n = ndimage.label(labels == value)
        theirs[found > 0] = found[found > 0] + total
        total += n
    assert count == total
    # The same partition: each id of one map meets one id of the other.
    assert len(np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1).T) == total


@given(label_maps())
def test_components_keep_the_contract(labels):
    numbered, count = maps.components(labels)
    maps.check(numbered)
    assert numbered.max() + 1 == count
    first = [np.flatnonzero(numbered == i)[0] for i in range(count)]
    assert first == sorted(first)


@given(label_maps())
def test_painting_runs_gives_the_map_back(labels):
    runs = find_runs(labels)
    y, x = np.unravel_index(
        [np.flatnonzero(paint(runs, np.arange(runs.regions, dtype=np.int32)) == r)[0] for r in range(runs.regions)],
        labels.shape,
    )
    assert np.array_equal(paint(runs, labels[y, x]), labels)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([[0, 2]], np.int32),  # a gap
        np.array([[1, 0]], np.int32),  # not in raster order
        np.array([[0, 1, 0]], np.int32),  # not connected
        np.array([[0, 1], [1, 0]], np.int32),  # connected over a corner only
        np.array([[0, 1]], np.int64),
        np.zeros((0, 3), np.int32),
    ],
)
def test_check_refuses(labels):
    with pytest.raises(LabelError):
        maps.check(labels)
