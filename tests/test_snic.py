import heapq

import numpy as np
import pytest

from spx_cli.methods import _snic, create
from spx_cli.methods._grid import grid_seeds
from spx_cli.methods._snic import grow
from spx_cli.regions import maps


def paper(features, n, compactness):
    """The paper's Algorithm 1 with a heap, in plain Python."""
    height, width, _ = features.shape
    seeds = grid_seeds((height, width), n)
    labels, heap = np.full((height, width), -1), []
    for k, (y, x) in enumerate(seeds):
        heapq.heappush(heap, (0.0, k, int(y + 0.5), int(x + 0.5), k))
    pushed, sums = len(seeds), np.zeros((len(seeds), features.shape[2] + 3))
    while heap:
        _, _, y, x, k = heapq.heappop(heap)
        if labels[y, x] >= 0:
            continue
        labels[y, x] = k
        sums[k] += [*features[y, x], y, x, 1]
        mean = sums[k] / sums[k, -1]
        for v, u in [(y, x + 1), (y + 1, x), (y, x - 1), (y - 1, x)]:
            if 0 <= v < height and 0 <= u < width and labels[v, u] < 0:
                d = ((features[v, u] - mean[:-3]) ** 2).sum() / compactness
                d += ((v - mean[-3]) ** 2 + (u - mean[-2]) ** 2) * len(seeds) / (height * width)
                pushed += 1
                heapq.heappush(heap, (d, pushed, v, u, k))
    return labels


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_the_bucket_queue_grows_what_the_heap_grows(channels):
    rng = np.random.default_rng(channels)
    smooth = rng.normal(size=(6, 8, channels)).repeat(6, 0).repeat(6, 1)
    features = (20 * smooth + rng.normal(size=smooth.shape)).astype(np.float32)
    assert (grow(features, 24, 10.0) == paper(features.astype(float), 24, 10.0)).mean() > 0.8


def test_colour_and_position_weigh_against_each_other_as_in_the_paper():
    strip = np.zeros((1, 400, 1), np.float32)
    strip[:, 150:] = 40  # the left region would go on to 200; twice the weight of either moves its end by 12 and more
    assert abs(int(grow(strip, 2, 50.0).sum()) - int(paper(strip.astype(float), 2, 50.0).sum())) <= 6


def test_regions_are_connected_and_as_many_as_seeds():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    raw = create("snic").segment(image, 20, raw=True)
    assert maps.components(raw)[1] == len(np.unique(raw)) == len(grid_seeds((40, 50), 20))


def test_two_halves_meet_at_their_edge():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 20:] = 255
    labels = create("snic").segment(image, 2)
    assert np.array_equal(labels, np.arange(40)[None].repeat(20, 0) // 20)


def test_the_mean_of_a_million_pixels_is_exact(monkeypatch):
    centres = []
    growth = _snic._grow
    monkeypatch.setattr(_snic, "_grow", lambda *given: (growth(*given), centres.append(given[4])))
    features = np.zeros((1100, 1100, 1), np.float32)
    features[:, 550:] = 1
    grow(features, 1, 10.0)
    np.testing.assert_allclose(centres[0], [[0.5, 550.5, 550.5, 1100**2]], rtol=1e-6)
