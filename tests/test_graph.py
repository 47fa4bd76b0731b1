import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spx_cli.regions.graph import (
    COLUMN,
    FEATURES,
    FRAME,
    INSIDE,
    ROW,
    SIZE,
    SQUARE,
    contract,
    region_graph,
    with_palette,
)
from spx_cli.regions.maps import components
from spx_cli.regions.runs import find_runs
from strategies import label_maps


def naive_graph(labels):
    borders = {}
    for a, b in [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]:
        for i, j in zip(a.ravel(), b.ravel(), strict=True):
            if i != j:
                borders[min(i, j), max(i, j)] = borders.get((min(i, j), max(i, j)), 0) + 1
    return borders


def naive_contour(labels, contours, pair):
    """Sum over the sides between two regions of the larger contour strength beside it."""
    total = 0.0
    for axis in (0, 1):
        a, b = (np.moveaxis(x, axis, 0) for x in (labels, contours))
        both = (np.minimum(a[1:], a[:-1]) == pair[0]) & (np.maximum(a[1:], a[:-1]) == pair[1])
        total += np.maximum(b[1:], b[:-1])[both].sum()
    return total


def naive_frame(labels, region):
    return sum((line == region).sum() for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]))


def naive_palette(labels, region, lab):
    """Counts of the region's pixels by class of colour, one of four in each row."""
    sample = np.sort(lab[::8, ::8].reshape(-1, 3), axis=0)
    cuts = sample[[len(sample) * i // 4 for i in (1, 2, 3)]]
    palette = np.zeros(64)
    for y, x in np.argwhere(labels == region):
        if (x - 2 * y) % 4 == 0:
            palette[((lab[y, x] > cuts).sum(0) * (16, 4, 1)).sum()] += 1
    return palette


@given(label_maps(max_side=12, max_id=3), st.sampled_from([1, 3, 5]), st.integers(0, 2), st.sampled_from([0, 1, 2, 4]))
def test_graph_agrees_with_a_double_loop(labels, channels, scales, side):
    regions, count = components(labels)
    height, width = labels.shape
    rng = np.random.default_rng(0)
    features = rng.normal(size=(height, width, channels)).astype(np.float32)
    contours = rng.random((scales, height, width), np.float32) if scales else None
    embedding = rng.normal(size=(-(-height // side), -(-width // side), 2)).astype(np.float32) if side else None
    graph = region_graph(labels, features, unit=2.0, contours=contours, embedding=embedding)
    assert dict(zip(map(tuple, graph.edges.tolist()), graph.border.tolist(), strict=True)) == naive_graph(regions)
    rows, columns = np.mgrid[:height, :width]
    for r in range(count):
        inside = regions == r
        expected = {SIZE: inside.sum(), ROW: rows[inside].sum(), COLUMN: columns[inside].sum()}
        expected[SQUARE] = ((features[inside] / 2) ** 2).sum()
        expected[FRAME] = naive_frame(regions, r)
        expected[INSIDE] = contours.mean(0)[inside].sum() if scales else 0
        expected |= {FEATURES + c: features[inside, c].sum() / 2 for c in range(channels)}
        if side:
            seen = embedding[rows[inside] // side, columns[inside] // side].sum(0)
            expected |= {FEATURES + channels + c: seen[c] for c in range(2)}
        np.testing.assert_allclose(graph.sums[r], [expected[c] for c in sorted(expected)], rtol=1e-5, atol=1e-4)
    for pair, contour in zip(graph.edges, graph.contour, strict=True):
        expected = [naive_contour(regions, contours[s], pair) for s in range(scales)]
        np.testing.assert_allclose(contour, expected, rtol=1e-5)


@given(label_maps(max_side=12, max_id=3))
def test_palettes_agree_with_a_double_loop(labels):
    runs = find_runs(labels)
    lab = np.random.default_rng(0).normal(size=(*labels.shape, 3)).astype(np.float32)
    merged = (np.arange(runs.regions) // 2).astype(np.int32)
    graph = region_graph(runs, lab)
    palette = with_palette(contract(graph, merged), lab, runs, merged).palette
    regions, _ = components(labels)
    single = [naive_palette(regions, r, lab) for r in range(runs.regions)]
    for r in range(len(palette)):
        assert palette[r].tolist() == sum(single[2 * r : 2 * r + 2]).tolist()
    whole = with_palette(graph, lab, runs, np.arange(runs.regions, dtype=np.int32))
    assert np.array_equal(contract(whole, merged).palette, palette)


@given(label_maps(max_side=10, max_id=3), st.integers(1, 4))
def test_contraction_is_the_graph_of_the_merged_map(labels, parts):
    regions, count = components(labels)
    rng = np.random.default_rng(1)
    into = rng.integers(0, parts, count).astype(np.int32)
    into = np.unique(into, return_inverse=True)[1].astype(np.int32)
    contours = rng.random((2, *labels.shape), np.float32)
    features = rng.normal(size=(*labels.shape, 3)).astype(np.float32)
    merged = contract(region_graph(regions, features, contours=contours), into)
    borders = naive_graph(into[regions])
    assert dict(zip(map(tuple, merged.edges.tolist()), merged.border.tolist(), strict=True)) == borders
    for r in range(len(merged.sums)):
        assert merged.sums[r, SIZE] == (into[regions] == r).sum()
        np.testing.assert_allclose(merged.sums[r, FEATURES:], features[into[regions] == r].sum(0), atol=1e-4)
    for pair, contour in zip(merged.edges, merged.contour, strict=True):
        np.testing.assert_allclose(contour[1], naive_contour(into[regions], contours[1], pair), rtol=1e-5)


def test_means():
    graph = region_graph(np.array([[0, 0, 1]]), np.array([[[1], [3], [5]]], np.int16))
    assert graph.means(FEATURES).tolist() == [[2], [5]]
    assert graph.means(COLUMN, COLUMN + 1).tolist() == [[0.5], [2]]
    with pytest.raises(IndexError):
        region_graph(np.zeros((2, 2), int), np.zeros((2, 2), np.float32))
