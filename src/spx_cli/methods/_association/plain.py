"""Soft association in plain torch, for any device and type."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spx_cli.methods._association.grid import EPSILON, Grid, neighbours


@lru_cache(maxsize=16)
def tables(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the neighbours (cells, 9) and the cell of each pixel (H, W) on a device."""
    return torch.from_numpy(neighbours(grid)).to(device), torch.from_numpy(grid.index).to(device)


@lru_cache(maxsize=16)
def _tile_tables(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the pixels of each cell, (cells, area), padded with -1, and the place of each pixel in it, (HW,)."""
    pixels, places = np.full((grid.cells, grid.area), -1), np.empty((grid.height, grid.width), np.int64)
    _fill_tile_tables(grid.row_edges, grid.column_edges, pixels, places)
    return torch.from_numpy(pixels).to(device), torch.from_numpy(places.ravel()).to(device)


def _fill_tile_tables(
    rows: NDArray[np.int64], columns: NDArray[np.int64], pixels: NDArray[np.int64], places: NDArray[np.int64]
) -> None:
    flat = np.arange(places.size).reshape(places.shape)
    for cell, (i, j) in enumerate(np.ndindex(len(rows) - 1, len(columns) - 1)):
        block = np.s_[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        count = flat[block].size
        pixels[cell, :count] = flat[block].ravel()
        places[block] = (cell * pixels.shape[1] + np.arange(count)).reshape(flat[block].shape)


def cluster(features: Tensor, centres: Tensor, grid: Grid, iterations: int) -> tuple[Tensor, Tensor]:
    """Cell by cell as batched matrix products."""
    batch, channels = features.shape[:2]
    table, _ = tables(grid, features.device)
    pixels, places = _tile_tables(grid, features.device)
    flat = features.flatten(2)[:, :, pixels.clamp(min=0)].permute(0, 2, 1, 3)  # (B, cells, C, area)
    means = centres.flatten(2).transpose(1, 2)  # (B, cells, C)
    # Distances are taken from the cell's own first centre: far from it the float32 squares would lose the differences.
    origin = means.detach()
    local = flat - origin[..., None]
    for _ in range(iterations):
        near = means[:, table.clamp(min=0)] - origin[:, :, None]  # (B, cells, 9, C)
        score = 2 * near @ local - near.square().sum(-1)[..., None]  # minus the squared distance, less |local|^2
        score = score.masked_fill((table < 0)[:, :, None], -torch.inf)
        q = score.softmax(2).masked_fill((pixels < 0)[:, None], 0)
        total = q.sum(3)
        sums = q @ local.transpose(2, 3) + total[..., None] * origin[:, :, None]  # (B, cells, 9, C)
        # Cell g is neighbour 8 - j of its own neighbour j: gathered so, the sum has one order on every device.
        mine = (table >= 0).unsqueeze(-1)
        sums = (sums[:, table.clamp(min=0), torch.arange(8, -1, -1)] * mine).sum(2)
        total = (total[:, table.clamp(min=0), torch.arange(8, -1, -1)] * mine[..., 0]).sum(2)
        means = sums / (total + EPSILON)[..., None]
    q = q.transpose(1, 2).flatten(2)[:, :, places].view(batch, 9, grid.height, grid.width)
    return q, means.transpose(1, 2).reshape(batch, channels, grid.rows, grid.columns)


def scatter(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    table, index = tables(grid, q.device)
    out = x.new_zeros(*x.shape[:2], grid.cells + 1)
    for j in range(9):
        # Cells outside the grid gather in an extra column.
        target = table[:, j][index].flatten() % (grid.cells + 1)
        out = out.index_add(2, target, (q[:, j : j + 1] * x).flatten(2))
    return out[..., :-1].reshape(*x.shape[:2], grid.rows, grid.columns)


def unpool(q: Tensor, values: Tensor, grid: Grid) -> Tensor:
    table, index = tables(grid, q.device)
    padded = functional.pad(values.flatten(2), (0, 1))
    terms = (q[:, j : j + 1] * padded[:, :, table[:, j][index]] for j in range(9))
    return sum(terms, start=torch.zeros((), dtype=values.dtype, device=values.device))


def agreement(q: Tensor, truth: Tensor, grid: Grid, count: int) -> Tensor:
    table, index = tables(grid, q.device)
    labelled = truth >= 0
    batch = torch.arange(len(q), device=q.device)[:, None, None, None]
    cell = table[index].permute(2, 0, 1) % (grid.cells + 1)  # (9, H, W)
    entry = (batch * (grid.cells + 1) + cell) * count + truth.clamp(min=0)[:, None]  # (B, 9, H, W)
    known = q * labelled[:, None]
    share = q.new_zeros(len(q) * (grid.cells + 1) * count).index_add(0, entry.flatten(), known.flatten())
    share = share.view(-1, count)
    share = (share / (share.sum(1, keepdim=True) + EPSILON)).flatten()
    return torch.where(labelled, (q * share[entry] * (cell < grid.cells)).sum(1), q.new_ones(()))


def hard_labels(q: Tensor, grid: Grid) -> Tensor:
    # Where q knows nothing of the frame (FCN scores all nine), cells outside the grid must not win.
    table, index = tables(grid, q.device)
    inside = (table >= 0).T[:, index]
    best = torch.where(inside, q, q.new_tensor(-torch.inf)).argmax(1)
    return table[index.expand_as(best), best]
