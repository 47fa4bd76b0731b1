"""Train a small network end to end through SSN's soft superpixels.

Each image shows shapes of four materials that differ in colour only on average: single pixels are too noisy to tell
them apart. The network pools pixels into 36 superpixels, classifies those, and hands the result back to the pixels. The
loss looks at pixels alone, so its gradient reaches SSN's features through the superpixels.

Run it with `python examples/train_through_superpixels.py`; it takes a few seconds on a CPU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

import spx_cli

SIDE, CLASSES, SUPERPIXELS, ROUNDS = 48, 4, 36, 3
COLOURS = torch.tensor([[90.0, 110, 130], [130, 110, 90], [110, 130, 100], [120, 90, 120]])


def make_batch(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images uint8 (B, 3, H, W) and the material of each pixel, int64 (B, H, W)."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    truth = torch.zeros(count, SIDE, SIDE, dtype=torch.int64)
    for i in range(count):
        for material in range(1, CLASSES):
            cy, cx, radius = torch.rand(3, generator=generator) * torch.tensor([SIDE, SIDE, 8.0]) + torch.tensor(
                [0, 0, 8]
            )
            truth[i][(y - cy).square() + (x - cx).square() < radius**2] = material
    noise = 25 * torch.randn(count, 3, SIDE, SIDE, generator=generator)
    return (COLOURS[truth].permute(0, 3, 1, 2) + noise).clamp(0, 255).to(torch.uint8), truth


class Classifier(nn.Module):
    """Classifies superpixels by their mean colour and returns scores of pixels, (B, classes, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.superpixels = spx_cli.create("ssn", channels=10)
        self.features = self.superpixels.build()
        self.head = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, CLASSES, 1))

    def forward(self, images: Tensor) -> Tensor:
        soft = self.superpixels.soften(self.features, images, SUPERPIXELS, ROUNDS)
        means = soft.pool(images / 255 - 0.43)
        return soft.unpool(self.head(8 * means))


def main(steps: int = 40) -> tuple[list[float], float]:
    """Return the loss of each step and the share of pixels that are right at the end."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    network = Classifier()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for step in range(steps):
        images, truth = make_batch(4, generator)
        loss = functional.cross_entropy(network(images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 10 == 0:
            print(f"step {step:3d}  loss {losses[-1]:.3f}")
    with torch.no_grad():
        images, truth = make_batch(8, generator)
        right = (network(images).argmax(1) == truth).float().mean().item()
    print(f"pixels right: {right:.1%}")
    return losses, right


if __name__ == "__main__":
    main()
