"""LNS-Net (Zhu et al., CVPR 2021, arXiv:2103.10681): lifelong learning of superpixels, image by image, without labels.

Where the paper and its authors' code differ, a comment says which is followed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from spx_cli.errors import ParameterError
from spx_cli.methods import _association as association
from spx_cli.methods._association import Grid
from spx_cli.methods._gradient import canny, sobel
from spx_cli.methods._grid import grid_shape
from spx_cli.methods._instance import Norm, moments, pad
from spx_cli.methods._merging import WARD
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._tensors import stack, tensor_to_lab
from spx_cli.methods._torch import TorchMethod
from spx_cli.methods._unlabelled import FLAT, unlabelled
from spx_cli.params import param
from spx_cli.types import Assignment, Contours, Image

COLORS, INPUTS = 3, 5  # L, a, b; with row and column
PRIORS: dict[str, Callable[[Image], Contours]] = {
    "sobel": sobel,
    "canny": canny,
    "none": lambda image: np.zeros(image.shape[:2], np.float32),
}


@dataclass(frozen=True, kw_only=True)
class LNSNet(TorchMethod):
    """Pixels join the most similar of the nine seeds around them, in features that were learned from images alone."""

    name = "lnsnet"
    paper = "arXiv:2103.10681"
    label_free = True
    oversegmentation = 6.0
    by_contours = True
    recipes = {  # noqa: RUF012
        "paper": Recipe(steps=0, batch_size=1, lr=3e-4, validate_every=0),
        "short": Recipe(steps=0, batch_size=1, lr=3e-4, validate_every=0, crop=161, flips="h"),
    }

    merge: str = param(WARD, "cost of a merge: ward has seen no label; loss has, in the weights of its cost")
    weights: str = param("lnsnet", "bundled weights by name, or the path of a .safetensors file")
    seeds: str = param(
        "network", "where seeds lie: moved by the network, or amid their cells", choices=("network", "grid")
    )
    edges: bool = param(True, "merge along edges of colour")
    authors: bool = param(False, "cells, seeds and the choice among all seeds as in the authors' code, for parity")
    train_cell: int = param(25, "side of the cells of seeds in training, pixels", ge=2, le=1000)
    reconstruction: float = param(10.0, "beta: weight of the reconstruction loss", ge=0, le=1e6)
    position: float = param(1.0, "phi: weight of positions in the reconstruction loss", ge=0, le=1e6)
    rescale: bool = param(True, "rescale gradients by the memory of channels and by contours (the paper's GRM)")
    memory: float = param(0.5, "lambda: share of the present in the memory at each step", ge=1e-6, le=1)
    prior: str = param("sobel", "contours that rescale gradients", choices=tuple(PRIORS))
    threshold: float = param(0.7, "epsilon: stronger contours turn the gradient of positions round", ge=0, le=1)
    feature_steps: int = param(40, "steps on an image that train the features", ge=1, le=100_000)
    seed_steps: int = param(10, "further steps on it that train the seeds", ge=0, le=100_000)

    def build(self) -> "LifelongNet":
        """Return the network from standardised (L, a, b, y, x), (B, 5, H, W), to features (B, 20, H, W)."""
        return LifelongNet()

    @property
    def steps_per_batch(self) -> int:
        """How long one image is learned before the next one comes; seeds amid their cells have nothing to learn."""
        return self.feature_steps + (self.seed_steps if self.seeds == "network" else 0)

    def before_step(self, network: nn.Module, step: int) -> None:
        """Let the features or the seeds learn, whichever is due; the other's weights rest."""
        parts = cast(LifelongNet, network)
        seeds = step % self.steps_per_batch >= self.feature_steps
        parts.embedder.requires_grad_(not seeds)
        parts.grm.requires_grad_(not seeds)
        parts.seeds.requires_grad_(seeds)

    def teacher(self) -> Callable[[Image, np.random.Generator], Contours]:
        """Return what finds the contours of an image, float32 (H, W); annotations are never looked at."""
        prior = PRIORS[self.prior]
        return lambda image, rng: prior(image)

    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        """Return the range-limited cluster loss plus `reconstruction` times the reconstruction loss (equation 13).

        truth : float (B, H, W), strength of contours, 0 to 1; None for none.
        """
        if truth is not None and not truth.is_floating_point():
            raise ParameterError("lnsnet learns from images alone, not from label maps")
        net = cast(LifelongNet, network)
        if turned(images):
            images, truth = images.transpose(2, 3), None if truth is None else truth.transpose(1, 2)
        x = standardise(images)
        grid = seed_grid(x, max(1, round(x.shape[2] * x.shape[3] / self.train_cell**2)))
        learning = net.grm.recons.weight.requires_grad
        with torch.set_grad_enabled(learning):
            features = net.embedder(x)
        rescaled = net.grm.by_channel(features, self.memory) if learning and self.rescale else features
        shifts = net.seeds(features.detach(), grid) if self.seeds == "network" else None
        loss = cluster_loss(rescaled, seed_features(rescaled, grid, shifts), grid)
        if not learning:
            return loss
        rebuilt = net.grm.recons(features)
        color, place = rebuilt[:, :COLORS], rebuilt[:, COLORS:]
        if truth is not None and self.rescale:
            place = _Rescale.apply(place, reversal(truth, place - x[:, COLORS:], self.threshold)[:, None])
        return loss + self.reconstruction * (
            functional.mse_loss(color, x[:, :COLORS]) + self.position * functional.mse_loss(place, x[:, COLORS:])
        )

    def assign_batch(self, images: Sequence[Image], n_segments: int) -> list[Assignment]:
        """Return the most similar seed of each pixel, and what regions merge by."""
        network = cast(LifelongNet, self.network)
        where = next(network.parameters()).device
        with torch.inference_mode():
            pixels = stack(images, where)
            swap = turned(pixels)
            x = standardise(pixels.transpose(2, 3) if swap else pixels)
            features = network.embedder(x.to(self.dtype)).float()
            if self.authors:
                labels = authors_labels(network, features, n_segments, self.seeds)
            else:
                grid = seed_grid(x, n_segments)
                shifts = network.seeds(features.to(self.dtype), grid).float() if self.seeds == "network" else None
                labels = association.nearest(features, seed_features(features, grid, shifts), grid)
            maps = (labels.transpose(1, 2) if swap else labels).contiguous().cpu().numpy()
        return [unlabelled(labels, image, edges=self.edges) for labels, image in zip(maps, images, strict=True)]

    @staticmethod
    def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the authors' state dict under our names; the memory, which they never kept, starts at one."""
        names = {"generater.c3_seeds_1": "seeds.conv", "generater.c3_inorm_1": "seeds.norm"}
        names["generater.c3_seeds_2"] = "seeds.head"
        ours = {}
        for name, value in state.items():
            stem, _, leaf = name.rpartition(".")
            ours[f"{names.get(stem, stem)}.{leaf}"] = value
        if "grm.recons.weight" in ours:
            ours.setdefault("grm.memory", torch.ones(ours["grm.recons.weight"].shape[1]))
        return ours


def turned(x: Tensor) -> bool:
    """Whether images (B, C, H, W) stand upright; the network sees them lying, as the authors' does."""
    return x.shape[2] > x.shape[3]


def standardise(images: Tensor) -> Tensor:
    """Return (L, a, b, y, x) of uint8 RGB (B, 3, H, W), each with mean 0 and deviation 1, as float32 (B, 5, H, W)."""
    batch, _, height, width = images.shape
    x = torch.empty(batch, INPUTS, height, width, dtype=torch.float32, device=images.device)
    # In float64: where an image is grey, standardising would enlarge the rounding of a and b.
    x[:, :COLORS] = tensor_to_lab(images, torch.float64)
    x[:, COLORS] = torch.arange(height, device=x.device)[:, None]
    x[:, COLORS + 1] = torch.arange(width, device=x.device)
    mean, variance = moments(x)
    unbiased = variance * (height * width / max(height * width - 1, 1))
    return (x - mean) / unbiased.sqrt().clamp(min=FLAT)


def seed_grid(x: Tensor, n_segments: int) -> Grid:
    """Return the grid of square cells over images (B, C, H, W) that is nearest to n_segments."""
    size = x.shape[2], x.shape[3]
    return Grid(*size, *grid_shape(size, n_segments))


def seed_features(features: Tensor, grid: Grid, shifts: Tensor | None) -> Tensor:
    """Return the features where the seeds lie, (B, C, rows, columns), interpolated so that the shifts get a gradient.

    shifts : (B, 2, rows, columns), from the middles of the cells, as (y, x) in cells; None for none.
    """
    y = (torch.arange(grid.rows, dtype=features.dtype, device=features.device) + 0.5)[:, None].expand(
        grid.rows, grid.columns
    )
    x = (torch.arange(grid.columns, dtype=features.dtype, device=features.device) + 0.5).expand(grid.rows, grid.columns)
    place = torch.stack([x, y]).expand(len(features), -1, -1, -1)
    if shifts is not None:
        place = place + shifts.flip(1)
    extent = torch.tensor([grid.columns, grid.rows], dtype=features.dtype, device=features.device)
    where = 2 * place.permute(0, 2, 3, 1) / extent - 1
    return functional.grid_sample(features, where, padding_mode="border", align_corners=False)


def cluster_loss(features: Tensor, seeds: Tensor, grid: Grid) -> Tensor:
    """Return the mean divergence of the soft assignment from its own sharpened form (equations 6, 14 and 16).

    features (B, C, H, W), seeds (B, C, rows, columns). Only the nine seeds around a pixel exist for it, so nothing can
    go to others and the regulariser of equation 17, which forbids that, has nothing to do.
    """
    ones, cells = torch.ones_like(features[:, :1]), torch.ones_like(seeds[:, :1])
    inside = association.dots(ones, cells, grid)  # 0 for the cells off the grid
    beside = association.dots(
        torch.cat([features, ones], 1), torch.cat([-2 * seeds, seeds.square().sum(1, keepdim=True)], 1), grid
    )
    p = (1 + (features.square().sum(1, keepdim=True) + beside).clamp(min=0)).rsqrt() * inside
    p = p / p.sum(1, keepdim=True)
    with torch.no_grad():  # the target is no function to learn, as in the paper's source (Xie et al., ICML 2016)
        sizes = association.dots(ones, association.scatter(p, ones, grid), grid)
        q = p.square() / (sizes + 1 - inside)
        q = q / q.sum(1, keepdim=True)
    tiny = 1e-12  # off the grid both are zero
    return (q * ((q + tiny).log() - (p + tiny).log())).sum(1).mean()


def reversal(contours: Tensor, error: Tensor, threshold: float) -> Tensor:
    """Return what the gradient of the positions is multiplied by at each pixel, (B, H, W) (equation 12).

    contours (B, H, W), error (B, 2, H, W) of the rebuilt positions. Where it is worse than that of any blind guess the
    gradient is left as it is: the paper's rule drives the error on for ever, and did so on crops full of texture.
    """
    blind = error.detach().square().mean(1) > 3  # the square of the largest standardised position
    return torch.where((contours > threshold) & ~blind, -contours, 1.0)


def authors_seeds(
    network: "LifelongNet", features: Tensor, n_segments: int, kind: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the seeds of features (1, C, H, W) as the authors' code finds them, with its faults.

    The aspect of the image enters twice, so cells are not square. Centres pass through one number, row * width +
    column, so that half a row becomes half a width of columns.
    """
    height, width = features.shape[2:]
    area = height * width / n_segments
    cell_y = floor(sqrt(area) / (width / height))
    if cell_y < 1:
        raise ParameterError(f"authors=true knows no grid of {n_segments} cells for {width}x{height} pixels")
    cell_x = floor(area / cell_y)
    rows, columns = ceil(height / cell_y), ceil(width / cell_x)
    y, x = (
        (np.arange(n) * cell + np.minimum((np.arange(n) + 1) * cell, size) - 1) / 2
        for n, cell, size in ((rows, cell_y, height), (columns, cell_x, width))
    )
    y, x = np.divmod((y[:, None] * width + x).astype(np.int64), width)
    if kind == "network":
        weight = next(network.parameters())
        seen = features.to(weight.device, weight.dtype)
        shifts = network.seeds(seen, Grid(height, width, rows, columns))[0].float().cpu().numpy()
        y, x = np.floor(y + shifts[0] * cell_y), np.floor(x + shifts[1] * cell_x)
    return y.clip(0, height - 1).astype(np.int64).ravel(), x.clip(0, width - 1).astype(np.int64).ravel()


def authors_labels(network: "LifelongNet", features: Tensor, n_segments: int, kind: str) -> Tensor:
    """Return the most similar of all seeds, (B, H, W) int32; a few rows at a time, as each pixel meets every seed."""
    maps = torch.empty(len(features), *features.shape[2:], dtype=torch.int32)
    for one, out in zip(features.cpu(), maps, strict=True):
        y, x = authors_seeds(network, one[None], n_segments, kind)
        seeds = one[:, y, x].T
        for top in range(0, len(out), 16):
            score = seeds @ one[:, top : top + 16].flatten(1) - 0.5 * seeds.square().sum(1, keepdim=True)
            out[top : top + 16] = score.argmax(0).view(-1, out.shape[1]).int()
    return maps


class _Rescale(Function):
    """The identity, whose gradient is multiplied by a factor: of each channel (GAL) or of each pixel (GBL)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.saved_tensors[0], None


class LifelongNet(nn.Module):
    """The network of figure 3 in its authors' layout: embedder, seeds, and the head that rebuilds the input."""

    def __init__(self, channels: int = 20) -> None:
        super().__init__()
        self.embedder = Embedder(channels)
        self.seeds = SeedLayer(channels)
        self.grm = Rescaler(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, channels, H, W), none of them negative, of inputs (B, 5, H, W)."""
        return cast(Tensor, self.embedder(x))


class Embedder(nn.Module):
    """The feature embedder; equation 1 has dilations 0, 1 and 2 and no normalisation, the authors' code this."""

    def __init__(self, channels: int, width: int = 10) -> None:
        super().__init__()
        self.c1_1 = nn.Conv2d(INPUTS, width, 3)
        self.c1_2 = nn.Conv2d(INPUTS, width, 3)
        self.c1_3 = nn.Conv2d(INPUTS, width, 3, padding=1, dilation=2)
        joined = INPUTS + 3 * width
        self.c1_4 = nn.Sequential(Norm(joined), nn.ReLU(inplace=True), nn.Identity(), nn.Conv2d(joined, width, 3))
        self.inorm_1 = Norm(width)
        self.c2 = nn.Conv2d(width + INPUTS, channels, 3)
        self.inorm_2 = Norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of x (B, 5, H, W)."""
        around = pad(x)
        s = torch.cat([x, self.c1_1(around), self.c1_2(around), self.c1_3(around)], 1)
        norm, relu, _, conv = self.c1_4
        s = norm(s)  # one name for all, so that no more than two of the wide maps are in memory at a time
        s = pad(relu(s))
        s = self.inorm_1(conv(s)).relu_()
        s = self.c2(pad(torch.cat([s, x], 1)))
        return cast(Tensor, self.inorm_2(s).relu_())


class SeedLayer(nn.Module):
    """The seed estimation layer: how far each seed moves from the middle of its cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = Norm(channels)
        self.head = nn.Conv2d(channels, 3, 1)  # the first output is unused, as in the authors' code

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        """Return shifts as (y, x) in cells, -1 to 1, (B, 2, rows, columns), of features (B, C, H, W)."""
        # Equation 4 shifts by up to half the image; the authors' code by one cell.
        pooled = functional.adaptive_avg_pool2d(features, (grid.rows, grid.columns))
        return cast(Tensor, 2 * self.head(self.norm(self.conv(pooled)).relu())[:, 1:].sigmoid() - 1)


class Rescaler(nn.Module):
    """The head that rebuilds the input, and the memory of how much each channel mattered for it."""

    memory: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.recons = nn.Conv2d(channels, INPUTS, 1)
        self.register_buffer("memory", torch.ones(channels))

    def by_channel(self, features: Tensor, rate: float) -> Tensor:
        """Return the features, whose gradient will shrink where a channel mattered before; the memory moves on.

        Equations 9 to 11. In the authors' code the factor is one less this one, and the memory never changes.
        """
        with torch.no_grad():
            weight = self.recons.weight[:, :, 0, 0].abs()
            strength = weight[:COLORS].mean(0) * weight[COLORS:].mean(0)
            factor = strength / (strength + self.memory).clamp(min=1e-12)
            self.memory.lerp_(strength, rate)
        return cast(Tensor, _Rescale.apply(features, factor[:, None, None]))
