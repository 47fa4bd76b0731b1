"""A small annotated data set, and its evaluation: for the tests of scores."""

import numpy as np
from PIL import Image

from spx_cli.evaluation.scoring import Scoring
from spx_cli.evaluation.sources import make_sources
from spx_cli.io import write_labels
from spx_cli.options import EvaluateOptions
from standin import StandIn

SIZE = (24, 32)


def quadrants(offset=0, size=SIZE):
    labels = np.zeros(size, np.int32)
    labels[size[0] // 2 :] += 2
    labels[:, size[1] // 2 :] += 1
    return labels + offset


def grid(rows, columns, size=SIZE):
    y = np.arange(size[0]) * rows // size[0]
    x = np.arange(size[1]) * columns // size[1]
    return (y[:, None] * columns + x).astype(np.int32)


def add(root, name, *truths, seed=0):
    """Write an image and its annotations into a folder data set."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / f"images/{name}.png")
    for i, truth in enumerate(truths):
        write_labels(root / f"labels/{name}-{i}.npy", truth)


def evaluate(dataset, sources, *, progress=lambda done, total: None, **options):
    return Scoring.of(dataset, sources, EvaluateOptions(**options)).run(progress)


BANDS = make_sources([StandIn()], [3, 8])
