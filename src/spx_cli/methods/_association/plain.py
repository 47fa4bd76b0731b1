"""Soft association in plain torch, for any device and type.

Everything is gathered and multiplied cell by cell; nothing is scattered, so sums have one order on every device and
gradients cost no atomic additions.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spx_cli.methods._association.grid import EPSILON, Grid, neighbours

_ONE_HOT = 128  # labels up to which one-hot channels cost less than additions one by one


class Tables(NamedTuple):
    """A grid's look-up tables on a device.

    near (cells, 9) : the neighbours of each cell, 0 where there is none; exists (cells, 9) says where there is one.
    back (cells, 9) : where a cell stands among the neighbours of its own neighbours, all of which are (cells * 9).
    pixels (cells, area) : the pixels of each cell, padded with 0; real (cells, area) says which are no padding.
    places (HW,) : where each pixel stands in that table.
    cell (H, W) : the cell of each pixel.
    """

    near: Tensor
    exists: Tensor
    back: Tensor
    pixels: Tensor
    real: Tensor
    places: Tensor
    cell: Tensor


@lru_cache(maxsize=16)
def tables(grid: Grid, device: torch.device) -> Tables:
    """Return the tables of a grid on a device."""
    near, rows, columns = neighbours(grid), grid.row_edges, grid.column_edges
    pixels = np.full((grid.cells, grid.area), -1)
    places = np.empty((grid.height, grid.width), np.int64)
    flat = np.arange(places.size).reshape(places.shape)
    for cell, (i, j) in enumerate(np.ndindex(grid.rows, grid.columns)):
        block = np.s_[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        count = flat[block].size
        pixels[cell, :count] = flat[block].ravel()
        places[block] = (cell * grid.area + np.arange(count)).reshape(flat[block].shape)
    # Cell g is neighbour 8 - j of its own neighbour j.
    back = np.maximum(near, 0) * 9 + np.arange(8, -1, -1)
    arrays = (np.maximum(near, 0), near >= 0, back, np.maximum(pixels, 0), pixels >= 0, places.ravel(), grid.index)
    with torch.inference_mode(False):  # what a segmentation leaves here must serve training too
        return Tables(*(torch.from_numpy(array).to(device) for array in arrays))


class _ToTiles(Function):
    """x (B, C, H, W) -> (B, cells, C, area), zero beyond the pixels of a cell."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Grid) -> Tensor:
        ctx.grid = grid
        return _to_tiles(x, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _from_tiles(grad, ctx.grid), None


class _FromTiles(Function):
    """(B, cells, C, area) -> (B, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Grid) -> Tensor:
        ctx.grid = grid
        return _from_tiles(x, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _to_tiles(grad, ctx.grid), None


class _Near(Function):
    """Values of cells (B, cells, D) -> those of the nine around each, (B, cells, 9, D), zero off the grid."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Grid) -> Tensor:
        ctx.grid = grid
        return _near(x, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _gather(grad, ctx.grid), None


class _Gather(Function):
    """(B, cells, 9, D), what each cell has for the nine around it -> what each cell gets in all, (B, cells, D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Grid) -> Tensor:
        ctx.grid = grid
        return _gather(x, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _near(grad, ctx.grid), None


def _to_tiles(x: Tensor, grid: Grid) -> Tensor:
    table = tables(grid, x.device)
    tiles = x.flatten(2)[:, :, table.pixels].permute(0, 2, 1, 3)
    return tiles.masked_fill(~table.real[:, None], 0)


def _from_tiles(x: Tensor, grid: Grid) -> Tensor:
    flat = x.transpose(1, 2).flatten(2)[:, :, tables(grid, x.device).places]
    return flat.view(*flat.shape[:2], grid.height, grid.width)


def _near(x: Tensor, grid: Grid) -> Tensor:
    table = tables(grid, x.device)
    return x[:, table.near].masked_fill(~table.exists[..., None], 0)


def _gather(x: Tensor, grid: Grid) -> Tensor:
    table = tables(grid, x.device)
    return x.flatten(1, 2)[:, table.back].masked_fill(~table.exists[..., None], 0).sum(2)


def _by_cell(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, D, rows, columns) -> (B, cells, D)


def _on_grid(x: Tensor, grid: Grid) -> Tensor:
    return x.transpose(1, 2).reshape(len(x), x.shape[2], grid.rows, grid.columns)


def cluster(features: Tensor, centres: Tensor, grid: Grid, iterations: int) -> tuple[Tensor, Tensor]:
    """Cell by cell as batched matrix products."""
    table = tables(grid, features.device)
    means = _by_cell(centres)
    # Distances are taken from the cell's own first centre: far from it the float32 squares would lose the differences.
    origin = means.detach()
    local = _ToTiles.apply(features, grid) - origin[..., None] * table.real[:, None]
    for _ in range(iterations):
        near = _Near.apply(means, grid) - origin[:, :, None]  # (B, cells, 9, C)
        score = 2 * near @ local - near.square().sum(-1)[..., None]  # minus the squared distance, less |local|^2
        q = score.masked_fill(~table.exists[..., None], -torch.inf).softmax(2) * table.real[:, None]
        total = q.sum(3)
        sums = q @ local.transpose(2, 3) + total[..., None] * origin[:, :, None]  # (B, cells, 9, C)
        means = _Gather.apply(sums, grid) / (_Gather.apply(total[..., None], grid) + EPSILON)
    return _FromTiles.apply(q, grid), _on_grid(means, grid)


def nearest_labels(features: Tensor, centres: Tensor, grid: Grid, iterations: int) -> Tensor:
    """Return the labels (B, H, W) of k-means in which each pixel knows nine centres; one that nobody chose stays."""
    table = tables(grid, features.device)
    means = origin = _by_cell(centres)
    local = _to_tiles(features, grid) - origin[..., None] * table.real[:, None]
    kinds = torch.arange(9, device=features.device)[:, None]
    for turn in range(iterations):
        near = _near(means, grid) - origin[:, :, None]
        score = 2 * near @ local - near.square().sum(-1)[..., None]
        best = score.masked_fill(~table.exists[..., None], -torch.inf).argmax(2)  # (B, cells, area)
        if turn < iterations - 1:
            q = ((best[:, :, None] == kinds) & table.real[:, None]).to(local.dtype)
            total = _gather(q.sum(3, keepdim=True), grid)
            sums = _gather(q @ local.transpose(2, 3) + q.sum(3, keepdim=True) * origin[:, :, None], grid)
            means = torch.where(total > 0, sums / total.clamp(min=1), means)
    labels = table.near.expand(len(best), -1, -1).gather(2, best)
    return _from_tiles(labels[:, :, None], grid)[:, 0]


def scatter(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    sums = _ToTiles.apply(q, grid) @ _ToTiles.apply(x, grid).transpose(2, 3)
    return _on_grid(_Gather.apply(sums, grid), grid)


def unpool(q: Tensor, values: Tensor, grid: Grid) -> Tensor:
    near = _Near.apply(_by_cell(values), grid)
    return _FromTiles.apply(near.transpose(2, 3) @ _ToTiles.apply(q, grid), grid)  # type: ignore[no-any-return]


def dots(x: Tensor, values: Tensor, grid: Grid) -> Tensor:
    near = _Near.apply(_by_cell(values), grid)
    return _FromTiles.apply(near @ _ToTiles.apply(x, grid), grid)  # type: ignore[no-any-return]


def agreement(q: Tensor, truth: Tensor, grid: Grid, count: int) -> Tensor:
    if count > _ONE_HOT:
        return _agreement_one_by_one(q, truth, grid, count)
    weights = _ToTiles.apply(q, grid)
    labels = _to_tiles(truth[:, None] + 1, grid) - 1  # -1 in the padding, as where nothing is known
    one_hot = (labels == torch.arange(count, device=q.device)[:, None]).to(q.dtype)  # (B, cells, count, area)
    share = _Gather.apply(weights @ one_hot.transpose(2, 3), grid)
    share = share / (share.sum(2, keepdim=True) + EPSILON)
    found = (_Near.apply(share, grid).transpose(2, 3) @ weights).gather(2, labels.clamp(min=0))
    return torch.where(truth >= 0, _FromTiles.apply(found, grid)[:, 0], q.new_ones(()))


def _agreement_one_by_one(q: Tensor, truth: Tensor, grid: Grid, count: int) -> Tensor:
    table = tables(grid, q.device)
    labelled = truth >= 0
    batch = torch.arange(len(q), device=q.device)[:, None, None, None]
    exists = table.exists.T[:, table.cell]  # (9, H, W)
    cell = torch.where(exists, table.near.T[:, table.cell], grid.cells)
    entry = (batch * (grid.cells + 1) + cell) * count + truth.clamp(min=0)[:, None]  # (B, 9, H, W)
    known = q * labelled[:, None]
    share = q.new_zeros(len(q) * (grid.cells + 1) * count).index_add(0, entry.flatten(), known.flatten())
    share = share.view(-1, count)
    share = (share / (share.sum(1, keepdim=True) + EPSILON)).flatten()
    # The gradient of index_select is added up directly; that of share[entry] would sort all entries first.
    own = share.index_select(0, entry.flatten()).view_as(entry)
    return torch.where(labelled, (q * own * exists).sum(1), q.new_ones(()))


def hard_labels(q: Tensor, grid: Grid) -> Tensor:
    # Where q knows nothing of the frame (FCN scores all nine), cells outside the grid must not win.
    table = tables(grid, q.device)
    best = torch.where(table.exists.T[:, table.cell], q[:, :9], q.new_tensor(-torch.inf)).argmax(1)
    return table.near[table.cell.expand_as(best), best]
