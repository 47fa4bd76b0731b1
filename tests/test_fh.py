import numpy as np
import pytest

from spx_cli.methods import create
from spx_cli.regions import maps


def naive(image, scale):
    """The paper's algorithm, edge by edge in plain Python, over the Lab of the unsmoothed image."""
    from spx_cli.color import rgb_to_lab

    lab = rgb_to_lab(image).astype(float)
    height, width, _ = lab.shape
    edges = []
    for y in range(height):
        for x in range(width):
            for v, u in ((y, x + 1), (y + 1, x)):
                if v < height and u < width:
                    weight = int(32 * np.sqrt(((lab[y, x] - lab[v, u]) ** 2).sum())) / 32
                    edges.append((weight, y * width + x, v * width + u))
    region, inside = {p: {p} for p in range(height * width)}, dict.fromkeys(range(height * width), 0.0)
    owner = list(range(height * width))
    for weight, p, q in sorted(edges, key=lambda edge: edge[0]):
        a, b = owner[p], owner[q]
        if a != b and weight <= min(inside[a] + scale / len(region[a]), inside[b] + scale / len(region[b])):
            for pixel in region[b]:
                owner[pixel] = a
            region[a] |= region.pop(b)
            inside[a] = weight
    return np.reshape(owner, (height, width))


@pytest.mark.parametrize("scale", [5.0, 40.0, 300.0])
def test_it_is_the_papers_algorithm(scale):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 6, 3)).repeat(4, 0).repeat(4, 1) // 2 + rng.integers(0, 20, (20, 24, 3))
    image = image.astype(np.uint8)
    ours = create("fh", scale=scale, sigma=0.0).segment(image, 10, raw=True)
    assert np.array_equal(maps.components(ours)[0], maps.components(naive(image, scale))[0])


def test_regions_are_connected_before_finishing():
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    raw = create("fh").segment(image, 20, raw=True)
    assert maps.components(raw)[1] == len(np.unique(raw))


def test_a_thin_line_stays_whole_beside_large_even_areas():
    image = np.full((40, 60, 3), 220, np.uint8)
    image[18:20, 5:55] = (20, 20, 120)
    labels = create("fh", scale=50.0).segment(image, 2)
    assert len(np.unique(labels[18:20, 5:55])) == 1
    assert (labels == labels[18, 30]).sum() <= 50 * 4 + 20


def test_the_search_meets_the_count_before_finishing():
    image = np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    for n in (20, 60, 150):
        sizes = np.bincount(create("fh").segment(image, n, raw=True).ravel())
        assert 0.8 * n <= (sizes >= int(0.06 * 19200 / n)).sum() <= 1.5 * n
