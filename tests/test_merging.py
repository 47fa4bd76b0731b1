import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spx_cli.regions.costs import FAINT, Judge, n_inputs, pair_inputs
from spx_cli.regions.graph import FEATURES, SIZE, contract, region_graph, with_palette
from spx_cli.regions.maps import components
from spx_cli.regions.merging import GROWTH, absorb, merge
from spx_cli.regions.runs import find_runs
from strategies import label_maps
from test_graph import naive_contour, naive_frame, naive_graph, naive_palette


def some_judge(scales, embedded, seed=0, border_price=0.0):
    rng = np.random.default_rng(seed)
    shape = n_inputs(scales, embedded=embedded), 8
    hidden, bias, out = (rng.normal(0, 0.3, s).astype(np.float32) for s in (shape, 8, 8))
    return Judge(hidden, bias, out, -0.5, border_price, 0.0)


def picture(labels, scales, embedded):
    rng = np.random.default_rng(1)
    lab = rng.normal(0, 10, (*labels.shape, 3)).astype(np.float32)
    contours = rng.random((scales, *labels.shape), np.float32) if scales else None
    return lab, contours, rng.normal(size=(*labels.shape, 4)).astype(np.float32) if embedded else None


def judged_graph(labels, lab, contours=None, embedding=None):
    runs = find_runs(labels)
    graph = region_graph(runs, lab, contours=contours, embedding=embedding)
    return with_palette(graph, lab, runs, np.arange(runs.regions, dtype=np.int32))


def naive_inputs(labels, pair, lab, contours, embedding, area):
    a, b = sorted((labels == r for r in pair), key=lambda inside: (inside.sum(), np.flatnonzero(inside)[0]))
    n, m = a.sum(), b.sum()
    border = naive_graph(labels)[pair]
    difference = lab[a].mean(0) - lab[b].mean(0)
    centre = [np.argwhere(inside).mean(0) for inside in (a, b)]
    values = [n / area, m / area, border / n**0.5, border / m**0.5]
    values += [difference[0] ** 2 + 0.1, (difference[1:] ** 2).sum() + 0.1]
    values += [lab[inside].var(0).sum() + 0.1 for inside in (a, b)]
    values += [((centre[0] - centre[1]) ** 2).sum() / area + 0.01]
    palettes = [naive_palette(labels, r, lab) for r in pair]
    palettes = [p / p.sum() if p.any() else p + 1 / len(p) for p in palettes]
    likeness = np.sqrt(palettes[0] * palettes[1]).sum()
    values += [np.exp(np.sqrt(max(1 - likeness, 0)))]
    ids = [labels[inside][0] for inside in (a, b)]
    outlines = [sum(length for ends, length in naive_graph(labels).items() if r in ends) for r in ids]
    values += [outline / inside.sum() ** 0.5 for outline, inside in zip(outlines, (a, b), strict=True)]
    values += [naive_frame(labels, r) / inside.sum() ** 0.5 + 0.1 for r, inside in zip(ids, (a, b), strict=True)]
    if contours is not None:
        values += [naive_contour(labels, scale, pair) / border + 0.001 for scale in contours]
        values += [contours[:, inside].mean() + 0.001 for inside in (a, b)]
    if embedding is not None:
        values += [((embedding[a].mean(0) - embedding[b].mean(0)) ** 2).sum() + 0.001]
    return np.log(values)


def naive_loss(labels, pair, judge, pictures, area):
    h = np.maximum(naive_inputs(labels, pair, *pictures, area) @ judge.hidden + judge.bias, 0)
    share = 1 / (1 + np.exp(-(judge.offset + h @ judge.out)))
    return min((labels == r).sum() for r in pair) * share - judge.border_price * naive_graph(labels)[pair]


def naive_ward(labels, pair, features, contours):
    a, b = (features[labels == r] for r in pair)
    n = len(a) * len(b) / (len(a) + len(b))
    strength = 1.0
    if contours is not None:
        strength = FAINT + np.mean([naive_contour(labels, s, pair) for s in contours]) / naive_graph(labels)[pair]
    return ((a.mean(0) - b.mean(0)) ** 2).sum() * n**0.75 * strength


def naive_merge(labels, n_regions, cost):
    """Merge the pair that is cheapest by what is known of costs, all of it computed from the pixels."""
    labels = labels.copy()
    known = {}  # pair: cost, and the sizes then

    def sizes(pair):
        return sorted((labels == r).sum() for r in pair)

    def look(pair):
        known[pair] = (np.float32(cost(labels, pair)), *sizes(pair))

    for pair in naive_graph(labels):
        look(pair)
    while len(np.unique(labels)) > n_regions:
        pair = min(known, key=lambda p: known[p][0])
        _, small, large = known[pair]
        now = sizes(pair)
        if now[0] > GROWTH * small or now[1] > GROWTH * large:
            look(pair)
            continue
        a, b = pair
        del known[pair]
        labels[labels == b] = a
        for c in {r for p in known for r in p if b in p} - {b}:
            moved = known.pop((min(b, c), max(b, c)))
            key = min(a, c), max(a, c)
            if key in known:
                moved = (min(moved[0], known[key][0]), 0, 0)
            known[key] = moved
    return components(labels)[0]


maps_of_regions = label_maps(max_side=8, max_id=4).map(lambda labels: components(labels)[0])


@given(maps_of_regions, st.integers(1, 6), st.sampled_from([1, 3, 5]), st.integers(0, 2))
def test_wards_cost(regions, n_regions, channels, scales):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(*regions.shape, channels)).astype(np.float32)
    contours = rng.random((scales, *regions.shape), np.float32) if scales else None
    into = merge(region_graph(regions, features, contours=contours), n_regions, Judge.ward())
    assert into.max() + 1 == min(n_regions, regions.max() + 1)
    assert np.array_equal(components(into[regions])[0], into[regions])
    expected = naive_merge(regions, n_regions, lambda labels, pair: naive_ward(labels, pair, features, contours))
    assert np.array_equal(into[regions], expected)


@pytest.mark.parametrize("seed", range(8))
def test_wards_cost_of_regions_of_many_sizes(seed):
    rng = np.random.default_rng(seed)
    regions, _ = components(np.kron(rng.integers(0, 4, (6, 6)), np.ones((3, 3), np.int32)))
    features = rng.normal(size=(*regions.shape, 3)).astype(np.float32)
    into = merge(region_graph(regions, features), 3, Judge.ward())
    expected = naive_merge(regions, 3, lambda labels, pair: naive_ward(labels, pair, features, None))
    assert np.array_equal(into[regions], expected)


@given(maps_of_regions, st.integers(0, 2), st.booleans())
def test_inputs(regions, scales, embedded):
    pictures = picture(regions, scales, embedded)
    graph = judged_graph(regions, *pictures)
    inputs = pair_inputs(graph, 3.0)
    assert inputs.shape == (len(graph.edges), n_inputs(scales, embedded=embedded))
    for pair, found in zip(map(tuple, graph.edges.tolist()), inputs, strict=True):
        np.testing.assert_allclose(found, naive_inputs(regions, pair, *pictures, 3.0), rtol=1e-3, atol=1e-3)


@given(maps_of_regions, st.integers(1, 6), st.integers(0, 2), st.booleans(), st.sampled_from([0.0, 0.2, 3.0]))
def test_expected_loss(regions, n_regions, scales, embedded, border_price):
    pictures, judge = picture(regions, scales, embedded), some_judge(scales, embedded, border_price=border_price)
    graph = judged_graph(regions, *pictures)
    into = merge(graph, n_regions, judge, 3.0)
    expected = naive_merge(regions, n_regions, lambda labels, pair: naive_loss(labels, pair, judge, pictures, 3.0))
    assert np.array_equal(into[regions], expected)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("known", [[9], [10, 11]], ids=["palettes", "outlines"])
def test_palettes_and_outlines_of_what_has_merged(known, seed):
    """Regions of sixteen pixels and more, of which several are counted; their palettes, or their outlines, decide."""
    labels = np.random.default_rng(seed).integers(0, 6, (4, 4))
    regions, _ = components(np.kron(labels, np.ones((4, 4), np.int32)))
    pictures, judge = picture(regions, 0, False), some_judge(0, False)
    judge.hidden[known] *= 30
    into = merge(judged_graph(regions, *pictures), 3, judge, 3.0)
    expected = naive_merge(regions, 3, lambda labels, pair: naive_loss(labels, pair, judge, pictures, 3.0))
    assert np.array_equal(into[regions], expected)


def test_position_counts_as_two_more_features():
    labels = np.array([[0, 0, 0, 1, 2]])
    even = np.zeros((1, 5, 1), np.float32)
    assert merge(region_graph(labels, even), 2, Judge.ward(1.0)).tolist() == [0, 1, 1]


def test_debris_joins_its_most_similar_neighbour():
    labels = np.array([[0, 0, 0, 1, 2, 2, 2, 2]])
    features = np.array([[0, 0, 0, 8, 10, 10, 10, 10]], np.float32)[..., None]
    graph = region_graph(labels, features)
    into = absorb(graph, 2, 1, 0.0)
    assert into.tolist() == [0, 1, 1]
    np.testing.assert_allclose(contract(graph, into).means(FEATURES)[:, 0], [0, 9.6])


def test_debris_that_joins_debris_is_as_large_as_both():
    labels = np.array([[0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 4]])
    features = np.array([[0, 0, 0, 0, 49, 50, 51, 99, 99, 99, 99]], np.float32)[..., None]
    assert absorb(region_graph(labels, features), 3, 1, 0.0).tolist() == [0, 1, 1, 1, 2]


@given(label_maps(max_side=10, max_id=3), st.integers(1, 8), st.integers(1, 5))
def test_no_debris_is_left_unless_the_count_forbids(labels, min_size, n_regions):
    graph = region_graph(labels, np.random.default_rng(2).normal(size=(*labels.shape, 1)).astype(np.float32))
    graph = contract(graph, absorb(graph, min_size, n_regions, 0.0))
    sizes = graph.sums[:, SIZE]
    assert sizes.sum() == labels.size
    assert sizes.min() >= min_size or len(sizes) <= n_regions


@pytest.mark.parametrize("learned", [False, True])
def test_many_regions_on_one_background(learned):
    """Work that grew with the square of the neighbours would take minutes."""
    side = 3 * 160
    labels = np.zeros((side, side), np.int32)
    labels[1::3, 1::3] = np.arange(1, 160**2 + 1).reshape(160, 160)
    regions, count = components(labels)
    lab = np.random.default_rng(3).normal(0, 5, (side, side, 3)).astype(np.float32)
    judge = some_judge(0, False) if learned else Judge.ward()
    graph = judged_graph(regions, lab)
    into = merge(graph, count // 2, judge, 9.0)
    assert into.max() + 1 == count // 2
    assert absorb(graph, 2, 1, 0.0).max() == 0
