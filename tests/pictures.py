"""Images whose right segmentation is obvious."""

import numpy as np


def quadrants(height: int = 40, width: int = 60, split: tuple[int, int] = (17, 33)) -> tuple[np.ndarray, np.ndarray]:
    """An image of four noisy colours that do not meet on the grid, and its truth."""
    truth = 2 * (np.arange(height)[:, None] >= split[0]) + (np.arange(width) >= split[1])
    colors = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [220, 220, 60]], np.int16)
    noise = np.random.default_rng(0).integers(-8, 9, (height, width, 3))
    return (colors[truth] + noise).astype(np.uint8), truth.astype(np.int32)
