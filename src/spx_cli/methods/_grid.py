"""Regular seed grids."""

from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray


def grid_shape(size: tuple[int, int], n: int) -> tuple[int, int]:
    """Return (rows, columns) of the grid of about square cells nearest to `n`, at least one, at most one per pixel.

    >>> grid_shape((321, 481), 400)
    (16, 25)
    """
    height, width = size
    rows = min(height, n, max(1, round(sqrt(n * height / width))))
    columns = min(width, max(1, round(n / rows)))
    # A strip one pixel high cannot have more columns than pixels: the rest goes into rows, and the other way round.
    if rows * columns < n and columns == width:
        rows = min(height, ceil(n / columns))
    return rows, columns


def grid_seeds(size: tuple[int, int], n: int) -> NDArray[np.float32]:
    """Return the centres of that grid's cells, (rows * columns, 2) as (y, x) in pixels, row by row."""
    rows, columns = grid_shape(size, n)
    y = (np.arange(rows, dtype=np.float32) + 0.5) * (size[0] / rows) - 0.5
    x = (np.arange(columns, dtype=np.float32) + 0.5) * (size[1] / columns) - 0.5
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
