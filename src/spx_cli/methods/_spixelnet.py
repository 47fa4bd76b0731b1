"""What SIN and FCN share: an encoder that halves the image four times, and the grid of superpixels it implies."""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from spx_cli.methods import _association as association
from spx_cli.methods._association import Grid
from spx_cli.methods._tensors import check_bytes

CELL = 16  # pixels of the network's input to a side of a grid cell: four halvings
WIDTHS = (16, 32, 64, 128, 256)  # channels at full size, then after each halving
MEAN = (0.411, 0.432, 0.45)  # colour that the authors subtract, RGB in 0..1
SMALLEST = 4  # pixels of the image to a side of a grid cell; finer grids would enlarge the image more than fourfold


def cell_grid(size: tuple[int, int], n_segments: int) -> tuple[int, int]:
    """Return rows and columns of the grid: as close above n_segments as a shape like the image's allows.

    A cell has at least 4 x 4 pixels, so a very large n_segments gets fewer; the finishing stage then splits.

    >>> cell_grid((321, 481), 384)
    (16, 24)
    """
    height, width = size
    most = max(1, height // SMALLEST), max(1, width // SMALLEST)
    rows = np.arange(1, most[0] + 1)
    columns = np.minimum(-(-n_segments // rows), most[1])
    missing = np.maximum(n_segments - rows * columns, 0)
    stretch = np.abs(np.log(rows * width / (columns * height)))
    best = int(np.lexsort((stretch + rows * columns / n_segments, missing))[0])
    return int(rows[best]), int(columns[best])


def normalise(images: Tensor) -> Tensor:
    """Return uint8 RGB (B, 3, H, W) as the float32 that the networks take."""
    check_bytes(images)
    return images.float().div_(255).sub_(_mean(images.device))


# Kept for good: a captured CUDA graph may read it.
@cache
def _mean(where: torch.device) -> Tensor:
    with torch.inference_mode(False):  # what a segmentation leaves here must serve training too
        return torch.tensor(MEAN, dtype=torch.float32, device=where)[:, None, None]


def cell_labels(scores: Tensor, place: tuple[int, int], columns: int) -> Tensor:
    """Return the cell with the highest score for each pixel, int32 (B, h, w).

    scores : (B, 9, h, w), of a piece of the network's input whose first pixel lies at `place` (row, column).
    columns : of the grid of the whole input.
    """
    height, width = scores.shape[2:]
    grid = Grid(height, width, height // CELL, width // CELL)
    labels = association.hard_labels(scores, grid).int()
    if grid.columns == columns:
        return labels + place[0] // CELL * columns if place[0] else labels
    return (labels // grid.columns + place[0] // CELL) * columns + labels % grid.columns + place[1] // CELL


class Encoder(nn.Module):
    """The contracting half, with the authors' names; subclasses add theirs and call `initialise`."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for i, width in enumerate(WIDTHS):
            self.add_module(f"conv{i}a", block(inputs, width, stride=1 if i == 0 else 2))
            self.add_module(f"conv{i}b", block(width, width))
            inputs = width

    def initialise(self) -> None:
        """Draw the weights of all convolutions."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return five maps, from full size to a sixteenth."""
        maps, x = [], x.to(next(self.parameters()).dtype)
        for i in range(len(WIDTHS)):
            x = self.part(f"conv{i}b", self.part(f"conv{i}a", x))
            maps.append(x)
        return maps

    def part(self, name: str, x: Tensor) -> Tensor:
        """Return what the submodule called `name` makes of x."""
        out: Tensor = self.get_submodule(name)(x)
        return out


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and leaky ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True))
