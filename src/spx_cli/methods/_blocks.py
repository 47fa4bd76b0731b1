"""Grid cells cut into blocks, coarse to fine, that change hands along borders: shared by SEEDS and ETPS.

A lattice is an int32 map of the owner of each block, with a frame of -1 so that kernels need no test for the image's
edge. Halving every block doubles the lattice; the last lattice has one block per pixel.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Lattice = NDArray[np.int32]


class Level(NamedTuple):
    """Blocks of one size: block (i, j) covers rows[i]:rows[i + 1], columns[j]:columns[j + 1] of the image."""

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]


def levels(size: tuple[int, int], grid: tuple[int, int], smallest: int) -> list[Level]:
    """Return the levels from whole cells down to blocks of `smallest` pixels a side, the cells themselves first.

    size, grid : (rows, columns) of pixels and of cells. Where cells are smaller than 2 * smallest they stay whole.
    """
    found, parts = [Level(_edges(size[0], grid[0]), _edges(size[1], grid[1]))], 2
    while size[0] >= smallest * parts * grid[0] and size[1] >= smallest * parts * grid[1]:
        found.append(Level(_edges(size[0], parts * grid[0]), _edges(size[1], parts * grid[1])))
        parts *= 2
    return found


def _edges(length: int, parts: int) -> NDArray[np.int32]:
    return (np.arange(parts + 1, dtype=np.int64) * length // parts).astype(np.int32)


def cells(grid: tuple[int, int]) -> Lattice:
    """Return the first lattice, every cell its own region, numbered in raster order."""
    lattice = np.full((grid[0] + 2, grid[1] + 2), -1, np.int32)
    lattice[1:-1, 1:-1] = np.arange(grid[0] * grid[1]).reshape(grid)
    return lattice


def halve(lattice: Lattice) -> Lattice:
    """Return the lattice of the next level: each block becomes 2 x 2 blocks of the same owner."""
    return np.pad(lattice[1:-1, 1:-1].repeat(2, 0).repeat(2, 1), 1, constant_values=-1)


def pixels(lattice: Lattice, level: Level) -> Lattice:
    """Return the lattice of single pixels."""
    return np.pad(
        lattice[1:-1, 1:-1].repeat(np.diff(level.rows), 0).repeat(np.diff(level.columns), 1), 1, constant_values=-1
    )


def _removable() -> NDArray[np.bool_]:
    """Return, for each pattern of `same`, whether the neighbours of that owner stay 4-connected without the centre.

    They do if they form one run around the ring; corners that touch no side neighbour do not count. A pattern
    without a side neighbour is the region's last block, which stays.
    """
    table = np.zeros(256, np.bool_)
    for pattern in range(256):
        ring = [bool(pattern >> i & 1) for i in range(8)]
        runs = sum(ring[i] and not (ring[i - 1] and ring[i - 2]) for i in range(0, 8, 2))
        table[pattern] = runs == 1 or all(ring)
    return table


REMOVABLE: Any = _removable()


@njit(cache=True, nogil=True, inline="always")
def same(lattice, y, x):
    """lattice (h, w) int32; returns the ring from the right neighbour on as 8 bits, 1 for the owner of (y, x)."""
    owner = lattice[y, x]
    return (
        (lattice[y, x + 1] == owner)
        | (lattice[y + 1, x + 1] == owner) << 1
        | (lattice[y + 1, x] == owner) << 2
        | (lattice[y + 1, x - 1] == owner) << 3
        | (lattice[y, x - 1] == owner) << 4
        | (lattice[y - 1, x - 1] == owner) << 5
        | (lattice[y - 1, x] == owner) << 6
        | (lattice[y - 1, x + 1] == owner) << 7
    )
