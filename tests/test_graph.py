import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spx_cli.regions.graph import FAINT, absorb, merge, region_graph
from spx_cli.regions.maps import components
from strategies import label_maps


def naive_graph(labels):
    borders = {}
    for a, b in [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]:
        for i, j in zip(a.ravel(), b.ravel(), strict=True):
            if i != j:
                borders[min(i, j), max(i, j)] = borders.get((min(i, j), max(i, j)), 0) + 1
    return borders


def naive_contour(labels, contours, pair):
    """Mean over the sides between two regions of the larger contour strength beside it."""
    sides = []
    for axis in (0, 1):
        a, b = (np.moveaxis(x, axis, 0) for x in (labels, contours))
        both = (np.minimum(a[1:], a[:-1]) == pair[0]) & (np.maximum(a[1:], a[:-1]) == pair[1])
        sides.append(np.maximum(b[1:], b[:-1])[both])
    return np.concatenate(sides).mean()


def naive_merge(labels, features, n_regions, contours=None):
    """Merge the cheapest pair again and again, recomputing everything from the pixels each time."""
    labels = labels.copy()
    while len(np.unique(labels)) > n_regions:

        def cost(pair, current=labels):
            a, b = features[current == pair[0]], features[current == pair[1]]
            n = len(a) * len(b) / (len(a) + len(b))
            strength = 1.0 if contours is None else FAINT + naive_contour(current, contours, pair)
            return ((a.mean(0) - b.mean(0)) ** 2).sum() * n**0.75 * strength

        a, b = min(naive_graph(labels), key=cost)
        labels[labels == b] = a
    return components(labels)[0]


@given(label_maps(max_side=12, max_id=3))
def test_graph_agrees_with_a_double_loop(labels):
    regions, count = components(labels)
    features = np.random.default_rng(0).normal(size=(*labels.shape, 2)).astype(np.float32)
    graph = region_graph(labels, features)
    assert dict(zip(map(tuple, graph.edges.tolist()), graph.border.tolist(), strict=True)) == naive_graph(regions)
    for r in range(count):
        assert graph.size[r] == (regions == r).sum()
        np.testing.assert_allclose(graph.mean[r], features[regions == r].mean(0), atol=1e-5)


@given(label_maps(max_side=8, max_id=4), st.integers(1, 6), st.sampled_from([1, 3, 5]))
def test_merge_takes_the_cheapest_pair_each_time(labels, n_regions, channels):
    regions, count = components(labels)
    features = np.random.default_rng(1).normal(size=(*labels.shape, channels)).astype(np.float32)
    into = merge(region_graph(regions, features), n_regions)
    assert into.max() + 1 == min(n_regions, count)
    assert np.array_equal(components(into[regions])[0], into[regions])
    assert np.array_equal(into[regions], naive_merge(regions, features, n_regions))


@given(label_maps(max_side=8, max_id=4), st.integers(1, 6))
def test_contours_make_merging_over_them_dearer(labels, n_regions):
    regions, _ = components(labels)
    rng = np.random.default_rng(2)
    features = rng.normal(size=(*labels.shape, 3)).astype(np.float32)
    contours = rng.random(labels.shape, np.float32)
    graph = region_graph(regions, features, contours=contours)
    for pair, border, contour in zip(graph.edges, graph.border, graph.contour, strict=True):
        np.testing.assert_allclose(contour / border, naive_contour(regions, contours, pair), rtol=1e-5)
    merged = merge(graph, n_regions)[regions]
    assert np.array_equal(merged, naive_merge(regions, features, n_regions, contours))


def test_debris_takes_its_contours_along():
    labels = np.array([[0, 0, 0, 1], [2, 2, 2, 2]])
    contours = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], np.float32)
    into, graph = absorb(region_graph(labels, np.zeros((2, 4, 1), np.float32), contours=contours), min_size=2)
    assert into.tolist() == [0, 0, 1]
    assert graph.contour.tolist() == [2]
    assert graph.border.tolist() == [4]


def test_debris_joins_its_most_similar_neighbour():
    labels = np.array([[0, 0, 0, 1, 2, 2, 2, 2]])
    features = np.array([[0, 0, 0, 8, 10, 10, 10, 10]], np.float32)[..., None]
    into, graph = absorb(region_graph(labels, features), min_size=2)
    assert into.tolist() == [0, 1, 1]
    assert graph.size.tolist() == [3, 5]
    assert graph.border.tolist() == [1]
    np.testing.assert_allclose(graph.mean[:, 0], [0, 9.6])


@given(label_maps(max_side=10, max_id=3), st.integers(1, 8), st.integers(1, 5))
def test_no_debris_is_left_unless_the_count_forbids(labels, min_size, n_regions):
    _, graph = absorb(region_graph(labels, np.zeros((*labels.shape, 1), np.float32)), min_size, n_regions)
    assert graph.size.sum() == labels.size
    assert graph.size.min() >= min_size or len(graph.size) <= n_regions


def test_position_counts_as_two_more_features():
    labels = np.array([[0, 0, 1], [0, 0, 1]])
    graph = region_graph(labels, np.full((2, 3, 1), 7, np.int16), position=2.0)
    np.testing.assert_allclose(graph.mean, [[7, 1, 1], [7, 1, 4]])
