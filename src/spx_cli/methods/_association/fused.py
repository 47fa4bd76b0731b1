"""Soft and hard association on CUDA, in Triton: one pass over the pixels for each round of clustering.

A program works on a part of one cell. All of its pixels choose among the same nine centres, so their scores are one
small matrix product, and their sums another; nothing of size B x 9 x H x W exists. The sums of the parts are added up
in a fixed order, so the same input gives the same bytes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from spx_cli.methods._association.grid import EPSILON, Grid

_BLOCK = 128  # pixels whose scores are in registers at a time
_PART = 1024  # pixels of a cell that one program takes
MOST_CHANNELS = 32  # more would not fit into the registers and shared memory of a multiprocessor

# Compiled anew for strides of one alone, not for each size of image.
_kernel = triton.jit(
    do_not_specialize=["stride_b", "stride_y", "rows", "columns", "height", "width", "parts", "blocks"]
)


def cluster_labels(features: Tensor, grid: Grid, iterations: int, *, hard: bool = False) -> Tensor:
    """Return the labels (B, H, W), int32, after `iterations` associations with `iterations` - 1 updates between them.

    features : float32 (B, C, H, W), of any strides. hard : each pixel counts for its nearest centre alone, as in SLIC.
    """
    batch, channels, height, width = features.shape
    total, parts = batch * grid.cells, -(-grid.area // _PART)
    origin = features.new_empty(total, channels)
    padded = max(16, triton.next_power_of_2(channels))
    shape = (grid.rows, grid.columns, height, width)
    _start[(total,)](features, origin, *features.stride(), *shape, channels, padded, _BLOCK)
    means = origin.clone()
    sums = features.new_empty(total, parts, 9, channels + 1)
    labels = torch.empty(batch, height, width, dtype=torch.int32, device=features.device)
    arrays = (features, means, origin, sums, labels, *features.stride(), *shape, parts)
    for _ in range(iterations - 1):
        _associate[(total * parts,)](*arrays, channels, padded, _BLOCK, _PART, hard, False)
        _update[(total,)](sums, means, grid.rows, grid.columns, parts, channels, 2 * padded, EPSILON, num_warps=1)
    _associate[(total * parts,)](*arrays, channels, padded, _BLOCK, _PART, hard, True)
    return labels


def hard_labels(q: Tensor, grid: Grid) -> Tensor:
    """Return the id of the superpixel with the largest of the first nine channels, (B, H, W) int64."""
    batch, _, height, width = q.shape
    labels = torch.empty(batch, height, width, dtype=torch.int64, device=q.device)
    blocks = triton.cdiv(height * width, 4 * _BLOCK)
    _best[(batch * blocks,)](q, labels, *q.stride(), grid.rows, grid.columns, height, width, blocks, 4 * _BLOCK)
    return labels


@triton.jit
def _first(i, cells, pixels):
    # The first row, or column, of the cells i: pixel y lies in cell y * cells // pixels.
    return (i * pixels + cells - 1) // cells


@_kernel
def _start(
    x, origin, stride_b, stride_c, stride_y, stride_x, rows, columns, height, width,
    channels: tl.constexpr, padded: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Average x (B, C, H, W) over cells, origin (B * cells, C); they overlap as in adaptive pooling."""
    tile = tl.program_id(0)
    cell = tile % (rows * columns)
    i, j = cell // columns, cell % columns
    top, left = i * height // rows, j * width // columns
    across = _first(j + 1, columns, width) - left
    area = (_first(i + 1, rows, height) - top) * across
    c = tl.arange(0, padded)
    base = x + (tile // (rows * columns)).to(tl.int64) * stride_b
    total = tl.zeros([padded], tl.float32)
    for start in range(0, area, block):
        p = start + tl.arange(0, block)
        at = (top + p // across).to(tl.int64) * stride_y + (left + p % across) * stride_x
        inside = (p < area)[:, None] & (c < channels)[None, :]
        total += tl.sum(tl.load(base + at[:, None] + c[None, :] * stride_c, mask=inside, other=0.0), 0)
    tl.store(origin + tile * channels + c, total / area, mask=c < channels)


@_kernel
def _associate(
    x, means, origin, sums, labels, stride_b, stride_c, stride_y, stride_x, rows, columns, height, width, parts,
    channels: tl.constexpr, padded: tl.constexpr, block: tl.constexpr, part_size: tl.constexpr,
    hard: tl.constexpr, last: tl.constexpr,
):  # fmt: skip
    """Associate x (B, C, H, W) with means (B * cells, C).

    Writes sums (B * cells, parts, 9, C + 1) of q times (features, 1), or with `last` only labels (B, H, W).
    """
    tile, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    cells = rows * columns
    b, cell = tile // cells, tile % cells
    i, j = cell // columns, cell % columns
    top, left = _first(i, rows, height), _first(j, columns, width)
    across = _first(j + 1, columns, width) - left
    area = (_first(i + 1, rows, height) - top) * across
    c, k = tl.arange(0, padded), tl.arange(0, 16)
    real = c < channels
    near_i, near_j = i + k // 3 - 1, j + k % 3 - 1
    exists = (k < 9) & (near_i >= 0) & (near_i < rows) & (near_j >= 0) & (near_j < columns)
    # Distances are taken from the cell's own first centre: far from it the float32 squares would lose the differences.
    zero = tl.load(origin + tile * channels + c, mask=real, other=0.0)
    known = exists[:, None] & real[None, :]
    row = means + (b * cells + near_i * columns + near_j) * channels
    near = tl.load(row[:, None] + c[None, :], mask=known, other=0.0)
    near = tl.where(known, near - zero[None, :], 0.0)
    bias = tl.where(exists, -tl.sum(near * near, 1), float("-inf"))
    twice = tl.trans(2.0 * near)
    total = tl.zeros([16], tl.float32)
    weighted = tl.zeros([16, padded], tl.float32)
    base = x + b.to(tl.int64) * stride_b
    for start in range(part * part_size, min((part + 1) * part_size, area), block):
        p = start + tl.arange(0, block)
        valid = p < area
        y, u = top + p // across, left + p % across
        at = y.to(tl.int64) * stride_y + u * stride_x
        inside = valid[:, None] & real[None, :]
        pixels = tl.load(base + at[:, None] + c[None, :] * stride_c, mask=inside, other=0.0)
        pixels = tl.where(inside, pixels - zero[None, :], 0.0)
        # Minus the squared distances, up to a constant for each pixel.
        score = tl.dot(pixels, twice, input_precision="ieee") + bias[None, :]
        if last:
            best = tl.argmax(score, 1)
            label = (i + best // 3 - 1) * columns + j + best % 3 - 1
            tl.store(labels + (b.to(tl.int64) * height + y) * width + u, label, mask=valid)
        else:
            if hard:
                q = (k[None, :] == tl.argmax(score, 1)[:, None]).to(tl.float32)
            else:
                q = tl.exp(score - tl.max(score, 1)[:, None])
                q = q / tl.sum(q, 1)[:, None]
            q = tl.where(valid[:, None], q, 0.0)
            total += tl.sum(q, 0)
            weighted += tl.dot(tl.trans(q), pixels, input_precision="ieee")
    if not last:
        weighted += total[:, None] * zero[None, :]
        out = sums + ((tile.to(tl.int64) * parts + part) * 9 + k) * (channels + 1)
        tl.store(out[:, None] + c[None, :], weighted, mask=(k < 9)[:, None] & real[None, :])
        tl.store(out + channels, total, mask=k < 9)


@_kernel
def _update(sums, means, rows, columns, parts, channels: tl.constexpr, padded: tl.constexpr, epsilon: tl.constexpr):
    """Add sums (B * cells, parts, 9, C + 1) up into means (B * cells, C); one that nobody chose stays."""
    tile = tl.program_id(0)
    cells = rows * columns
    cell = tile % cells
    i, j = cell // columns, cell % columns
    c = tl.arange(0, padded)
    total = tl.zeros([padded], tl.float32)
    for k in range(9):
        near_i, near_j = i + k // 3 - 1, j + k % 3 - 1
        if (near_i >= 0) & (near_i < rows) & (near_j >= 0) & (near_j < columns):
            # This cell is neighbour 8 - k of its neighbour k.
            first = (tile - cell + near_i * columns + near_j).to(tl.int64) * parts
            for part in range(parts):
                row = sums + ((first + part) * 9 + 8 - k) * (channels + 1)
                total += tl.load(row + c, mask=c <= channels, other=0.0)
    weight = tl.sum(tl.where(c == channels, total, 0.0))
    if weight > 0:
        tl.store(means + tile * channels + c, total / (weight + epsilon), mask=c < channels)


@_kernel
def _best(q, labels, stride_b, stride_c, stride_y, stride_x, rows, columns, height, width, blocks, block: tl.constexpr):
    """Find the best of q (B, 9 or more, H, W), labels (B, H, W): the first of equals, never a cell off the grid."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    p = tl.program_id(0) % blocks * block + tl.arange(0, block)
    valid = p < height * width
    y, x = p // width, p % width
    i, j = y * rows // height, x * columns // width
    base = q + b * stride_b + y.to(tl.int64) * stride_y + x * stride_x
    best = tl.full([block], float("-inf"), tl.float32)
    label = tl.full([block], -1, tl.int32)
    for k in tl.static_range(9):
        near_i, near_j = i + (k // 3 - 1), j + (k % 3 - 1)
        exists = valid & (near_i >= 0) & (near_i < rows) & (near_j >= 0) & (near_j < columns)
        score = tl.load(base + k * stride_c, mask=exists, other=float("-inf")).to(tl.float32)
        better = exists & ((label < 0) | (score > best))
        best = tl.where(better, score, best)
        label = tl.where(better, near_i * columns + near_j, label)
    tl.store(labels + b * height * width + p, label.to(tl.int64), mask=valid)
