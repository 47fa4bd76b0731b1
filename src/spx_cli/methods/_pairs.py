"""A loss on pairs of neighbouring regions: how many pixels would be lost if the two were one.

Merging asks a network nothing else. Against one annotation, a pair with n1 and n2 pixels loses what the largest
overlaps of both add up to beyond the largest overlap of their union; divided by min(n1, n2) that is a share, 0 to 1. A
small perceptron predicts it from what the graph of regions knows of the pair, and its gradient reaches the contours and
the embedding that it reads. The weights that merging itself uses are fitted later, on regions as they merge.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spx_cli.methods._association import Grid

_REACH = 3  # pixels side by side choose among cells at most this many rows or columns apart
_WIDTH = 2 * _REACH + 1
_CODES = (_REACH + 1) * _WIDTH


class PairLoss(nn.Module):
    """Predicts the share that a merge of two regions would lose; called, it returns the loss of its predictions.

    inputs : what is known of a pair: sizes, borders, contours, colour, distance, and the distance of the embeddings.
    """

    def __init__(self, scales: int, hidden: int = 32) -> None:
        super().__init__()
        self.scales = scales
        inputs = 12 + scales
        self.norm = nn.BatchNorm1d(inputs)
        self.predict = nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, 1))

    def forward(
        self, labels: Tensor, grid: Grid, contours: Tensor, embedding: Tensor, lab: Tensor, truth: Tensor, area: float
    ) -> Tensor:
        """Return the mean cross entropy over pairs of neighbours, weighted by the pixels that are at stake.

        labels : int64 (B, H, W), each pixel's cell among the nine of `grid` around its own. contours : (B, S, H, W) in
        0..1. embedding : (B, D, H, W). lab : (B, 3, H, W). truth : int64 (B, H, W), negative = unlabelled.
        area : pixels of a region that is as large as those wanted in the end.
        """
        regions, edges = _regions(labels, grid, contours, embedding, lab), _edges(labels, grid, contours)
        if len(edges.a) < 2:  # a batch of one cannot be normalised
            return 0 * embedding.sum()
        x, smaller = _inputs(regions, edges, area, self.scales)
        share, known = _share_lost(labels, grid, edges.a, edges.b, truth)
        weight = known * smaller.clamp(max=area) / area
        score = self.predict(self.norm(x))[:, 0]
        terms = functional.binary_cross_entropy_with_logits(score, share, reduction="none")
        # The mean over pairs of area and more: the loss does not shrink where regions are small.
        return (terms * weight).sum() / weight.sum().clamp(min=1)


class _Regions(NamedTuple):
    """What is known of the N regions of a batch, numbered through: pixels (N,), and means (N, C) of pixel values."""

    size: Tensor
    lab: Tensor
    square: Tensor  # of the length of Lab
    place: Tensor
    contour: Tensor
    embedding: Tensor


def _flat(labels: Tensor, grid: Grid) -> Tensor:
    return labels + grid.cells * torch.arange(len(labels), device=labels.device)[:, None, None]


def _regions(labels: Tensor, grid: Grid, contours: Tensor, embedding: Tensor, lab: Tensor) -> _Regions:
    region = _flat(labels, grid).flatten()
    batch, _, height, width = lab.shape
    y = torch.arange(height, device=lab.device, dtype=lab.dtype)[:, None].expand(batch, 1, height, width)
    x = torch.arange(width, device=lab.device, dtype=lab.dtype).expand(batch, 1, height, width)
    square = lab.square().sum(1, keepdim=True)
    values = torch.cat([lab, square, y, x, contours[:, :1], embedding], 1)
    rows = values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])
    count = batch * grid.cells
    size = torch.bincount(region, minlength=count).to(lab.dtype)
    total = rows.new_zeros(count, rows.shape[1]).index_add(0, region, rows)
    mean = total / size.clamp(min=1)[:, None]
    return _Regions(size, *mean.split([3, 1, 2, 1, embedding.shape[1]], 1))


class _Edges(NamedTuple):
    """Pairs of neighbouring regions: a and b (E,), border (E,) in pixel sides, contour (E, S), its mean along it."""

    a: Tensor
    b: Tensor
    border: Tensor
    contour: Tensor


def _edges(labels: Tensor, grid: Grid, contours: Tensor) -> _Edges:
    # A pair is a cell and the offset to the other one, so a table finds all pairs without sorting.
    count = len(labels) * grid.cells * _CODES
    border = contours.new_zeros(count)
    strength = contours.new_zeros(count, contours.shape[1])
    batch = grid.cells * torch.arange(len(labels), device=labels.device)[:, None, None]
    for axis in (1, 2):
        steps = labels.shape[axis] - 1
        one, other = labels.narrow(axis, 0, steps), labels.narrow(axis, 1, steps)
        low, high = torch.minimum(one, other), torch.maximum(one, other)
        rows = high // grid.columns - low // grid.columns
        columns = high % grid.columns - low % grid.columns
        code = rows * _WIDTH + columns + _REACH
        differ = (low != high) & (rows <= _REACH) & (columns.abs() <= _REACH)
        key = ((low + batch) * _CODES + code)[differ]
        along = torch.maximum(contours.narrow(axis + 1, 0, steps), contours.narrow(axis + 1, 1, steps))
        border = border.index_add(0, key, border.new_ones(len(key)))
        strength = strength.index_add(0, key, along.permute(0, 2, 3, 1)[differ])
    key = border.nonzero()[:, 0]
    a, code = key // _CODES, key % _CODES
    b = a + code // _WIDTH * grid.columns + code % _WIDTH - _REACH
    return _Edges(a, b, border[key], strength[key] / border[key, None])


def _inputs(regions: _Regions, edges: _Edges, area: float, scales: int) -> tuple[Tensor, Tensor]:
    """Return what is known of each pair, (E, inputs), and the pixels of the smaller region, (E,)."""
    n = regions.size
    swap = n[edges.a] > n[edges.b]
    small, large = torch.where(swap, edges.b, edges.a), torch.where(swap, edges.a, edges.b)
    variance = (regions.square[:, 0] - regions.lab.square().sum(1)).clamp(min=0)
    lab = (regions.lab[small] - regions.lab[large]).square()
    place = (regions.place[small] - regions.place[large]).square().sum(1)
    apart = (regions.embedding[small] - regions.embedding[large]).square().sum(1)
    columns = [
        (n[small] / area).log(),
        (n[large] / area).log(),
        (edges.border / n[small].sqrt()).log(),
        (edges.border / n[large].sqrt()).log(),
        *(edges.contour[:, s].clamp(min=0).add(1e-3).log() for s in range(scales)),
        lab[:, 0].add(1).log(),
        lab[:, 1:].sum(1).add(1).log(),
        variance[small].add(1).log(),
        variance[large].add(1).log(),
        (place / area).add(1e-2).log(),
        regions.contour[small, 0].clamp(min=0).add(1e-3).log(),
        regions.contour[large, 0].clamp(min=0).add(1e-3).log(),
        apart.add(1e-2).log(),
    ]
    return torch.stack(columns, 1), n[small]


def _share_lost(labels: Tensor, grid: Grid, a: Tensor, b: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of the smaller region that merging a and b loses, (E,), and 1 where it is known, else 0."""
    known = truth >= 0
    count = int(truth.max()) + 1
    if count < 1:
        return a.new_zeros(len(a), dtype=torch.float32), a.new_zeros(len(a), dtype=torch.float32)
    entry = _flat(labels, grid)[known] * count + truth[known]
    overlap = torch.bincount(entry, minlength=len(labels) * grid.cells * count).view(-1, count).float()
    size, most = overlap.sum(1), overlap.max(1).values
    union = (overlap[a] + overlap[b]).max(1).values
    smaller = torch.minimum(size[a], size[b])
    share = (most[a] + most[b] - union) / smaller.clamp(min=1)
    return share.clamp(0, 1), (smaller > 0).float()
