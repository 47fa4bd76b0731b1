from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spx_cli.errors import LabelError
from spx_cli.methods._merging import judge_for
from spx_cli.regions import maps
from spx_cli.regions.finish import SMALL, _parts, finish, split
from spx_cli.types import Assignment
from strategies import label_maps


def features_of(labels, channels=3):
    return np.random.default_rng(0).normal(size=(*labels.shape, channels)).astype(np.float32)


@given(label_maps(), st.data())
def test_any_map_becomes_exactly_k_regions(labels, data):
    n = data.draw(st.integers(1, labels.size))
    finished = finish(Assignment(labels, features_of(labels)), n)
    maps.check(finished)
    assert finished.max() + 1 == n


@given(label_maps(), st.data())
def test_finishing_twice_changes_nothing(labels, data):
    n = data.draw(st.integers(1, labels.size))
    once = finish(Assignment(labels, features_of(labels)), n)
    assert np.array_equal(finish(Assignment(once, features_of(labels)), n), once)


@given(label_maps(), st.data())
def test_the_native_count_leaves_no_debris(labels, data):
    n = data.draw(st.integers(1, labels.size))
    finished = finish(Assignment(labels, features_of(labels)), n, exact=False)
    maps.check(finished)
    assert np.bincount(finished.ravel()).min() >= min(int(SMALL * labels.size / n), labels.size)


@pytest.mark.parametrize(("size", "kept"), [(5, 2), (6, 3)])
def test_debris_is_what_has_less_than_six_hundredths_of_the_mean_size(size, kept):
    labels = np.repeat([0, 1, 2], [150, size, 150 - size])[None]
    found = finish(Assignment(labels, features_of(labels)), 3, exact=False)
    assert found.max() + 1 == kept


def test_regions_are_only_merged_when_there_are_too_many():
    labels = np.repeat(np.arange(4), 5)[None].repeat(3, 0)
    merged = finish(Assignment(labels, features_of(labels)), 2)
    for i in range(4):
        assert len(np.unique(merged[labels == i])) == 1


@pytest.mark.parametrize("n", [2, 3, 10, 77, 600])
def test_splitting_a_flat_region_gives_parts_of_similar_size(n):
    labels = np.zeros((20, 30), np.int32)
    parts = maps.components(split(labels, 1, n))[0]
    assert parts.max() + 1 == n
    assert np.bincount(parts.ravel()).max() <= 5 * 600 / n


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.data())
def test_as_many_parts_of_one_least_size_as_there_may_be_and_then_of_the_widest(sizes, data):
    n = data.draw(st.integers(len(sizes), sum(sizes)))
    fits = [Fraction(size, part) for size in sizes for part in range(1, size + 1)]
    least = min(m for m in fits if sum(max(1, size // m) for size in sizes) <= n)
    wanted = [max(1, size // least) for size in sizes]
    while sum(wanted) < n:
        widest = max(range(len(sizes)), key=lambda i: Fraction(sizes[i], wanted[i]))
        wanted[widest] += 1
    assert _parts(np.array(sizes), n).tolist() == wanted


def test_many_equal_regions_are_cut_in_no_time():
    parts = _parts(np.full(400_000, 4), 600_000)  # quadratic, it took minutes
    assert parts.sum() == 600_000
    assert np.array_equal(np.unique(parts), [1, 2])
    assert (parts[:200_000] == 2).all()


def test_the_largest_regions_are_split_first():
    labels = np.zeros((4, 40), np.int32)
    labels[:, 36:] = 1
    parts = split(labels, 2, 6)
    assert len(np.unique(parts[labels == 1])) == 1


def test_position_keeps_long_regions_from_growing_together():
    labels = np.array([[0] * 8, [1] * 8, [2] * 8, [3] * 8], np.int32)
    labels[:, 4:] += 4
    even = np.zeros((4, 8, 1), np.float32)
    pairs = finish(Assignment(labels, even, 1.0), 4)
    assert np.array_equal(pairs[:2, :4], np.zeros((2, 4)))


def test_tensors_are_finished_as_arrays_are():
    rng = np.random.default_rng(1)
    labels, features = rng.integers(0, 9, (20, 30)), rng.normal(size=(20, 30, 5)).astype(np.float32)
    contours = rng.random((20, 30), np.float32)
    arrays = Assignment(labels, features, 0.5, contours)
    # as a network hands them over: channels first in memory, part of a graph
    planes = torch.from_numpy(features).permute(2, 0, 1).contiguous().requires_grad_()
    tensors = Assignment(torch.from_numpy(labels), planes.permute(1, 2, 0), 0.5, torch.from_numpy(contours))
    assert np.array_equal(finish(arrays, 12), finish(tensors, 12))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["features", "lab", "contours"])
def test_what_is_not_finite_is_refused(part, bad):
    labels = np.arange(48).reshape(6, 8)
    arrays = {"features": np.ones((6, 8, 3), np.float32), "contours": np.ones((6, 8), np.float32)}
    arrays["lab"] = arrays["features"].copy()
    arrays[part][3, 4] = bad
    given = Assignment(labels, **arrays)
    judge = judge_for(given, "loss" if part == "lab" else "ward", 0)
    with pytest.raises(LabelError, match="finite"):
        finish(given, 5, judge)


def test_pixels_outside_of_all_regions_are_refused():
    labels = np.zeros((3, 4), np.int32)
    labels[1, 1] = -1
    with pytest.raises(LabelError, match="-1"):
        finish(Assignment(labels, features_of(labels)), 2)
