"""Small photographs in folders, and what a run makes of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from spx_cli.batch.engine import segment_files
from spx_cli.batch.manifest import NAME
from standin import StandIn


def picture(path, *, size=(6, 8), corner=(9, 9, 9), seed=0):
    """Write a small image of noise and return its path."""
    pixels = np.random.default_rng(seed).integers(0, 250, (*size, 3), np.uint8)
    pixels[0, 0] = corner
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def segment(inputs, out=None, **options):
    options = {"n_segments": 4, **options}
    return list(segment_files(StandIn(), inputs, out, **options))


def tree(folder):
    """Contents by relative path, of everything but the manifest."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != NAME
    }


def statuses(records):
    return [record.status for record in records]
