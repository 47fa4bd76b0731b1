"""A learned method of a few numbers and samples of a few pixels, to train in no time; as a script, trains it."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from spx_cli.datasets import Sample
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._tensors import stack
from spx_cli.methods._torch import TorchMethod
from spx_cli.params import param
from spx_cli.training.loop import train
from spx_cli.types import Assignment

RECIPE = Recipe(
    steps=12,
    batch_size=2,
    lr=0.02,
    weight_decay=1e-4,
    schedule="one-cycle",
    clip=1.0,
    ema=0.9,
    crop=12,
    scale_min=0.8,
    scale_max=1.5,
    flips="hv",
    validate_every=4,
    validate_counts="4",
    log_every=1,
    checkpoint_minutes=0,
)


@dataclass(frozen=True, kw_only=True)
class Trainee(TorchMethod):
    """Colours the pixels by what a network says of them."""

    name = "trainee"
    paper = "none"
    recipes: ClassVar[dict[str, Recipe]] = {"paper": RECIPE}
    device: str = param("cpu", "where the network runs")
    dropout: float = param(0.2, "share", ge=0)
    norm: bool = param(True, "normalise batches")

    def build(self) -> nn.Module:
        middle = nn.BatchNorm2d(4) if self.norm else nn.Identity()
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), middle, nn.Dropout(self.dropout), nn.Conv2d(4, 3, 1))

    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        scores = network(images.float() / 255)
        if truth is None:
            return scores.square().mean()
        bright = (images.float().mean(1) > 120).long()
        return functional.cross_entropy(scores, bright.where(truth >= 0, -1), ignore_index=-1)

    def assign_batch(self, images, n_segments):
        with torch.no_grad():
            scores = self.network(stack(images, torch.device("cpu")).float() / 255).permute(0, 2, 3, 1)
        return [Assignment(s.argmax(2).astype(np.int32), np.ascontiguousarray(s)) for s in scores.numpy()]


def samples(count: int = 5, size: tuple[int, int] = (18, 24)) -> list[Sample]:
    """Two halves of different colours, with noise; two annotations each, the second without its first row."""
    found = []
    for i in range(count):
        rng = np.random.default_rng(i)
        truth = np.zeros(size, np.int32)
        truth[:, rng.integers(6, size[1] - 6) :] = 1
        image = np.clip(truth[..., None] * 120 + 60 + rng.normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8)
        partial = truth.copy()
        partial[0] = 9
        found.append(Sample(f"s{i}", image, (truth, partial), ignore_label=9))
    return found


def main() -> None:
    out, norm, *changes = sys.argv[1:]
    values = {name: type(getattr(RECIPE, name))(value) for name, value in (c.split("=") for c in changes)}
    recipe = dataclasses.replace(RECIPE, **values)
    dropout = 0.2 if norm == "norm" else 0.0
    method = Trainee(norm=norm == "norm", dropout=dropout)
    for _ in train(method, samples(), samples(2), recipe, Path(out), resume=True):
        pass


def assert_learns(method: TorchMethod, side: int, lr: float = 1e-3, steps: int = 5) -> None:
    """Assert that a few steps on images of two halves lower the loss of a fresh network."""
    torch.manual_seed(0)
    network = method.build().train()
    truth = torch.zeros(2, side, side, dtype=torch.int64)
    truth[:, :, 14:] = 1
    images = (torch.rand(2, 3, side, side) * 40 + 100 + 30 * truth[:, None]).to(torch.uint8)
    optimizer, losses = torch.optim.Adam(network.parameters(), lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = method.loss(network, images, truth)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


if __name__ == "__main__":
    main()
