"""Soft association of each pixel with the 3 x 3 grid cells around its own, as SSN, FCN and their losses share it.

Arrays: features (B, C, H, W) float32; q (B, 9, H, W), the weights of a pixel for the nine cells, row by row from the
upper left to the lower right; values of superpixels (B, C, rows, columns). Nothing of size pixels x superpixels exists.

Every function is differentiable and runs on any device. On the CPU, float32 takes compiled kernels with written-out
gradients; on CUDA, labels take Triton's (`fused`); all else takes plain torch, which the tests hold equal.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from spx_cli.device import lacks_memory
from spx_cli.errors import ParameterError
from spx_cli.methods._association import compiled, plain
from spx_cli.methods._association.grid import EPSILON, Grid, neighbours

_log = logging.getLogger(__name__)

__all__ = [
    "EPSILON",
    "Grid",
    "SoftSuperpixels",
    "cluster",
    "cluster_labels",
    "dots",
    "hard_labels",
    "initial_centres",
    "label_agreement",
    "labels_below",
    "nearest",
    "nearest_labels",
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
    with _exact(features):
        return plain.cluster(features, centres, grid, iterations)


def cluster_labels(features: Tensor, grid: Grid, iterations: int) -> Tensor:
    """Return the hard labels (B, H, W), int32, of `cluster`, with less work and memory; not differentiable."""
    if _compiled(features):
        return compiled.cluster_labels(features, initial_centres(features, grid), grid, iterations)
    if features.dtype == torch.float32 and (fused := fused_kernels(features.device)):
        labels: Tensor = fused.cluster_labels(features, grid, iterations)
        return labels
    return hard_labels(cluster(features, grid, iterations)[0], grid).int()


def nearest_labels(features: Tensor, grid: Grid, iterations: int) -> Tensor:
    """Return the labels (B, H, W), int32, of k-means in which a pixel knows the nine centres around its cell alone.

    iterations : times that pixels choose. A centre that nobody chose stays. Not differentiable.
    """
    if features.dtype == torch.float32 and (fused := fused_kernels(features.device)):
        labels: Tensor = fused.cluster_labels(features, grid, iterations, hard=True)
        return labels
    return plain.nearest_labels(features, initial_centres(features, grid), grid, iterations).int()


def nearest(features: Tensor, centres: Tensor, grid: Grid) -> Tensor:
    """Return the nearest of the nine centres (B, C, rows, columns) around each pixel, (B, H, W) int32."""
    if _compiled(features):
        return compiled.cluster_labels(features, centres, grid, 1)
    return plain.hard_labels(plain.cluster(features, centres, grid, 1)[0], grid).int()


def pool(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    """Return the weighted means of the pixel property x (B, D, H, W) in each superpixel, (B, D, rows, columns)."""
    ones = torch.ones_like(x[:, :1])
    total = scatter(q, torch.cat([x, ones], 1), grid)
    return total[:, :-1] / (total[:, -1:] + EPSILON)


def scatter(q: Tensor, x: Tensor, grid: Grid) -> Tensor:
    """Return the sums of q times x (B, D, H, W) in each superpixel, (B, D, rows, columns)."""
    _check(x, (len(q), grid.height, grid.width), "a property of pixels")
    _check_weights(q, grid)
    if _compiled(q) and _compiled(x):
        return compiled.Scatter.apply(q, x, grid)  # type: ignore[no-any-return]
    with _exact(q):
        return plain.scatter(q, x, grid)


def unpool(q: Tensor, values: Tensor, grid: Grid) -> Tensor:
    """Return for each pixel the values (B, D, rows, columns) of its nine superpixels weighted by q, (B, D, H, W)."""
    _check(values, (len(q), grid.rows, grid.columns), "values of superpixels")
    _check_weights(q, grid)
    if _compiled(q) and _compiled(values):
        return compiled.Unpool.apply(q, values, grid)  # type: ignore[no-any-return]
    with _exact(q):
        return plain.unpool(q, values, grid)


def dots(x: Tensor, values: Tensor, grid: Grid) -> Tensor:
    """Return the inner products of each pixel's x (B, D, H, W) with the values (B, D, rows, columns) of its nine cells.

    (B, 9, H, W); 0 for cells outside the grid.
    """
    _check(x, (len(x), grid.height, grid.width), "a property of pixels")
    _check(values, (len(x), grid.rows, grid.columns), "values of superpixels")
    if _compiled(x) and _compiled(values):
        return compiled.Dots.apply(x, values, grid)  # type: ignore[no-any-return]
    with _exact(x):
        return plain.dots(x, values, grid)


def label_agreement(q: Tensor, truth: Tensor, grid: Grid) -> Tensor:
    """Return for each pixel the weight of its own true label after pooling and unpooling, (B, H, W) in 0..1.

    truth : (B, H, W) int64, negative = unlabelled; such pixels count for nothing and come back as 1.
    Equal to one-hot channels pooled and unpooled (Jampani equation 5), of which only the pixel's own is looked at.
    """
    _check_weights(q, grid)
    if q.shape != (len(truth), 9, *truth.shape[1:]):
        raise ParameterError(f"truth must be (B, H, W) as q (B, 9, H, W) is, not {tuple(truth.shape)}")
    count, truth = _consecutive(truth)
    if _compiled(q):
        return compiled.Agreement.apply(q, truth, grid, count)  # type: ignore[no-any-return]
    with _exact(q):
        return plain.agreement(q, truth, grid, count)


def grid_loss(q: Tensor, truth: Tensor, grid: Grid, compactness: float) -> Tensor:
    """Return how badly pooled labels and positions give themselves back, mean over pixels (Yang equation 5, SLIC-like).

    q : (B, 9, H, W), in float32. truth : (B, H, W), negative = unlabelled. compactness : m, of distances in cells.
    """
    agreement = label_agreement(q, truth, grid)
    y, x = torch.arange(grid.height, device=q.device), torch.arange(grid.width, device=q.device)
    position = torch.stack(torch.meshgrid(y, x, indexing="ij")).to(q.dtype).expand(len(q), -1, -1, -1)
    rebuilt = unpool(q, pool(q, position, grid), grid)
    far: Tensor = torch.linalg.vector_norm(rebuilt - position, dim=1).mean()
    return compactness * grid.rows / grid.height * far - (agreement + 1e-8).log().mean()


_known_bound: ContextVar[int] = ContextVar("labels_below", default=0)


@contextmanager
def labels_below(count: int) -> Iterator[None]:
    """Promise that labels passed to `label_agreement` are below `count`; else it waits for the device to look."""
    token = _known_bound.set(count)
    try:
        yield
    finally:
        _known_bound.reset(token)


def hard_labels(q: Tensor, grid: Grid) -> Tensor:
    """Return the id of the superpixel with the largest weight or score, (B, H, W) int64; the first of equals.

    q : (B, 9, H, W); on CUDA the first nine of more channels.
    """
    _check_weights(q[:, :9], grid)
    if _compiled(q):
        return compiled.hard_labels(q, grid)
    if q.dtype == torch.float32 and (fused := fused_kernels(q.device)):
        labels: Tensor = fused.hard_labels(q.detach(), grid)
        return labels
    return plain.hard_labels(q, grid)


@cache
def fused_kernels(device: torch.device) -> ModuleType | None:
    """Return the Triton kernels where they work; elsewhere plain torch gives the same labels, more slowly."""
    if device.type != "cuda":
        return None
    try:
        from spx_cli.methods._association import fused

        grid = Grid(4, 4, 1, 1)
        fused.hard_labels(torch.zeros(1, 9, 4, 4, device=device), grid).cpu()
        fused.cluster_labels(torch.zeros(1, 5, 4, 4, device=device), grid, 2).cpu()
    except Exception as error:  # no Triton, no C compiler for its launcher, an old card
        if isinstance(error, RuntimeError) and lacks_memory(error):
            raise
        _log.warning("Triton does not work here, superpixels take plain PyTorch: %s", error)
        return None
    return fused


@dataclass(frozen=True)
class SoftSuperpixels:
    """Weights q (B, 9, H, W) that tie pixels to superpixels, through which gradients flow both ways."""

    q: Tensor
    grid: Grid

    @property
    def ids(self) -> Tensor:
        """The superpixel each weight refers to, (9, H, W) int64; -1 where there is none, and the weight counts not."""
        table = plain.tables(self.grid, self.q.device)
        return table.near.where(table.exists, -1)[table.cell].permute(2, 0, 1)

    def pool(self, x: Tensor) -> Tensor:
        """Return the weighted means of a pixel property (B, D, H, W) in each superpixel, (B, D, rows, columns)."""
        return pool(self.q, x, self.grid)

    def unpool(self, values: Tensor) -> Tensor:
        """Return values of superpixels (B, D, rows, columns) at the pixels, (B, D, H, W), weighted by q."""
        return unpool(self.q, values, self.grid)

    def labels(self) -> Tensor:
        """Return the superpixel of the largest weight, (B, H, W) int64; not differentiable."""
        return hard_labels(self.q, self.grid)


def _check(x: Tensor, wanted: tuple[int, int, int], what: str) -> None:
    """Raise ParameterError unless x is (B, D, ., .) of the wanted batch and sides: kernels read what they are told."""
    if x.ndim != 4 or (len(x), *x.shape[2:]) != wanted:
        batch, height, width = wanted
        raise ParameterError(f"{what} must be ({batch}, D, {height}, {width}), not {tuple(x.shape)}")


def _check_weights(q: Tensor, grid: Grid) -> None:
    if q.shape[1:] != (9, grid.height, grid.width):
        raise ParameterError(f"q must be (B, 9, {grid.height}, {grid.width}), as the grid is, not {tuple(q.shape)}")


def _compiled(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def _exact(x: Tensor) -> torch.autocast:
    """Distances and shares lose their meaning in bfloat16: no autocast for them, as on the CPU."""
    return torch.autocast(x.device.type, enabled=False)


def _consecutive(truth: Tensor) -> tuple[int, Tensor]:
    """Return a bound on the labels and the labels; large ids (instances of Cityscapes) are made small first."""
    count = _known_bound.get() or int(truth.max()) + 1
    if count > 1024:
        known, small = torch.unique(truth, return_inverse=True)
        below = int((known < 0).sum())
        return len(known) - below, small - below
    return max(count, 1), truth
