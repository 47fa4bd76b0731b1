import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spx_cli.graph import absorb, merge, region_graph
from spx_cli.labels import components
from strategies import label_maps


def naive_graph(labels):
    borders = {}
    for a, b in [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]:
        for i, j in zip(a.ravel(), b.ravel(), strict=True):
            if i != j:
                borders[min(i, j), max(i, j)] = borders.get((min(i, j), max(i, j)), 0) + 1
    return borders


def naive_merge(labels, features, n_regions):
    """Merge the cheapest pair again and again, recomputing everything from the pixels each time."""
    labels = labels.copy()
    while len(np.unique(labels)) > n_regions:

        def cost(pair, current=labels):
            a, b = features[current == pair[0]], features[current == pair[1]]
            n = len(a) * len(b) / (len(a) + len(b))
            return ((a.mean(0) - b.mean(0)) ** 2).sum() * n**0.75

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
