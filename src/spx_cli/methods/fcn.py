"""SpixelFCN (Yang et al., CVPR 2020, arXiv:2003.12929): a U-Net scores each pixel against its 3 x 3 grid cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.errors import ParameterError
from spx_cli.methods import _association as association
from spx_cli.methods._association import Grid
from spx_cli.methods._contours import chances, contour_loss, padded
from spx_cli.methods._feedforward import FeedForward
from spx_cli.methods._pieces import in_pieces
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._resize import resize_image, resize_labels
from spx_cli.methods._spixelnet import CELL, WIDTHS, Encoder, block, cell_grid, cell_labels, normalise
from spx_cli.params import param
from spx_cli.types import Assignment, Image

_FACTOR = 0.005  # of the loss, summed over pixels; only the authors' code has it
_REACH = 96  # pixels of the input, at most, between what an output depends on and itself; a multiple of CELL


@dataclass(frozen=True, kw_only=True)
class FCN(FeedForward):
    """The count is met by resizing the image to 16 pixels per superpixel; the map comes back at full size."""

    name = "fcn"
    paper = "arXiv:2003.12929"
    oversegmentation = 6.0
    sees_contours = True
    recipes = {  # noqa: RUF012
        "paper": Recipe(
            steps=300_000, batch_size=4, lr=5e-5, weight_decay=4e-4, decay="weights", schedule="halve",
            halve_at=200_000, crop=208, flips="hv",
        ),
        "short": Recipe(
            steps=24_000, batch_size=4, optimizer="muon", lr=1e-3, schedule="one-cycle", ema=0.999, clip=1.0,
            amp="bf16", crop=208, scale_min=0.7, scale_max=1.8, flips="hv",
            validate_counts="200,600", validate_images=25,
        ),
    }  # fmt: skip

    weights: str = param("fcn", "bundled weights by name, or the path of a .safetensors file")
    compactness: float = param(
        0.003, "m: weight of the distance between a pixel and its rebuilt position", ge=0, le=1e6
    )
    contours: bool = param(True, "learn the borders of objects too, and merge along them; the paper's network does not")

    def build(self) -> nn.Module:
        """Return the network from normalised images (B, 3, 16 h, 16 w) to scores (B, 9, 16 h, 16 w).

        With contours there is a tenth score, that of a border.
        """
        return UNet(9 + self.contours).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        """Return how badly pooled labels and positions give themselves back (Yang equation 5, SLIC-like terms).

        With contours, their cross entropy is added, summed over pixels alike.
        """
        if truth is None or truth.is_floating_point():
            raise ParameterError("fcn learns from label maps; this data set has none")
        height, width = images.shape[2:]
        if height % CELL or width % CELL:
            raise ParameterError(f"fcn trains on crops of 16 n pixels, such as 208, not {height} x {width}")
        grid = Grid(height, width, height // CELL, width // CELL)
        scores = network(normalise(images)).float()
        loss = association.grid_loss(scores[:, :9].softmax(1), truth, grid, self.compactness)
        if self.contours:
            loss = loss + contour_loss(scores[:, 9], truth)
        return _FACTOR * height * width * loss

    def prepare(self, image: Image, n_segments: int) -> Image:
        """Return the image at the size of 16 pixels per cell."""
        rows, columns = cell_grid(image.shape[:2], n_segments)
        return resize_image(image, (CELL * rows, CELL * columns))

    def infer(self, images: Tensor, size: tuple[int, int], n_segments: int) -> Sequence[Tensor]:
        """Return the cell with the highest score for each pixel, int32 (B, h, w), and the contours."""
        columns = images.shape[3] // CELL

        def see(piece: Tensor, place: tuple[int, int]) -> Sequence[Tensor]:
            scores = self.network(normalise(piece)).float()
            return cell_labels(scores[:, :9], place, columns), *scores[:, 9 : 9 + self.contours].unbind(1)

        labels, *contours = in_pieces(see, images, _REACH)
        return labels, *(chances(scores, size) for scores in contours)

    def complete(self, image: Image, *outputs: NDArray[Any]) -> Assignment:
        """Return the map at the size of the image, and Lab."""
        labels, contours = outputs[0], outputs[1] if len(outputs) > 1 else None
        return Assignment(resize_labels(labels, image.shape[:2]), rgb_to_lab(image), POSITION, contours)

    def contour_scores(self, images: Tensor) -> Tensor:
        """Return the scores of contours, float (B, H, W), for uint8 RGB images (B, 3, H, W) of any size."""
        height, width = images.shape[2:]
        scores: Tensor = self.network(normalise(padded(images, CELL)))
        if scores.shape[1] == 9:
            return super().contour_scores(images)
        return scores[:, 9, :height, :width]

    def like(self, state: Mapping[str, Tensor]) -> Self:
        """Return the method with contours if the state dict has them."""
        head = state.get("pred_mask0.weight")
        return self if head is None else replace(self, contours=len(head) > 9)

    @staticmethod
    def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the authors' state dict less the heads of the coarser levels, which their network never uses."""
        unused = ("pred_mask1.", "pred_mask2.", "pred_mask3.")
        return {name: value for name, value in state.items() if not name.startswith(unused)}


class UNet(Encoder):
    """The authors' SpixelNet1l_bn without its unused heads."""

    def __init__(self, outputs: int = 9) -> None:
        super().__init__()
        for i in (3, 2, 1, 0):
            up = nn.ConvTranspose2d(WIDTHS[i + 1], WIDTHS[i], 4, stride=2, padding=1)
            self.add_module(f"deconv{i}", nn.Sequential(up, nn.LeakyReLU(0.1, inplace=True)))
            self.add_module(f"conv{i}_1", block(2 * WIDTHS[i], WIDTHS[i]))
        self.add_module("pred_mask0", nn.Conv2d(WIDTHS[0], outputs, 3, padding=1))
        self.initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of each pixel for the nine cells around its own, row by row, and what follows them."""
        maps = self.encode(x)
        x = maps[-1]
        for i in (3, 2, 1, 0):
            x = self.part(f"conv{i}_1", torch.cat([maps[i], self.part(f"deconv{i}", x)], 1))
        return self.part("pred_mask0", x)
