"""Soft association on the CPU in float32: the kernels as functions of torch, with their gradients."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spx_cli.methods._association import clustering, weighted
from spx_cli.methods._association.grid import Grid, neighbours


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


class Cluster(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, centres: Tensor, grid: Grid, iterations: int) -> tuple[Tensor, Tensor]:
        batch, channels = features.shape[:2]
        table, total = neighbours(grid), batch * grid.cells
        means = centres.detach().flatten(2).transpose(1, 2).reshape(total, channels).contiguous().numpy()
        origin = means
        tiles = np.zeros((total, channels, grid.area), np.float32)
        parallel(clustering.to_tiles, total, _pixels_last(features), *_edges(grid), origin, tiles)
        history = []
        for _ in range(iterations):
            q = np.empty((total, 9, grid.area), np.float32)
            sums = np.empty((total, 9, channels + 1), np.float32)
            parallel(clustering.associate, total, tiles, means, origin, table, *_edges(grid), q, sums)
            new, weights = np.empty_like(means), np.empty(total, np.float32)
            parallel(clustering.update, total, sums, table, new, weights)
            history.append((means, q, new, weights))
            means = new
        out = np.empty((batch, grid.height, grid.width, 9), np.float32)
        parallel(clustering.from_tiles, total, q, *_edges(grid), out)
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
        parallel(clustering.to_tiles, total, _pixels_last(grad_q), *_edges(grid), np.zeros((total, 9), np.float32), dq)
        grad_tiles = np.zeros_like(tiles)
        for means, q, new, weights in reversed(history):
            sums = np.empty((total, 9, channels + 1), np.float32)
            parallel(
                clustering.associate_backward, total, tiles, means, origin, table, *_edges(grid), q, new, weights,
                grad_means, dq, grad_tiles, sums,
            )  # fmt: skip
            grad_means = np.empty_like(grad_means)
            parallel(clustering.gather, total, sums, table, grad_means)
            dq[:] = 0  # only the last round's q leaves the function
        grad = np.empty((batch, grid.height, grid.width, channels), np.float32)
        parallel(clustering.from_tiles, total, grad_tiles, *_edges(grid), grad)
        grad_start = torch.from_numpy(grad_means).view(batch, grid.cells, channels).transpose(1, 2)
        return _channels_second(grad), grad_start.reshape(batch, channels, grid.rows, grid.columns), None, None


class Scatter(Function):
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


class Unpool(Function):
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


class Dots(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, grid: Grid) -> Tensor:
        ctx.save = _pixels_last(x), _pixels_last(values), grid
        return _dots(ctx.save[1], ctx.save[0], grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, values, grid = ctx.save
        weights = _pixels_last(grad)
        return _unpool(weights, values, grid), _scatter(weights, x, grid), None


class Agreement(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, truth: Tensor, grid: Grid, count: int) -> Tensor:
        weights, labels = _pixels_last(q), truth.contiguous().numpy()
        share = np.zeros((len(weights), grid.cells, count), np.float32)
        mass = np.zeros((len(weights), grid.cells), np.float32)
        out = np.empty(labels.shape, np.float32)
        parallel(weighted.agree, len(weights), weights, labels, neighbours(grid), *_edges(grid), share, mass, out)
        ctx.save = weights, labels, grid, share, mass
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        weights, labels, grid, share, mass = ctx.save
        out, upper = np.empty_like(weights), np.zeros_like(share)
        table = neighbours(grid)
        parallel(
            weighted.agree_backward, len(out), weights, labels, table, *_edges(grid), share, mass,
            grad.contiguous().numpy(), upper, out,
        )  # fmt: skip
        return _channels_second(out), None, None, None


def _scatter(q: NDArray[np.float32], x: NDArray[np.float32], grid: Grid) -> Tensor:
    out = np.zeros((len(q), grid.rows, grid.columns, x.shape[3]), np.float32)
    parallel(weighted.add_up, len(q), q, x, neighbours(grid), *_edges(grid), out.reshape(len(q), grid.cells, -1))
    return _channels_second(out)


def _unpool(q: NDArray[np.float32], values: NDArray[np.float32], grid: Grid) -> Tensor:
    out = np.zeros((len(q), grid.height, grid.width, values.shape[3]), np.float32)
    parallel(weighted.unpool, len(q), q, values.reshape(len(q), grid.cells, -1), neighbours(grid), *_edges(grid), out)
    return _channels_second(out)


def _dots(values: NDArray[np.float32], x: NDArray[np.float32], grid: Grid) -> Tensor:
    out = np.zeros((*x.shape[:3], 9), np.float32)
    parallel(weighted.inner, len(x), values.reshape(len(x), grid.cells, -1), x, neighbours(grid), *_edges(grid), out)
    return _channels_second(out)


def cluster_labels(features: Tensor, centres: Tensor, grid: Grid, iterations: int) -> Tensor:
    """Return the labels of `Cluster` without keeping what a gradient would need."""
    batch, channels = features.shape[:2]
    table, total, edges = neighbours(grid), batch * grid.cells, _edges(grid)
    origin = centres.flatten(2).transpose(1, 2).reshape(total, channels).contiguous().numpy()
    tiles = np.empty((total, channels, grid.area), np.float32)
    parallel(clustering.to_tiles, total, _pixels_last(features), *edges, origin, tiles)
    means, weights = origin, np.empty(total, np.float32)
    no_q, sums = np.empty((0, 9, 0), np.float32), np.empty((total, 9, channels + 1), np.float32)
    for _ in range(iterations - 1):
        parallel(clustering.associate, total, tiles, means, origin, table, *edges, no_q, sums)
        means = np.empty_like(means)
        parallel(clustering.update, total, sums, table, means, weights)
    labels = np.empty((batch, grid.height, grid.width), np.int32)
    parallel(clustering.nearest, total, tiles, means, origin, table, *edges, labels)
    return torch.from_numpy(labels)


def hard_labels(q: Tensor, grid: Grid) -> Tensor:
    out = np.empty((len(q), grid.height, grid.width), np.int64)
    parallel(weighted.best, len(q) * grid.height, _pixels_last(q), grid.index, neighbours(grid), out)
    return torch.from_numpy(out)
