"""Soft association of each pixel with the 3 x 3 grid cells around its own, as SSN, FCN and their losses share it.

Arrays: features (B, C, H, W) float32; q (B, 9, H, W), the weights of a pixel for the nine cells, row by row from the
upper left to the lower right; values of superpixels (B, C, rows, columns). Nothing of size pixels x superpixels exists.

Every function is differentiable and runs on any device. On the CPU, float32 takes compiled kernels with written-out
gradients; all else takes plain torch, which the tests hold equal.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spx_cli.methods._association import compiled, plain
from spx_cli.methods._association.grid import EPSILON, Grid, neighbours

__all__ = [
    "EPSILON",
    "Grid",
    "SoftSuperpixels",
    "cluster",
    "cluster_labels",
    "hard_labels",
    "initial_centres",
    "label_agreement",
    "neighbours",
    "pool",
    "scatter",
    "unpool",
]


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
        return compiled.Cluster.apply(features, centres, grid, iterations)  # type: ignore[no-any-return]
    return plain.cluster(features, centres, grid, iterations)


def cluster_labels(features: Tensor, grid: Grid, iterations: int) -> Tensor:
    """Return the hard labels (B, H, W), int32, of `cluster`, with less work and memory; not differentiable."""
    if not _compiled(features):
        return hard_labels(cluster(features, grid, iterations)[0], grid).int()
    return compiled.cluster_labels(features, initial_centres(features, grid), grid, iterations)


def pool(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    """Return the weighted means of the pixel property x (B, D, H, W) in each superpixel, (B, D, rows, columns)."""
    ones = torch.ones_like(x[:, :1])
    total = scatter(q, torch.cat([x, ones], 1), grid)
    return total[:, :-1] / (total[:, -1:] + EPSILON)


def scatter(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    """Return the sums of q times x (B, D, H, W) in each superpixel, (B, D, rows, columns)."""
    if _compiled(q) and _compiled(x):
        return compiled.Scatter.apply(q, x, grid)  # type: ignore[no-any-return]
    return plain.scatter(q, x, grid)


def unpool(q: Tensor, values: Tensor, grid: Grid) -> Tensor:
    """Return for each pixel the values (B, D, rows, columns) of its nine superpixels weighted by q, (B, D, H, W)."""
    if _compiled(q) and _compiled(values):
        return compiled.Unpool.apply(q, values, grid)  # type: ignore[no-any-return]
    return plain.unpool(q, values, grid)


def label_agreement(q: Tensor, truth: Tensor, grid: Grid) -> Tensor:
    """Return for each pixel the weight of its own true label after pooling and unpooling, (B, H, W) in 0..1.

    truth : (B, H, W) int64, negative = unlabelled; such pixels count for nothing and come back as 1.
    Equal to one-hot channels pooled and unpooled (Jampani equation 5), of which only the pixel's own is looked at.
    """
    count, truth = _consecutive(truth)
    if _compiled(q):
        return compiled.Agreement.apply(q, truth, grid, count)  # type: ignore[no-any-return]
    return plain.agreement(q, truth, grid, count)


def hard_labels(q: Tensor, grid: Grid) -> Tensor:
    """Return the id of the superpixel with the largest weight or score, (B, H, W) int64; the first of equals."""
    return compiled.hard_labels(q, grid) if _compiled(q) else plain.hard_labels(q, grid)


@dataclass(frozen=True)
class SoftSuperpixels:
    """Weights q (B, 9, H, W) that tie pixels to superpixels, through which gradients flow both ways."""

    q: Tensor
    grid: Grid

    @property
    def ids(self) -> Tensor:
        """The superpixel each weight refers to, (9, H, W) int64; -1 where there is none, and the weight counts not."""
        table, index = plain.tables(self.grid, self.q.device)
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
