import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spx_cli.color import rgb_to_lab
from spx_cli.errors import ParameterError
from spx_cli.methods.sh import hierarchy
from spx_cli.regions import maps
from strategies import images


def boruvka(features, rounds):
    """So many rounds in plain Python: every region picks the neighbour whose mean is nearest, all picks merge."""
    height, width, _ = features.shape
    owner = np.arange(height * width).reshape(height, width)
    for _ in range(rounds):
        mean = {r: features[owner == r].mean(0) for r in np.unique(owner)}
        pairs = set()
        for a, b in [(owner[:, :-1], owner[:, 1:]), (owner[:-1], owner[1:])]:
            pairs |= {(min(i, j), max(i, j)) for i, j in zip(a.ravel(), b.ravel(), strict=True) if i != j}
        picks = {}
        for i, j in pairs:
            d = ((mean[i] - mean[j]) ** 2).sum()
            for r in (i, j):
                picks[r] = min(picks.get(r, (np.inf, i, j)), (d, i, j))
        for _, i, j in picks.values():
            a, b = owner.ravel()[i], owner.ravel()[j]
            owner[owner == max(a, b)] = min(a, b)
    return maps.components(owner)[0]


@pytest.mark.parametrize(("rounds", "seed"), [(1, 0), (2, 0), (3, 1), (3, 2), (4, 4)])
def test_whole_rounds_are_boruvkas(rounds, seed):
    features = np.random.default_rng(seed).normal(size=(18, 22, 3)).astype(np.float32)
    tree = hierarchy(features)
    expected = boruvka(features.astype(float), rounds)
    assert np.array_equal(tree.labels(18 * 22 - tree.rounds[rounds]), expected)


@settings(deadline=None)
@given(images(max_side=12), st.data())
def test_every_cut_is_connected_of_exact_count_and_nested(image, data):
    pixels = image.shape[0] * image.shape[1]
    tree = hierarchy(rgb_to_lab(image))
    assert len(tree.first) == pixels - 1
    fine = data.draw(st.integers(1, pixels))
    coarse = data.draw(st.integers(1, fine))
    cuts = [tree.labels(n) for n in (fine, coarse)]
    for labels, n in zip(cuts, (fine, coarse), strict=True):
        maps.check(labels)
        assert labels.max() + 1 == n
    # Each fine region lies in one coarse region.
    assert len(np.unique(np.stack([cut.ravel() for cut in cuts]), axis=1).T) == fine


def test_the_last_merge_joins_the_two_halves():
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 15:] = (200, 60, 20)
    image += np.random.default_rng(0).integers(0, 8, image.shape, dtype=np.uint8)
    assert np.array_equal(hierarchy(rgb_to_lab(image)).labels(2), np.arange(30)[None].repeat(20, 0) // 15)


@pytest.mark.parametrize("n_segments", [0, 13])
def test_a_cut_that_no_map_can_have_is_refused(n_segments):
    with pytest.raises(ParameterError, match=f"between 1 and the number of pixels, 12, not {n_segments}"):
        hierarchy(np.zeros((3, 4, 3), np.float32)).labels(n_segments)
