"""RIM (Suzuki, ICASSP 2020, arXiv:2002.06765): a network that starts at random is optimised on each image anew."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import cos, inf, pi
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spx_cli import device
from spx_cli.methods._instance import Norm, pad
from spx_cli.methods._merging import WARD
from spx_cli.methods._muon import Muon
from spx_cli.methods._resize import resize_labels
from spx_cli.methods._unlabelled import FLAT, unlabelled
from spx_cli.methods.base import Method, progress
from spx_cli.params import param
from spx_cli.regions.maps import boundaries
from spx_cli.types import Assignment, Image

COLORS, INPUTS = 3, 5  # R, G, B; with row and column
WIDTHS = (32, 64, 128, 256)
SIGMA = 8.0  # of the smoothness term
TINY = 1e-16


# Pixels of the copy of the image on which the default learns, at least so many in all and for each cluster, and its
# steps and rate there. On BSDS500 val 10,000 pixels score no better than 2,500 at 100 superpixels.
SMALL, PER_CLUSTER, QUICK_STEPS, QUICK_RATE = 2500, 8, 150, 0.02
# The paper's.
STEPS, RATE = 1000, 0.01
# Beyond so many pixels times clusters the network sees a copy of the image even at the end, and the map is enlarged.
LARGEST = 100_000_000
# Beyond so many clusters a network has no outputs, by default and in the paper's loop: clusters lie scattered, so that
# there are more regions than clusters; where there are not, splitting makes what is missing.
QUICK_MOST, MOST = 500, 1000


@dataclass(frozen=True, kw_only=True)
class RIM(Method):
    """Clusters that tell much about their pixels, n_segments at most; a network learns them from the one image.

    It takes seconds: the network learns on a small copy of the image, by Muon, and sees the whole at the end. The
    paper's loop, by Adam on the whole image, takes an hour on two cores.
    """

    name = "rim"
    kind = "optimised"
    paper = "arXiv:2002.06765"
    label_free = True
    oversegmentation = 3.0
    by_edges = False

    merge: str = param(WARD, "cost of a merge: ward has seen no label; loss has, in the weights of its cost")
    device: str = param("auto", "auto, cpu, cuda or cuda:N")
    seed: int = param(0, "of the first weights, on which the superpixels depend", ge=0, le=2**31 - 1)
    restarts: int = param(1, "maps from different first weights, laid over each other", ge=1, le=20)
    quick: bool = param(True, "learn by Muon on a small copy of the image; false is the paper's loop")
    iterations: int = param(0, "optimiser steps; 0 = 150, in the paper's loop 1000", ge=0, le=2000)
    patience: int = param(0, "steps without a lower loss after which it is good enough; 0 = never", ge=0, le=10**6)
    rate: float = param(0.0, "eta: learning rate; 0 = 0.02 to begin with, in the paper's loop 0.01", ge=0, le=1)
    marginal: float = param(2.0, "lambda: weight of equal sizes; the larger, the more superpixels", ge=0, le=100)
    smoothness: float = param(2.0, "alpha: weight of smoothness", ge=0, le=1e4)
    reconstruction: float = param(
        10.0, "beta: weight of the reconstruction; 0 = the paper's variant without", ge=0, le=1e4
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        device.check(self.device)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the clusters of the image; with restarts, what all maps together part, merged to n_segments."""
        clusters = min(n_segments, QUICK_MOST if self.quick else MOST)
        maps = [self.cluster(image, clusters, self.seed + i) for i in range(self.restarts)]
        if len(maps) == 1:
            return unlabelled(maps[0], image)
        _, together = np.unique(np.stack(maps).reshape(len(maps), -1), axis=1, return_inverse=True)
        agreed = np.asarray(np.stack([boundaries(labels) for labels in maps]).mean(0, dtype=np.float32))
        return unlabelled(together.reshape(maps[0].shape), image, contours=agreed)

    def cluster(self, image: Image, n_segments: int, seed: int) -> NDArray[np.int64]:
        """Return the cluster of each pixel, (H, W), 0 to n_segments - 1, that weights drawn from `seed` end with."""
        where = device.pick(self.device)
        with device.turn(where), torch.inference_mode(False), torch.enable_grad():  # wherever it is called
            # layers draw weights from the caller's numbers before ours replace them
            with torch.random.fork_rng(devices=[]):
                network = RIMNet(n_segments, torch.Generator().manual_seed(seed))
            network = network.to(where)
            pixels = torch.from_numpy(np.array(image)).to(where).permute(2, 0, 1)[None].float()
            self.optimise(network, pixels)
            with torch.inference_mode():
                seen = shrink(pixels, LARGEST / n_segments) if self.quick else pixels
                labels = network(standardise(seen))[0].argmax(1)[0].cpu().numpy()
        return labels if labels.shape == image.shape[:2] else resize_labels(labels, image.shape[:2])

    def optimise(self, network: "RIMNet", pixels: Tensor) -> None:
        """Lower the loss of an image, float (1, 3, H, W)."""
        steps = self.iterations or (QUICK_STEPS if self.quick else STEPS)
        rate = self.rate or (QUICK_RATE if self.quick else RATE)
        kind = Muon if self.quick else torch.optim.Adam
        optimizer: torch.optim.Optimizer = kind(network.parameters(), rate)
        small = max(SMALL, PER_CLUSTER * len(network.norm.weight))
        x = standardise(shrink(pixels, small) if self.quick else pixels)
        told, least, since = progress.get(), inf, 0
        for step in range(steps):
            loss = self.loss(network, x)
            optimizer.zero_grad()
            loss.backward()
            if self.quick:
                optimizer.param_groups[0]["lr"] = rate * one_cycle(step / steps)
            optimizer.step()
            told(step + 1, steps)
            if self.patience:
                value = loss.item()
                least, since = (value, 0) if value < least else (least, since + 1)
                if since >= self.patience:
                    return

    def loss(self, network: "RIMNet", x: Tensor) -> Tensor:
        """Return the objective (equation 1) of standardised inputs (1, 5, H, W)."""
        logits, rebuilt = network(x)
        parts = objective(logits, rebuilt, x, self.marginal)
        return parts.clustering + self.smoothness * parts.smoothness + self.reconstruction * parts.reconstruction


class Objective(NamedTuple):
    """The three parts of equation 1, scalars."""

    clustering: Tensor
    smoothness: Tensor
    reconstruction: Tensor


def objective(logits: Tensor, rebuilt: Tensor, x: Tensor, marginal: float) -> Objective:
    """Return equations 2 to 4 for logits (1, N, H, W), rebuilt colours (1, 3, H, W) and inputs (1, 5, H, W)."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    shares = p.mean((2, 3))
    clustering = -(p * log_p).sum(1).mean() + marginal * (shares * (shares + TINY).log()).sum()
    return Objective(clustering, roughness(p, x), functional.mse_loss(rebuilt, x[:, :COLORS]))


def roughness(p: Tensor, x: Tensor) -> Tensor:
    """Return how much p (1, N, H, W) changes between neighbours where x (1, 5, H, W) does not (equation 3).

    x has the positions beside the colours, as in the author's code; the paper writes colours alone.
    """
    total = p.new_zeros(())
    for axis in (2, 3):
        if p.shape[axis] > 1:
            change = p.diff(dim=axis).abs().sum(1)
            total = total + (change * (-x.diff(dim=axis).square().sum(1) / SIGMA).exp()).mean()
    return total


def one_cycle(part: float) -> float:
    """Return the share of the rate when this part of the steps, 0 to 1, is done: a short rise, then a cosine."""
    rise = 0.1
    return min((part + 0.01) / rise, 1.0) if part < rise else 0.5 * (1 + cos(pi * (part - rise) / (1 - rise))) + 0.01


def shrink(pixels: Tensor, most: float) -> Tensor:
    """Return an image (1, 3, H, W) with about `most` pixels by averaging; itself where it has no more."""
    height, width = pixels.shape[2:]
    scale = (most / (height * width)) ** 0.5
    if scale >= 1:
        return pixels
    return functional.interpolate(pixels, (max(1, round(height * scale)), max(1, round(width * scale))), mode="area")


def standardise(pixels: Tensor) -> Tensor:
    """Return (R, G, B, y, x) of an image (1, 3, H, W), each with mean 0 and deviation 1, float32 (1, 5, H, W)."""
    height, width = pixels.shape[2:]
    x = torch.empty(1, INPUTS, height, width, dtype=torch.float64, device=pixels.device)
    x[:, :COLORS] = pixels
    x[:, COLORS] = torch.arange(height, device=x.device)[:, None]
    x[:, COLORS + 1] = torch.arange(width, device=x.device)
    variance, mean = torch.var_mean(x, (2, 3), keepdim=True, correction=min(1, height * width - 1))
    return ((x - mean) / variance.sqrt().clamp(min=FLAT)).float()


class RIMNet(nn.Module):
    """The network in its author's layout: four 3 x 3 layers and a linear one, each normalised but for the colours."""

    def __init__(self, n_segments: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, dtype=torch.float32)  # whatever PyTorch's default is
        layers: list[nn.Module] = [
            nn.Sequential(nn.ReflectionPad2d(1), conv(before, after, 3, bias=False), Norm(after), nn.ReLU(inplace=True))
            for before, after in pairwise((INPUTS, *WIDTHS))
        ]
        self.layers = nn.ModuleList([*layers, conv(WIDTHS[-1], n_segments + COLORS, 1)])
        self.norm = Norm(n_segments)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, generator=generator)
        nn.init.zeros_(cast(Tensor, self.layers[-1].bias))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (1, n_segments, H, W) and rebuilt colours (1, 3, H, W) of inputs (1, 5, H, W)."""
        for layer in self.layers[:-1]:
            _, conv, norm, relu = cast(nn.Sequential, layer)
            x = relu(norm(conv(pad(x))))
        x = self.layers[-1](x)
        return self.norm(x[:, COLORS:]), x[:, :COLORS]
