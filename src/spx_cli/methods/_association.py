"""Soft association of each pixel with the 3 x 3 grid cells around its own, as SSN, FCN and their losses share it.

Arrays: features (B, C, H, W) float32; q (B, 9, H, W), the weights of a pixel for the nine cells, row by row from the
upper left to the lower right; values of superpixels (B, C, rows, columns). Nothing of size pixels x superpixels exists.

Every function is differentiable and runs on any device. On the CPU, float32 takes compiled kernels with written-out
gradients; all else takes plain torch, which the tests hold equal.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

EPSILON = 1e-16  # added to the total weight of a superpixel, as the port of SSN does
_CHUNK = 256  # pixels whose nine weights and features stay in the first-level cache


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


def initial_centres(features: Tensor, grid: Grid) -> Tensor:
    """Return the mean features of the cells, (B, C, rows, columns); cells overlap by a pixel unless sizes divide."""
    return functional.adaptive_avg_pool2d(features, (grid.rows, grid.columns))


def cluster(features: Tensor, grid: Grid, iterations: int) -> tuple[Tensor, Tensor]:
    """Return q after `iterations` rounds of differentiable SLIC, and the centres that belong to it.

    Jampani et al. (ECCV 2018), algorithm 1: q is the softmax over nine of minus the squared distance (their equation 3
    is not normalised; their code is), centres are weighted means.
    """
    centres = initial_centres(features, grid)
    if _compiled(features):
        return _Cluster.apply(features, centres, grid, iterations)  # type: ignore[no-any-return]
    return _cluster_torch(features, centres, grid, iterations)


def cluster_labels(features: Tensor, grid: Grid, iterations: int) -> Tensor:
    """Return the hard labels (B, H, W), int32, of `cluster`, with less work and memory; not differentiable."""
    if not _compiled(features):
        return hard_labels(cluster(features, grid, iterations)[0], grid).int()
    batch, channels = features.shape[:2]
    table, total, edges = neighbours(grid), batch * grid.cells, _edges(grid)
    origin = initial_centres(features, grid).flatten(2).transpose(1, 2).reshape(total, channels).contiguous().numpy()
    tiles = np.empty((total, channels, grid.area), np.float32)
    parallel(_to_tiles, total, _pixels_last(features), *edges, origin, tiles)
    means, weights = origin, np.empty(total, np.float32)
    no_q, sums = np.empty((0, 9, 0), np.float32), np.empty((total, 9, channels + 1), np.float32)
    for _ in range(iterations - 1):
        parallel(_associate, total, tiles, means, origin, table, *edges, no_q, sums)
        means = np.empty_like(means)
        parallel(_update, total, sums, table, means, weights)
    labels = np.empty((batch, grid.height, grid.width), np.int32)
    parallel(_nearest, total, tiles, means, origin, table, *edges, labels)
    return torch.from_numpy(labels)


def pool(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    """Return the weighted means of the pixel property x (B, D, H, W) in each superpixel, (B, D, rows, columns)."""
    ones = torch.ones_like(x[:, :1])
    total = scatter(q, torch.cat([x, ones], 1), grid)
    return total[:, :-1] / (total[:, -1:] + EPSILON)


def scatter(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    """Return the sums of q times x (B, D, H, W) in each superpixel, (B, D, rows, columns)."""
    if _compiled(q) and _compiled(x):
        return _Scatter.apply(q, x, grid)  # type: ignore[no-any-return]
    return _scatter_torch(q, x, grid)


def unpool(q: Tensor, values: Tensor, grid: Grid) -> Tensor:
    """Return for each pixel the values (B, D, rows, columns) of its nine superpixels weighted by q, (B, D, H, W)."""
    if _compiled(q) and _compiled(values):
        return _Unpool.apply(q, values, grid)  # type: ignore[no-any-return]
    return _unpool_torch(q, values, grid)


def label_agreement(q: Tensor, truth: Tensor, grid: Grid) -> Tensor:
    """Return for each pixel the weight of its own true label after pooling and unpooling, (B, H, W) in 0..1.

    truth : (B, H, W) int64, negative = unlabelled; such pixels count for nothing and come back as 1.
    Equal to one-hot channels pooled and unpooled (Jampani equation 5), of which only the pixel's own is looked at.
    """
    count, truth = _consecutive(truth)
    if _compiled(q):
        return _Agreement.apply(q, truth, grid, count)  # type: ignore[no-any-return]
    return _agreement_torch(q, truth, grid, count)


def hard_labels(q: Tensor, grid: Grid) -> Tensor:
    """Return the id of the superpixel with the largest weight or score, (B, H, W) int64; the first of equals."""
    if _compiled(q):
        out = np.empty((len(q), grid.height, grid.width), np.int64)
        parallel(_best, len(q) * grid.height, _pixels_last(q), grid.index, neighbours(grid), out)
        return torch.from_numpy(out)
    # Where q knows nothing of the frame (FCN scores all nine), cells outside the grid must not win.
    table, index = _tables(grid, q.device)
    inside = (table >= 0).T[:, index]
    best = torch.where(inside, q, q.new_tensor(-torch.inf)).argmax(1)
    return table[index.expand_as(best), best]


@dataclass(frozen=True)
class SoftSuperpixels:
    """Weights q (B, 9, H, W) that tie pixels to superpixels, through which gradients flow both ways."""

    q: Tensor
    grid: Grid

    @property
    def ids(self) -> Tensor:
        """The superpixel each weight refers to, (9, H, W) int64; -1 where there is none, and the weight counts not."""
        table, index = _tables(self.grid, self.q.device)
        return table[index].permute(2, 0, 1)

    def pool(self, x: Tensor) -> Tensor:
        """Return the weighted means of a pixel property (B, D, H, W) in each superpixel, (B, D, rows, columns)."""
        return pool(self.q, x, self.grid)

    def unpool(self, values: Tensor) -> Tensor:
        """Return values of superpixels (B, D, rows, columns) at the pixels, (B, D, H, W), weighted by q."""
        return unpool(self.q, values, self.grid)

    def labels(self) -> Tensor:
        """Return the superpixel of the largest weight, (B, H, W) int64; not differentiable."""
        return hard_labels(self.q, self.grid)


def _compiled(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def _consecutive(truth: Tensor) -> tuple[int, Tensor]:
    """Return a bound on the labels and the labels; large ids (instances of Cityscapes) are made small first."""
    count = int(truth.max()) + 1
    if count > 1024:
        known, small = torch.unique(truth, return_inverse=True)
        below = int((known < 0).sum())
        return len(known) - below, small - below
    return max(count, 1), truth


@lru_cache(maxsize=16)
def _tables(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the neighbours (cells, 9) and the cell of each pixel (H, W) on a device."""
    return torch.from_numpy(neighbours(grid)).to(device), torch.from_numpy(grid.index).to(device)


# --- plain torch ------------------------------------------------------------------------------------------------------


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


def _cluster_torch(features: Tensor, centres: Tensor, grid: Grid, iterations: int) -> tuple[Tensor, Tensor]:
    """Cell by cell as batched matrix products."""
    batch, channels = features.shape[:2]
    table, _ = _tables(grid, features.device)
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


def _scatter_torch(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    table, index = _tables(grid, q.device)
    out = x.new_zeros(*x.shape[:2], grid.cells + 1)
    for j in range(9):
        # Cells outside the grid gather in an extra column.
        target = table[:, j][index].flatten() % (grid.cells + 1)
        out = out.index_add(2, target, (q[:, j : j + 1] * x).flatten(2))
    return out[..., :-1].reshape(*x.shape[:2], grid.rows, grid.columns)


def _unpool_torch(q: Tensor, values: Tensor, grid: Grid) -> Tensor:
    table, index = _tables(grid, q.device)
    padded = functional.pad(values.flatten(2), (0, 1))
    terms = (q[:, j : j + 1] * padded[:, :, table[:, j][index]] for j in range(9))
    return sum(terms, start=torch.zeros((), dtype=values.dtype, device=values.device))


def _agreement_torch(q: Tensor, truth: Tensor, grid: Grid, count: int) -> Tensor:
    table, index = _tables(grid, q.device)
    labelled = truth >= 0
    batch = torch.arange(len(q), device=q.device)[:, None, None, None]
    cell = table[index].permute(2, 0, 1) % (grid.cells + 1)  # (9, H, W)
    entry = (batch * (grid.cells + 1) + cell) * count + truth.clamp(min=0)[:, None]  # (B, 9, H, W)
    known = q * labelled[:, None]
    share = q.new_zeros(len(q) * (grid.cells + 1) * count).index_add(0, entry.flatten(), known.flatten())
    share = share.view(-1, count)
    share = (share / (share.sum(1, keepdim=True) + EPSILON)).flatten()
    return torch.where(labelled, (q * share[entry] * (cell < grid.cells)).sum(1), q.new_ones(()))


# --- compiled ---------------------------------------------------------------------------------------------------------


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    # Keyed by the process: the threads of a pool do not survive a fork.
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="spx-association")


def parallel(kernel: Callable[..., None], total: int, *args: Any) -> None:
    """Run kernel(first, last, *args) over the parts of range(total), one for each of torch's threads."""
    shares = min(torch.get_num_threads(), total)
    edges = [total * i // shares for i in range(shares + 1)]
    others = [_threads(os.getpid()).submit(kernel, edges[i], edges[i + 1], *args) for i in range(1, shares)]
    kernel(edges[0], edges[1], *args)
    for other in others:
        other.result()


def _pixels_last(x: Tensor) -> NDArray[np.float32]:
    """Return (B, C, H, W) as a contiguous array (B, H, W, C); no copy for channels_last."""
    return x.detach().permute(0, 2, 3, 1).contiguous().numpy()


def _channels_second(x: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def _edges(grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return grid.row_edges, grid.column_edges


class _Cluster(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, centres: Tensor, grid: Grid, iterations: int) -> tuple[Tensor, Tensor]:
        batch, channels = features.shape[:2]
        table, total = neighbours(grid), batch * grid.cells
        means = centres.detach().flatten(2).transpose(1, 2).reshape(total, channels).contiguous().numpy()
        origin = means
        tiles = np.zeros((total, channels, grid.area), np.float32)
        parallel(_to_tiles, total, _pixels_last(features), *_edges(grid), origin, tiles)
        history = []
        for _ in range(iterations):
            q = np.empty((total, 9, grid.area), np.float32)
            sums = np.empty((total, 9, channels + 1), np.float32)
            parallel(_associate, total, tiles, means, origin, table, *_edges(grid), q, sums)
            new, weights = np.empty_like(means), np.empty(total, np.float32)
            parallel(_update, total, sums, table, new, weights)
            history.append((means, q, new, weights))
            means = new
        out = np.empty((batch, grid.height, grid.width, 9), np.float32)
        parallel(_from_tiles, total, q, *_edges(grid), out)
        ctx.save = tiles, origin, history, grid
        final = torch.from_numpy(means).view(batch, grid.cells, channels).transpose(1, 2)
        return _channels_second(out), final.reshape(batch, channels, grid.rows, grid.columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_q: Tensor, grad_centres: Tensor) -> Any:
        tiles, origin, history, grid = ctx.save
        total, channels, area = tiles.shape
        batch, table = total // grid.cells, neighbours(grid)
        grad_means = grad_centres.flatten(2).transpose(1, 2).reshape(total, channels).contiguous().numpy()
        dq = np.zeros((total, 9, area), np.float32)
        parallel(_to_tiles, total, _pixels_last(grad_q), *_edges(grid), np.zeros((total, 9), np.float32), dq)
        grad_tiles = np.zeros_like(tiles)
        for means, q, new, weights in reversed(history):
            sums = np.empty((total, 9, channels + 1), np.float32)
            parallel(
                _associate_backward, total, tiles, means, origin, table, *_edges(grid), q, new, weights, grad_means, dq,
                grad_tiles, sums,
            )  # fmt: skip
            grad_means = np.empty_like(grad_means)
            parallel(_gather, total, sums, table, grad_means)
            dq[:] = 0  # only the last round's q leaves the function
        grad = np.empty((batch, grid.height, grid.width, channels), np.float32)
        parallel(_from_tiles, total, grad_tiles, *_edges(grid), grad)
        grad_start = torch.from_numpy(grad_means).view(batch, grid.cells, channels).transpose(1, 2)
        return _channels_second(grad), grad_start.reshape(batch, channels, grid.rows, grid.columns), None, None


class _Scatter(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, x: Tensor, grid: Grid) -> Tensor:
        ctx.save = _pixels_last(q), _pixels_last(x), grid
        return _scatter(*ctx.save)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, x, grid = ctx.save
        values = _pixels_last(grad)
        return _dots(values, x, grid), _unpool(q, values, grid), None


class _Unpool(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, values: Tensor, grid: Grid) -> Tensor:
        ctx.save = _pixels_last(q), _pixels_last(values), grid
        return _unpool(*ctx.save)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, values, grid = ctx.save
        x = _pixels_last(grad)
        return _dots(values, x, grid), _scatter(q, x, grid), None


class _Agreement(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, truth: Tensor, grid: Grid, count: int) -> Tensor:
        weights, labels = _pixels_last(q), truth.contiguous().numpy()
        share = np.zeros((len(weights), grid.cells, count), np.float32)
        mass = np.zeros((len(weights), grid.cells), np.float32)
        out = np.empty(labels.shape, np.float32)
        parallel(_agree, len(weights), weights, labels, neighbours(grid), *_edges(grid), share, mass, out)
        ctx.save = weights, labels, grid, share, mass
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        weights, labels, grid, share, mass = ctx.save
        out, upper = np.empty_like(weights), np.zeros_like(share)
        table = neighbours(grid)
        parallel(
            _agree_backward, len(out), weights, labels, table, *_edges(grid), share, mass, grad.contiguous().numpy(),
            upper, out,
        )  # fmt: skip
        return _channels_second(out), None, None, None


def _scatter(q: NDArray[np.float32], x: NDArray[np.float32], grid: Grid) -> Tensor:
    out = np.zeros((len(q), grid.rows, grid.columns, x.shape[3]), np.float32)
    parallel(_add_up, len(q), q, x, neighbours(grid), *_edges(grid), out.reshape(len(q), grid.cells, -1))
    return _channels_second(out)


def _unpool(q: NDArray[np.float32], values: NDArray[np.float32], grid: Grid) -> Tensor:
    out = np.zeros((len(q), grid.height, grid.width, values.shape[3]), np.float32)
    parallel(_spread, len(q), q, values.reshape(len(q), grid.cells, -1), neighbours(grid), *_edges(grid), out)
    return _channels_second(out)


def _dots(values: NDArray[np.float32], x: NDArray[np.float32], grid: Grid) -> Tensor:
    out = np.zeros((*x.shape[:3], 9), np.float32)
    parallel(_inner, len(x), values.reshape(len(x), grid.cells, -1), x, neighbours(grid), *_edges(grid), out)
    return _channels_second(out)


# Sums may be reordered, so that they vectorise; results stay the same from run to run and for any number of threads.
_fast = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")


@_fast
def _to_tiles(first, last, x, rows, columns, origin, tiles):
    """x (B, H, W, C) -> tiles (B * cells, C, area) less origin (B * cells, C). Pixels of a cell in raster order."""
    width, cells = len(columns) - 1, (len(rows) - 1) * (len(columns) - 1)
    channels = x.shape[3]
    for tile in range(first, last):
        b, cell = divmod(tile, cells)
        i, j = divmod(cell, width)
        p = 0
        for y in range(rows[i], rows[i + 1]):
            for k in range(columns[j], columns[j + 1]):
                for c in range(channels):
                    tiles[tile, c, p] = x[b, y, k, c] - origin[tile, c]
                p += 1


@_fast
def _from_tiles(first, last, tiles, rows, columns, x):
    """tiles (B * cells, C, area) -> x (B, H, W, C)."""
    width, cells = len(columns) - 1, (len(rows) - 1) * (len(columns) - 1)
    channels = x.shape[3]
    for tile in range(first, last):
        b, cell = divmod(tile, cells)
        i, j = divmod(cell, width)
        p = 0
        for y in range(rows[i], rows[i + 1]):
            for k in range(columns[j], columns[j + 1]):
                for c in range(channels):
                    x[b, y, k, c] = tiles[tile, c, p]
                p += 1


# Blocks of pixels are given as rows with a first pixel and a number: sliced in two axes, an array would lose its known
# stride of one, and the loops over pixels would not vectorise.


@_fast
def _product(left, right, start, n, out):
    """Add left (9, C) @ right (C, start : start + n) to out (9, : n)."""
    channels = right.shape[0]
    fours = channels - channels % 4
    for j in range(9):
        row = out[j, :n]
        for c in range(0, fours, 4):
            k0, k1, k2, k3 = left[j, c], left[j, c + 1], left[j, c + 2], left[j, c + 3]
            r0, r1 = right[c, start : start + n], right[c + 1, start : start + n]
            r2, r3 = right[c + 2, start : start + n], right[c + 3, start : start + n]
            for p in range(n):
                row[p] += k0 * r0[p] + k1 * r1[p] + k2 * r2[p] + k3 * r3[p]
        for c in range(fours, channels):
            k0, r0 = left[j, c], right[c, start : start + n]
            for p in range(n):
                row[p] += k0 * r0[p]


@_fast
def _product_transposed(left, right, start, n, out):
    """Add left (9, : n) @ right (C, start : start + n) transposed to out (9, C)."""
    channels = right.shape[0]
    fours = channels - channels % 4
    for j in range(9):
        row = left[j, :n]
        for c in range(0, fours, 4):
            r0, r1 = right[c, start : start + n], right[c + 1, start : start + n]
            r2, r3 = right[c + 2, start : start + n], right[c + 3, start : start + n]
            s0 = s1 = s2 = s3 = np.float32(0)
            for p in range(n):
                s0 += row[p] * r0[p]
                s1 += row[p] * r1[p]
                s2 += row[p] * r2[p]
                s3 += row[p] * r3[p]
            out[j, c] += s0
            out[j, c + 1] += s1
            out[j, c + 2] += s2
            out[j, c + 3] += s3
        for c in range(fours, channels):
            r0 = right[c, start : start + n]
            s0 = np.float32(0)
            for p in range(n):
                s0 += row[p] * r0[p]
            out[j, c] += s0


@_fast
def _spread_product(left, right, first, out, start, n):
    """Add left (9, C) transposed @ right (9, first : first + n) to out (C, start : start + n)."""
    r0, r1, r2 = right[0, first : first + n], right[1, first : first + n], right[2, first : first + n]
    r3, r4, r5 = right[3, first : first + n], right[4, first : first + n], right[5, first : first + n]
    r6, r7, r8 = right[6, first : first + n], right[7, first : first + n], right[8, first : first + n]
    for c in range(out.shape[0]):
        k0, k1, k2, k3, k4 = left[0, c], left[1, c], left[2, c], left[3, c], left[4, c]
        k5, k6, k7, k8 = left[5, c], left[6, c], left[7, c], left[8, c]
        row = out[c, start : start + n]
        for p in range(n):
            row[p] += (
                k0 * r0[p] + k1 * r1[p] + k2 * r2[p] + k3 * r3[p] + k4 * r4[p]
                + k5 * r5[p] + k6 * r6[p] + k7 * r7[p] + k8 * r8[p]
            )  # fmt: skip


_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)


@_fast
def _softmax(z, n, bits):
    """Replace z (9, : n) by its softmax over the first axis; bits (n,) int32 is scratch. exp is that of Cephes."""
    power = bits.view(np.float32)
    top, total = np.empty(n, np.float32), np.zeros(n, np.float32)
    top[:] = z[0, :n]
    for j in range(1, 9):
        row = z[j, :n]
        for p in range(n):
            top[p] = max(top[p], row[p])
    for j in range(9):
        row = z[j, :n]
        for p in range(n):
            x = max(row[p] - top[p], _LOWEST)
            k = np.int32(x * _LOG2E - np.float32(0.5))
            kf = np.float32(k)
            x = x - kf * _LN2_HIGH - kf * _LN2_LOW
            y = np.float32(1.9875691500e-4)
            y = y * x + np.float32(1.3981999507e-3)
            y = y * x + np.float32(8.3334519073e-3)
            y = y * x + np.float32(4.1665795894e-2)
            y = y * x + np.float32(1.6666665459e-1)
            y = y * x + np.float32(5.0000001201e-1)
            row[p] = y * x * x + x + np.float32(1)
            bits[p] = (k + np.int32(127)) << np.int32(23)
        for p in range(n):
            row[p] *= power[p]
            total[p] += row[p]
    for p in range(n):
        total[p] = np.float32(1) / total[p]
    for j in range(9):
        row = z[j, :n]
        for p in range(n):
            row[p] *= total[p]


_OUTSIDE = np.float32(-1e30)


@_fast
def _near(tile, means, origin, table, near, bias):
    """near (9, C): the centres around a cell less its origin; bias (9,): minus their squares, or -1e30 off the grid."""
    cells, channels = table.shape[0], means.shape[1]
    base = tile - tile % cells
    for j in range(9):
        g = table[tile % cells, j]
        bias[j] = 0 if g >= 0 else _OUTSIDE
        for c in range(channels):
            near[j, c] = means[base + g, c] - origin[tile, c] if g >= 0 else np.float32(0)
            bias[j] -= near[j, c] * near[j, c]


@_fast
def _area(tile, rows, columns):
    width, cells = len(columns) - 1, (len(rows) - 1) * (len(columns) - 1)
    i, j = divmod(tile % cells, width)
    return (rows[i + 1] - rows[i]) * (columns[j + 1] - columns[j])


@_fast
def _scores(near, bias, pixels, start, n, z):
    """z (9, : n): minus the squared distances of n pixels (C, area) to near (9, C), up to a constant per pixel."""
    for j in range(9):
        z[j, :n] = bias[j]
    _product(near * np.float32(2), pixels, start, n, z)


@_fast
def _associate(first, last, tiles, means, origin, table, rows, columns, q, sums):
    """One association. tiles (T, C, area) -> q (T, 9, area) or none; sums (T, 9, C + 1) of q times (features, 1)."""
    channels = tiles.shape[1]
    near, bias = np.empty((9, channels), np.float32), np.empty(9, np.float32)
    z, bits = np.empty((9, _CHUNK), np.float32), np.empty(_CHUNK, np.int32)
    part = np.empty((9, channels), np.float32)
    for tile in range(first, last):
        _near(tile, means, origin, table, near, bias)
        area = _area(tile, rows, columns)
        part[:] = 0
        sums[tile] = 0
        pixels = tiles[tile]
        if len(q):
            q[tile, :, area:] = 0
        for start in range(0, area, _CHUNK):
            n = min(_CHUNK, area - start)
            _scores(near, bias, pixels, start, n, z)
            _softmax(z, n, bits)
            _product_transposed(z, pixels, start, n, part)
            for j in range(9):
                row, total = z[j, :n], np.float32(0)
                if len(q):
                    q[tile, j, start : start + n] = row
                for p in range(n):
                    total += row[p]
                sums[tile, j, channels] += total
        for j in range(9):
            for c in range(channels):
                sums[tile, j, c] = part[j, c] + sums[tile, j, channels] * origin[tile, c]


@_fast
def _nearest(first, last, tiles, means, origin, table, rows, columns, labels):
    """tiles (T, C, area) -> labels (B, H, W): the nearest of the nine centres, the first of equals."""
    cells, channels, width = table.shape[0], tiles.shape[1], len(columns) - 1
    near, bias = np.empty((9, channels), np.float32), np.empty(9, np.float32)
    z, best = np.empty((9, _CHUNK), np.float32), np.empty(_CHUNK, np.int32)
    for tile in range(first, last):
        _near(tile, means, origin, table, near, bias)
        b, cell = divmod(tile, cells)
        i, j = divmod(cell, width)
        y, x = rows[i], columns[j]
        area = _area(tile, rows, columns)
        for start in range(0, area, _CHUNK):
            n = min(_CHUNK, area - start)
            _scores(near, bias, tiles[tile], start, n, z)
            top = z[0]
            best[:n] = 0
            for k in range(1, 9):
                row = z[k]
                for p in range(n):
                    if row[p] > top[p]:
                        top[p] = row[p]
                        best[p] = k
            for p in range(n):
                labels[b, y, x] = table[cell, best[p]]
                x += 1
                if x == columns[j + 1]:
                    x = columns[j]
                    y += 1


@_fast
def _update(first, last, sums, table, means, weights):
    """Turn sums (T, 9, C + 1) into means (T, C), weights (T,)."""
    cells, channels = table.shape[0], means.shape[1]
    total = np.empty(channels + 1, np.float32)
    for tile in range(first, last):
        base = tile - tile % cells
        total[:] = 0
        for j in range(9):
            g = table[tile % cells, j]
            if g >= 0:
                # This cell is neighbour 8 - j of its neighbour j.
                total += sums[base + g, 8 - j]
        weights[tile] = total[channels] + np.float32(EPSILON)
        means[tile] = total[:channels] / weights[tile]


@_fast
def _gather(first, last, sums, table, out):
    """Add sums (T, 9, C + 1) up by superpixel, out (T, C)."""
    cells, channels = table.shape[0], out.shape[1]
    for tile in range(first, last):
        base = tile - tile % cells
        out[tile] = 0
        for j in range(9):
            g = table[tile % cells, j]
            if g >= 0:
                out[tile] += sums[base + g, 8 - j, :channels]


@_fast
def _associate_backward(
    first, last, tiles, means, origin, table, rows, columns, q, new, weights, grad_new, dq, grad_tiles, sums
):
    """Gradients of one association and update: grad_tiles (T, C, area) grows, sums (T, 9, C + 1) for the old means.

    new, grad_new (T, C): the updated means and the gradient that reaches them; dq (T, 9, area): what reaches q.
    """
    cells, channels = table.shape[0], tiles.shape[1]
    near, bias = np.empty((9, channels), np.float32), np.empty(9, np.float32)
    pull, shift = np.zeros((9, channels), np.float32), np.zeros(9, np.float32)
    grad, part = np.empty((9, _CHUNK), np.float32), np.empty((9, channels), np.float32)
    mean, total = np.empty(_CHUNK, np.float32), np.empty(9, np.float32)
    for tile in range(first, last):
        base = tile - tile % cells
        _near(tile, means, origin, table, near, bias)
        for j in range(9):
            g = table[tile % cells, j]
            shift[j] = 0
            for c in range(channels):
                # d mean / d q = (feature - mean) / weight, d mean / d feature = q / weight
                pull[j, c] = grad_new[base + g, c] / weights[base + g] if g >= 0 else np.float32(0)
                shift[j] -= pull[j, c] * (new[base + g, c] - origin[tile, c]) if g >= 0 else np.float32(0)
        part[:] = 0
        total[:] = 0
        pixels, out, area = tiles[tile], grad_tiles[tile], _area(tile, rows, columns)
        for start in range(0, area, _CHUNK):
            n = min(_CHUNK, area - start)
            mean[:n] = 0
            for j in range(9):
                row, incoming = grad[j, :n], dq[tile, j, start : start + n]
                for p in range(n):
                    row[p] = incoming[p] + shift[j]
            _product(pull, pixels, start, n, grad)
            for j in range(9):
                row, weight = grad[j, :n], q[tile, j, start : start + n]
                for p in range(n):
                    mean[p] += weight[p] * row[p]
            for j in range(9):
                row, weight = grad[j, :n], q[tile, j, start : start + n]
                all_of_it = np.float32(0)
                for p in range(n):
                    # softmax backward, times 2: scores hold minus the squares of the distances
                    row[p] = np.float32(2) * weight[p] * (row[p] - mean[p])
                    all_of_it += row[p]
                total[j] += all_of_it
            _spread_product(pull, q[tile], start, out, start, n)
            _spread_product(near, grad, 0, out, start, n)
            _product_transposed(grad, pixels, start, n, part)
        for j in range(9):
            for c in range(channels):
                sums[tile, j, c] = part[j, c] - total[j] * near[j, c]
            sums[tile, j, channels] = 0


@_fast
def _best(first, last, q, index, table, out):
    """q (B, H, W, 9), index (H, W) -> out (B, H, W), line by line."""
    for line in range(first, last):
        b, y = divmod(line, q.shape[1])
        for x in range(q.shape[2]):
            near, best = table[index[y, x]], -1
            for j in range(9):
                if near[j] >= 0 and (best < 0 or q[b, y, x, j] > q[b, y, x, best]):
                    best = j
            out[b, y, x] = near[best]


@_fast
def _add_up(first, last, q, x, table, rows, columns, out):
    """q (B, H, W, 9), x (B, H, W, D) -> out (B, cells, D)."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    for n in range(9):
                        g = table[cell, n]
                        if g >= 0:
                            for d in range(x.shape[3]):
                                out[b, g, d] += q[b, y, k, n] * x[b, y, k, d]


@_fast
def _spread(first, last, q, values, table, rows, columns, out):
    """q (B, H, W, 9), values (B, cells, D) -> out (B, H, W, D)."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    for n in range(9):
                        g = table[cell, n]
                        if g >= 0:
                            for d in range(values.shape[2]):
                                out[b, y, k, d] += q[b, y, k, n] * values[b, g, d]


@_fast
def _inner(first, last, values, x, table, rows, columns, out):
    """values (B, cells, D), x (B, H, W, D) -> out (B, H, W, 9), their inner products."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    for n in range(9):
                        g = table[cell, n]
                        if g >= 0:
                            for d in range(x.shape[3]):
                                out[b, y, k, n] += values[b, g, d] * x[b, y, k, d]


@_fast
def _agree(first, last, q, truth, table, rows, columns, share, mass, out):
    """q (B, H, W, 9), truth (B, H, W) -> share (B, cells, labels), mass (B, cells), out (B, H, W)."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    label = truth[b, y, k]
                    if label >= 0:
                        for n in range(9):
                            g = table[cell, n]
                            if g >= 0:
                                share[b, g, label] += q[b, y, k, n]
        for cell in range(len(table)):
            mass[b, cell] = share[b, cell].sum() + np.float32(EPSILON)
            share[b, cell] /= mass[b, cell]
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    label = truth[b, y, k]
                    total = np.float32(1)
                    if label >= 0:
                        total = np.float32(0)
                        for n in range(9):
                            g = table[cell, n]
                            if g >= 0:
                                total += q[b, y, k, n] * share[b, g, label]
                    out[b, y, k] = total


@_fast
def _agree_backward(first, last, q, truth, table, rows, columns, share, mass, grad, upper, out):
    """grad (B, H, W) -> out (B, H, W, 9); upper (B, cells, labels) zeros, becomes the gradient of share."""
    for b in range(first, last):
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    label = truth[b, y, k]
                    if label >= 0:
                        for n in range(9):
                            g = table[cell, n]
                            if g >= 0:
                                upper[b, g, label] += q[b, y, k, n] * grad[b, y, k]
        for cell in range(len(table)):
            mean = np.float32(0)
            for label in range(share.shape[2]):
                mean += upper[b, cell, label] * share[b, cell, label]
            for label in range(share.shape[2]):
                upper[b, cell, label] = (upper[b, cell, label] - mean) / mass[b, cell]
        for cell in range(len(table)):
            i, j = divmod(cell, len(columns) - 1)
            for y in range(rows[i], rows[i + 1]):
                for k in range(columns[j], columns[j + 1]):
                    label = truth[b, y, k]
                    for n in range(9):
                        g = table[cell, n]
                        inside = g >= 0 and label >= 0
                        out[b, y, k, n] = (
                            grad[b, y, k] * share[b, g, label] + upper[b, g, label] if inside else np.float32(0)
                        )
