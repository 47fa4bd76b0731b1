"""Soft and hard association on CUDA, in Triton: one pass over the pixels for each round of clustering.

A program is one warp on a part of one cell, whose pixels all choose among the same nine centres. Scores, weights and
sums stay in its registers: no shared memory, no barrier, and nothing of size B x 9 x H x W. The sums of the parts are
added up in a fixed order, so the same input gives the same bytes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from spx_cli.methods._association.grid import EPSILON, Grid

_PART = 128  # pixels of a cell that one program takes: four to a thread
_ROWS = 32  # of parts whose sums are added up at a time

# Compiled once, not for each size of image.
_kernel = triton.jit(
    do_not_specialize=["stride_b", "stride_c", "stride_y", "rows", "columns", "height", "width", "parts", "channels"]
)


def cluster_labels(features: Tensor, grid: Grid, iterations: int, *, hard: bool = False) -> Tensor:
    """Return the labels (B, H, W), int32, after `iterations` associations with `iterations` - 1 updates between them.

    features : float32 (B, C, H, W). hard : each pixel counts for its nearest centre alone, as in SLIC.
    """
    features = features.contiguous()  # neighbours in a row beside each other, for whole lines of the cache
    batch, channels, height, width = features.shape
    total, parts = batch * grid.cells, -(-grid.area // _PART)
    origin = features.new_empty(total, channels)
    shape = (*features.stride()[:3], grid.rows, grid.columns, height, width, channels)
    _start[(total * channels,)](features, origin, *shape, _PART, num_warps=1)
    means = origin.clone()
    sums = features.new_empty(total, parts, 9, channels + 1)
    labels = torch.empty(batch, height, width, dtype=torch.int32, device=features.device)
    padded = triton.next_power_of_2(channels + 1)
    for turn in range(iterations):
        last = turn == iterations - 1
        arrays = (features, means, origin, sums, labels)
        _associate[(total * parts,)](*arrays, *shape, parts, _PART, hard, last, num_warps=1)
        if not last:
            _update[(total,)](
                sums, means, grid.rows, grid.columns, channels, parts, padded, _ROWS, EPSILON, num_warps=1
            )
    return labels


def hard_labels(q: Tensor, grid: Grid) -> Tensor:
    """Return the id of the superpixel with the largest of the first nine channels, (B, H, W) int64."""
    batch, _, height, width = q.shape
    labels = torch.empty(batch, height, width, dtype=torch.int64, device=q.device)
    parts = triton.cdiv(height * width, 4 * _PART)
    strides = q.stride()
    _best[(batch * parts,)](q, labels, *strides, grid.rows, grid.columns, height, width, parts, 4 * _PART)
    return labels


@triton.jit
def _first(i, cells, pixels):
    # The first row, or column, of the cells i: pixel y lies in cell y * cells // pixels.
    return (i * pixels + cells - 1) // cells


@triton.jit
def _exists(i, j, k: tl.constexpr, rows, columns):
    near_i, near_j = i + (k // 3 - 1), j + (k % 3 - 1)
    return (near_i >= 0) & (near_i < rows) & (near_j >= 0) & (near_j < columns)


@triton.jit
def _mean(means, tile, exists, k: tl.constexpr, columns, channels):
    # Where there is no neighbour, the cell's own mean is read, and not used.
    return means + tl.where(exists, tile + (k // 3 - 1) * columns + (k % 3 - 1), tile) * channels


@_kernel
def _start(x, origin, stride_b, stride_c, stride_y, rows, columns, height, width, channels, block: tl.constexpr):
    """Average x (B, C, H, W) over cells, origin (B * cells, C); they overlap as in adaptive pooling."""
    tile, c = tl.program_id(0) // channels, tl.program_id(0) % channels
    b, cell = tile // (rows * columns), tile % (rows * columns)
    i, j = cell // columns, cell % columns
    top, left = i * height // rows, j * width // columns
    across = _first(j + 1, columns, width) - left
    area = (_first(i + 1, rows, height) - top) * across
    base = x + b.to(tl.int64) * stride_b + c.to(tl.int64) * stride_c + left
    total = tl.zeros([block], tl.float32)
    for start in range(0, area, block):
        p = start + tl.arange(0, block)
        at = (top + p // across).to(tl.int64) * stride_y + p % across
        total += tl.load(base + at, mask=p < area, other=0.0)
    tl.store(origin + tl.program_id(0), tl.sum(total) / area)


@_kernel
def _associate(
    x, means, origin, sums, labels, stride_b, stride_c, stride_y, rows, columns, height, width, channels, parts,
    block: tl.constexpr, hard: tl.constexpr, last: tl.constexpr,
):  # fmt: skip
    """Associate x (B, C, H, W) with means (B * cells, C).

    Writes sums (B * cells, parts, 9, C + 1) of q times (features, 1), or with `last` only labels (B, H, W).
    """
    tile, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    b, cell = tile // (rows * columns), tile % (rows * columns)
    i, j = cell // columns, cell % columns
    top, left = _first(i, rows, height), _first(j, columns, width)
    across = _first(j + 1, columns, width) - left
    area = (_first(i + 1, rows, height) - top) * across
    p = part * block + tl.arange(0, block)
    valid = p < area
    y, u = top + p // across, left + p % across
    pixels = x + b.to(tl.int64) * stride_b + y.to(tl.int64) * stride_y + u

    e0, e1, e2 = _exists(i, j, 0, rows, columns), _exists(i, j, 1, rows, columns), _exists(i, j, 2, rows, columns)
    e3, e4, e5 = _exists(i, j, 3, rows, columns), _exists(i, j, 4, rows, columns), _exists(i, j, 5, rows, columns)
    e6, e7, e8 = _exists(i, j, 6, rows, columns), _exists(i, j, 7, rows, columns), _exists(i, j, 8, rows, columns)
    m0, m1 = _mean(means, tile, e0, 0, columns, channels), _mean(means, tile, e1, 1, columns, channels)
    m2, m3 = _mean(means, tile, e2, 2, columns, channels), _mean(means, tile, e3, 3, columns, channels)
    m4, m5 = _mean(means, tile, e4, 4, columns, channels), _mean(means, tile, e5, 5, columns, channels)
    m6, m7 = _mean(means, tile, e6, 6, columns, channels), _mean(means, tile, e7, 7, columns, channels)
    m8 = _mean(means, tile, e8, 8, columns, channels)

    s0 = tl.zeros([block], tl.float32)  # products of the pixels with each centre
    s1, s2, s3, s4, s5, s6, s7, s8 = s0, s0, s0, s0, s0, s0, s0, s0
    z0 = 0.0  # squares of the centres
    z1, z2, z3, z4, z5, z6, z7, z8 = z0, z0, z0, z0, z0, z0, z0, z0
    at = pixels
    for c in range(channels):
        # Distances are taken from the cell's own first centre: far from it float32 squares would lose the differences.
        zero = tl.load(origin + tile * channels + c)
        v = tl.load(at, mask=valid, other=0.0) - zero
        at += stride_c
        n0, n1, n2 = tl.load(m0 + c) - zero, tl.load(m1 + c) - zero, tl.load(m2 + c) - zero
        n3, n4, n5 = tl.load(m3 + c) - zero, tl.load(m4 + c) - zero, tl.load(m5 + c) - zero
        n6, n7, n8 = tl.load(m6 + c) - zero, tl.load(m7 + c) - zero, tl.load(m8 + c) - zero
        s0, s1, s2 = s0 + n0 * v, s1 + n1 * v, s2 + n2 * v
        s3, s4, s5 = s3 + n3 * v, s4 + n4 * v, s5 + n5 * v
        s6, s7, s8 = s6 + n6 * v, s7 + n7 * v, s8 + n8 * v
        z0, z1, z2 = z0 + n0 * n0, z1 + n1 * n1, z2 + n2 * n2
        z3, z4, z5 = z3 + n3 * n3, z4 + n4 * n4, z5 + n5 * n5
        z6, z7, z8 = z6 + n6 * n6, z7 + n7 * n7, z8 + n8 * n8
    # Minus the squared distances, up to a constant for each pixel.
    never = float("-inf")
    s0, s1, s2 = tl.where(e0, 2 * s0 - z0, never), tl.where(e1, 2 * s1 - z1, never), tl.where(e2, 2 * s2 - z2, never)
    s3, s4, s5 = tl.where(e3, 2 * s3 - z3, never), tl.where(e4, 2 * s4 - z4, never), tl.where(e5, 2 * s5 - z5, never)
    s6, s7, s8 = tl.where(e6, 2 * s6 - z6, never), tl.where(e7, 2 * s7 - z7, never), tl.where(e8, 2 * s8 - z8, never)
    top01, top23, top45 = tl.maximum(s0, s1), tl.maximum(s2, s3), tl.maximum(s4, s5)
    best = tl.maximum(tl.maximum(tl.maximum(top01, top23), tl.maximum(top45, tl.maximum(s6, s7))), s8)
    if hard or last:
        k = tl.where(s7 == best, 7, 8)
        k = tl.where(s6 == best, 6, k)
        k = tl.where(s5 == best, 5, k)
        k = tl.where(s4 == best, 4, k)
        k = tl.where(s3 == best, 3, k)
        k = tl.where(s2 == best, 2, k)
        k = tl.where(s1 == best, 1, k)
        k = tl.where(s0 == best, 0, k)  # the first of equals
    if last:
        label = (i + k // 3 - 1) * columns + j + k % 3 - 1
        tl.store(labels + (b.to(tl.int64) * height + y) * width + u, label, mask=valid)
    else:
        if hard:
            q0, q1, q2 = (valid & (k == 0)) * 1.0, (valid & (k == 1)) * 1.0, (valid & (k == 2)) * 1.0
            q3, q4, q5 = (valid & (k == 3)) * 1.0, (valid & (k == 4)) * 1.0, (valid & (k == 5)) * 1.0
            q6, q7, q8 = (valid & (k == 6)) * 1.0, (valid & (k == 7)) * 1.0, (valid & (k == 8)) * 1.0
        else:
            q0, q1, q2 = tl.exp(s0 - best), tl.exp(s1 - best), tl.exp(s2 - best)
            q3, q4, q5 = tl.exp(s3 - best), tl.exp(s4 - best), tl.exp(s5 - best)
            q6, q7, q8 = tl.exp(s6 - best), tl.exp(s7 - best), tl.exp(s8 - best)
            share = tl.where(valid, 1 / (q0 + q1 + q2 + q3 + q4 + q5 + q6 + q7 + q8), 0.0)
            q0, q1, q2 = q0 * share, q1 * share, q2 * share
            q3, q4, q5 = q3 * share, q4 * share, q5 * share
            q6, q7, q8 = q6 * share, q7 * share, q8 * share
        w0, w1, w2 = tl.sum(q0), tl.sum(q1), tl.sum(q2)
        w3, w4, w5 = tl.sum(q3), tl.sum(q4), tl.sum(q5)
        w6, w7, w8 = tl.sum(q6), tl.sum(q7), tl.sum(q8)
        length = channels + 1
        out = sums + tl.program_id(0).to(tl.int64) * 9 * length
        at = pixels
        for c in range(channels):
            zero = tl.load(origin + tile * channels + c)
            v = tl.load(at, mask=valid, other=0.0) - zero
            at += stride_c
            tl.store(out + c, tl.sum(q0 * v) + w0 * zero)
            tl.store(out + length + c, tl.sum(q1 * v) + w1 * zero)
            tl.store(out + 2 * length + c, tl.sum(q2 * v) + w2 * zero)
            tl.store(out + 3 * length + c, tl.sum(q3 * v) + w3 * zero)
            tl.store(out + 4 * length + c, tl.sum(q4 * v) + w4 * zero)
            tl.store(out + 5 * length + c, tl.sum(q5 * v) + w5 * zero)
            tl.store(out + 6 * length + c, tl.sum(q6 * v) + w6 * zero)
            tl.store(out + 7 * length + c, tl.sum(q7 * v) + w7 * zero)
            tl.store(out + 8 * length + c, tl.sum(q8 * v) + w8 * zero)
        tl.store(out + channels, w0)
        tl.store(out + length + channels, w1)
        tl.store(out + 2 * length + channels, w2)
        tl.store(out + 3 * length + channels, w3)
        tl.store(out + 4 * length + channels, w4)
        tl.store(out + 5 * length + channels, w5)
        tl.store(out + 6 * length + channels, w6)
        tl.store(out + 7 * length + channels, w7)
        tl.store(out + 8 * length + channels, w8)


@_kernel
def _update(
    sums, means, rows, columns, channels, parts, padded: tl.constexpr, block: tl.constexpr, epsilon: tl.constexpr
):
    """Add sums (B * cells, parts, 9, C + 1) up into means (B * cells, C); one that nobody chose stays."""
    tile = tl.program_id(0)
    cell = tile % (rows * columns)
    i, j = cell // columns, cell % columns
    c = tl.arange(0, padded)
    total = tl.zeros([padded], tl.float32)
    for start in range(0, 9 * parts, block):
        r = start + tl.arange(0, block)
        k, part = r // parts, r % parts
        near_i, near_j = i + k // 3 - 1, j + k % 3 - 1
        exists = (k < 9) & (near_i >= 0) & (near_i < rows) & (near_j >= 0) & (near_j < columns)
        # This cell is neighbour 8 - k of its neighbour k.
        near = (tile - cell + near_i * columns + near_j).to(tl.int64) * parts + part
        at = (near * 9 + 8 - k) * (channels + 1)
        mask = exists[:, None] & (c <= channels)[None, :]
        total += tl.sum(tl.load(sums + at[:, None] + c[None, :], mask=mask, other=0.0), 0)
    weight = tl.sum(tl.where(c == channels, total, 0.0))
    if weight > 0:
        tl.store(means + tile * channels + c, total / (weight + epsilon), mask=c < channels)


@_kernel
def _best(q, labels, stride_b, stride_c, stride_y, stride_x, rows, columns, height, width, parts, block: tl.constexpr):
    """Find the best of q (B, 9 or more, H, W), labels (B, H, W): the first of equals, never a cell off the grid."""
    b = (tl.program_id(0) // parts).to(tl.int64)
    p = tl.program_id(0) % parts * block + tl.arange(0, block)
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
