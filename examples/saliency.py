"""SIN's saliency experiment: saliency optimisation on the superpixels of several methods, and its error.

Saliency Optimization from Robust Background Detection (Zhu et al., CVPR 2014) looks at an image through superpixels:
what touches the image's frame a lot for its size is background, what differs from the background is salient, and one
linear system makes both agree along neighbours of equal colour. SIN's paper (Table 2) puts SLIC, SNIC, ERS and SIN in,
at 200 and 400 superpixels, and gives the mean absolute error on ECSSD. Written from the paper, with the weight of the
background that its authors' program is known for; their program differs in details, so errors are to be compared among
methods, not with theirs.

As there, each method keeps its own count; --exact brings it to the one asked for, by merging what is alike.

    python examples/saliency.py ECSSD
    python examples/saliency.py ECSSD -m slic -m elm -k 100 --limit 20
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

import spx_cli
from spx_cli.datasets import open_dataset

# Yuan et al. 2021, Table 2, all 1000 images of ECSSD.
PUBLISHED = {
    ("slic", 200): 0.1719,
    ("snic", 200): 0.1714,
    ("ers", 200): 0.1686,
    ("sin", 200): 0.1657,
    ("slic", 400): 0.1675,
    ("snic", 400): 0.1654,
    ("ers", 400): 0.1630,
    ("sin", 400): 0.1616,
}
COLOUR = 10.0  # sigma of distances between colours, Lab
PLACE = 0.25  # sigma of distances between places, in sides of the image
FRAME = 1.0  # sigma of boundary connectivity
SMOOTH = 0.1  # mu: weight of neighbours whatever their colours
BACKGROUND = 5.0  # weight of the background against the foreground
LEAST = 1e-9  # weight of every region, lest the system has no solution

Regions = NDArray[np.float64]  # numbers of regions, (K,) or (K, C), or of pairs of them, (K, K)


def saliency(image: NDArray[np.uint8], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return how salient each pixel is, 0 to 1, (H, W)."""
    height, width = labels.shape
    count = labels.max() + 1
    size = np.bincount(labels.ravel())
    colours = means(labels, spx_cli.rgb_to_lab(image), size)
    y, x = np.indices(labels.shape)
    places = means(labels, np.dstack([y / height, x / width]), size)
    framed = np.zeros(count, bool)
    framed[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True

    between = np.linalg.norm(colours[:, None] - colours, axis=2)
    near = touching(labels) | (framed[:, None] & framed & ~np.eye(count, dtype=bool))  # the frame holds together
    background = 1 - gauss(frame_connectivity(between, near, framed), FRAME)
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    contrast = (between * gauss(apart, PLACE)) @ background
    foreground = stretch(contrast)

    second = near | (near.astype(int) @ near > 0) & ~np.eye(count, dtype=bool)  # neighbours of neighbours as well
    weights = np.where(second, gauss(between, COLOUR) + SMOOTH, 0)
    system = np.diag(weights.sum(1) + BACKGROUND * background + foreground + LEAST) - weights
    return stretch(np.linalg.solve(system, foreground))[labels]


def means(labels: NDArray[np.int32], values: NDArray, size: NDArray) -> Regions:
    """Return the mean of values (H, W, C) over each region, (K, C)."""
    bands = np.moveaxis(values, 2, 0)
    return np.stack([np.bincount(labels.ravel(), band.ravel()) / size for band in bands], axis=1)


def touching(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which regions have a border in common, (K, K)."""
    count = labels.max() + 1
    found = np.zeros((count, count), bool)
    for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        found[a[a != b], b[a != b]] = True
    return found | found.T


def frame_connectivity(between: Regions, near: NDArray[np.bool_], framed: NDArray[np.bool_]) -> Regions:
    """Return for each region how much of what it spans lies on the frame: length over root of area, (K,)."""
    a, b = np.nonzero(near)
    # A step between equal colours is a step all the same, not a missing one.
    steps = coo_matrix((np.maximum(between[a, b], 1e-6), (a, b)), shape=near.shape)
    spanned = gauss(dijkstra(steps.tocsr()), COLOUR)
    return spanned @ framed / np.sqrt(spanned.sum(1))


def gauss(distance: Regions, sigma: float) -> Regions:
    """Return 1 for no distance, and less and less for more."""
    return np.exp(-(distance**2) / (2 * sigma**2))


def stretch(values: Regions) -> Regions:
    """Return values from 0 to 1; 0 throughout where all are equal."""
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


class Result(NamedTuple):
    """Of a method on a data set: the mean absolute error, the mean number of superpixels, and how many images."""

    error: float
    regions: float
    images: int


def measure(data: Path, method: str, count: int, *, exact: bool = False, limit: int | None = None) -> Result:
    """Return what a method gives at a count."""
    dataset = open_dataset("ecssd", data)
    chosen = spx_cli.create(method)
    errors, regions = [], []
    for entry in dataset.entries[:limit]:
        sample = dataset.load(entry)
        labels = chosen.segment(sample.image, count, native_count=not exact)
        errors.append(np.abs(saliency(sample.image, labels) - (sample.truths[0] > 0)).mean())
        regions.append(labels.max() + 1)
    return Result(float(np.mean(errors)), float(np.mean(regions)), len(errors))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Saliency optimisation on superpixels.")
    parser.add_argument("data", type=Path, help="ECSSD: images/ and ground_truth_mask/")
    parser.add_argument("-m", "--method", action="append", help="[default: slic, snic, ers, sin]")
    parser.add_argument("-k", "--segments", action="append", type=int, help="[default: 200, 400]")
    parser.add_argument("--exact", action="store_true", help="exactly as many superpixels as asked for")
    parser.add_argument("--limit", type=int, help="take the first images only")
    given = parser.parse_args(arguments)
    print("| method | asked | superpixels | images | MAE | MAE in the paper |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in given.segments or [200, 400]:
        for method in given.method or ["slic", "snic", "ers", "sin"]:
            found = measure(given.data, method, count, exact=given.exact, limit=given.limit)
            paper = f"{PUBLISHED[method, count]:.4f}" if (method, count) in PUBLISHED else "-"
            cells = (method, count, f"{found.regions:.0f}", found.images, f"{found.error:.4f}", paper)
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
