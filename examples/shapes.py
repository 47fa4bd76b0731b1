"""Writes a small data set for `spx eval --layout folder`: noisy pictures of shapes, and their true label maps.

Usage: python examples/shapes.py FOLDER [HOW MANY]
"""

import sys
from pathlib import Path

import numpy as np

import spx_cli
from spx_cli.io import write_image

SIZE = (120, 160)


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, uint8 (H, W, 3), and its label map, int32 (H, W): discs and boxes over two backgrounds."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    labels = (x + 0.3 * y > rng.uniform(60, 120)).astype(np.int32)
    for label in range(2, 9):
        cy, cx, radius = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1]), rng.uniform(10, 28)
        if label % 2:
            inside = np.hypot(y - cy, x - cx) < radius
        else:
            inside = (abs(y - cy) < radius) & (abs(x - cx) < 0.6 * radius)
        labels[inside] = label
    colours = rng.uniform(30, 225, (9, 3))
    image = colours[labels] + rng.normal(0, 12, (*SIZE, 3))
    return image.clip(0, 255).astype(np.uint8), labels


def main(folder: Path, count: int = 3) -> None:
    """Write pictures to folder/images and their label maps to folder/labels."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        image, labels = picture(seed)
        write_image(folder / f"images/{seed:03}.png", image)
        spx_cli.write_labels(folder / f"labels/{seed:03}.png", labels)


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["shapes"]), *map(int, sys.argv[2:3]))
