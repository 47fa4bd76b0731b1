"""The grid of cells that superpixels start from, and which cells lie around each."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-16  # added to the total weight of a superpixel, as the port of SSN does


@dataclass(frozen=True)
class Grid:
    """A regular grid over an image: pixel (y, x) lies in cell (y * rows // height, x * columns // width)."""

    height: int
    width: int
    rows: int
    columns: int

    @property
    def cells(self) -> int:
        """Number of cells; cell (i, j) has the id i * columns + j."""
        return self.rows * self.columns

    @property
    def index(self) -> NDArray[np.int64]:
        """The cell of each pixel, (H, W)."""
        y = np.arange(self.height) * self.rows // self.height
        x = np.arange(self.width) * self.columns // self.width
        return y[:, None] * self.columns + x

    @property
    def row_edges(self) -> NDArray[np.int64]:
        """First row of each row of cells, then the height; (rows + 1,)."""
        return -(np.arange(self.rows + 1) * -self.height // self.rows)

    @property
    def column_edges(self) -> NDArray[np.int64]:
        """First column of each column of cells, then the width; (columns + 1,)."""
        return -(np.arange(self.columns + 1) * -self.width // self.columns)

    @property
    def area(self) -> int:
        """Pixels of the largest cell."""
        return int(np.diff(self.row_edges).max() * np.diff(self.column_edges).max())


@lru_cache(maxsize=64)
def neighbours(grid: Grid) -> NDArray[np.int64]:
    """Return the ids of the nine cells around each cell, (cells, 9); -1 where there is none."""
    i, j = np.divmod(np.arange(grid.cells), grid.columns)
    di, dj = np.divmod(np.arange(9), 3)
    rows, columns = i[:, None] + di - 1, j[:, None] + dj - 1
    inside = (rows >= 0) & (rows < grid.rows) & (columns >= 0) & (columns < grid.columns)
    return np.where(inside, rows * grid.columns + columns, -1)
