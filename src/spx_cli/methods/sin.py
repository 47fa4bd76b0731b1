"""SIN (Yuan et al., PRCV 2021): a network decides, level by level, which neighbour each inserted pixel joins.

A grid of superpixels grows to the size of the image in four steps, each of which doubles columns, then rows. A new
pixel takes the label of one of the two old ones beside it, so superpixels stay connected at the network's size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.errors import ParameterError
from spx_cli.methods._resize import resize_image, resize_labels
from spx_cli.methods._spixelnet import CELL, WIDTHS, Encoder, grid_shape, normalise
from spx_cli.methods._torch import TorchMethod, fold, stack
from spx_cli.params import param
from spx_cli.recipe import Recipe
from spx_cli.types import Assignment, Image


class Level(NamedTuple):
    """Raw scores for the (left, right) or (upper, lower) neighbour, before the rows, then the columns are doubled.

    horizontal : (B, 2, h, 2 w - 1). vertical : (B, 2, 2 h - 1, 2 w - 1).
    """

    horizontal: Tensor
    vertical: Tensor


@dataclass(frozen=True, kw_only=True)
class SIN(TorchMethod):
    """Interpolates a grid of labels up to the image; compact, and connected by construction."""

    name = "sin"
    paper = "doi:10.1007/978-3-030-88007-1_39"
    surplus = 2.0
    recipes = {  # noqa: RUF012
        "paper": Recipe(
            steps=300_000, batch_size=4, lr=5e-5, weight_decay=4e-4, decay="weights", schedule="halve",
            halve_at=200_000, crop=225, flips="hv",
        ),
        "short": Recipe(
            steps=12_000, batch_size=8, lr=1e-3, weight_decay=4e-4, schedule="one-cycle", ema=0.999, clip=1.0,
            crop=225, scale_min=0.7, scale_max=1.6, flips="hv", validate_counts="200,600", validate_images=25,
        ),
    }  # fmt: skip

    weights: str = param("sin", "bundled weights by name, or the path of a .safetensors file")
    skips: bool = param(True, "whether the decoder sees the encoder's maps; the paper's network does not")
    softmax_twice: bool = param(False, "train as the authors' code does: cross entropy of what is already a softmax")

    def build(self) -> nn.Module:
        """Return the network from normalised images (B, 3, 16 h + 1, 16 w + 1) to four Levels, coarse to fine."""
        return Interpolator(self.skips).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def deploy(self, network: nn.Module) -> nn.Module:
        """Return the network that scores inserted pixels only."""
        fold(network)
        return Decisions(network).to(self.dtype) if isinstance(network, Interpolator) else network

    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        """Return the weighted cross entropy of all levels against the annotation (Yuan equations 4 to 6)."""
        if truth is None:
            raise ParameterError("sin learns from label maps; this data set has none")
        if images.shape[2] % CELL != 1 or images.shape[3] % CELL != 1:
            size = tuple(images.shape[2:])
            raise ParameterError(f"sin trains on crops of 16 n + 1 pixels, such as 193 or 225, not {size}")
        return interpolation_loss(network(normalise(images)), truth, softmax_twice=self.softmax_twice)

    def assign_batch(self, images: Sequence[Image], n_segments: int) -> list[Assignment]:
        """Return the interpolated maps at the size of the images, and Lab."""
        height, width, _ = images[0].shape
        rows, columns = grid_shape((height, width), n_segments)
        maps = self.interpolate(images, rows, columns)
        return [
            Assignment(resize_labels(labels, (height, width)), rgb_to_lab(image), POSITION)
            for labels, image in zip(maps, images, strict=True)
        ]

    def interpolate(self, images: Sequence[Image], rows: int, columns: int) -> NDArray[np.int32]:
        """Return the maps at the network's size, (B, 16 rows - 15, 16 columns - 15), ids 0.. in raster order."""
        size = (CELL * (rows - 1) + 1, CELL * (columns - 1) + 1)
        network = self.network
        where = next(network.parameters()).device
        with torch.inference_mode():
            return expand(network(normalise(stack([resize_image(image, size) for image in images], where))))

    @staticmethod
    def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the authors' state dict less the modules that their network owns and never uses."""
        unused = tuple(f"{part}." for i in range(4) for part in (f"deconv{i}", f"conv{i}_1", f"pred_mask{i}"))
        return {name: value for name, value in state.items() if not name.startswith(unused)}


def decide(levels: Sequence[Level]) -> list[Level]:
    """Return the lead of the left or upper neighbour of each inserted pixel: (B, h, w - 1), (B, h - 1, 2 w - 1)."""
    return [Level(h[:, 0, :, 1::2] - h[:, 1, :, 1::2], v[:, 0, 1::2] - v[:, 1, 1::2]) for h, v in levels]


def expand(decisions: Sequence[Level]) -> NDArray[np.int32]:
    """Return the label maps (B, H, W) that `decide` leads to; without a lead the left or upper neighbour is chosen."""
    batch, rows, columns = decisions[0].horizontal.shape
    grid = torch.arange(rows * (columns + 1), dtype=torch.int32, device=decisions[0].horizontal.device)
    labels = grid.view(1, rows, columns + 1).expand(batch, -1, -1)
    for lead in decisions:
        labels = insert(labels, lead.horizontal)
        labels = insert(labels.transpose(1, 2), lead.vertical.transpose(1, 2)).transpose(1, 2)
    maps: NDArray[np.int32] = labels.contiguous().cpu().numpy()
    return maps


def insert(labels: Tensor, lead: Tensor) -> Tensor:
    """Return labels (B, h, w) with a column between each two, (B, h, 2 w - 1): the left one's where lead >= 0."""
    out = labels.new_empty(*labels.shape[:2], 2 * labels.shape[2] - 1)
    out[..., ::2] = labels
    out[..., 1::2] = torch.where(lead >= 0, labels[..., :-1], labels[..., 1:])
    return out


# Weights of the levels, coarse to fine (Yuan section 4.1), and a factor that only the authors' code has.
_HORIZONTAL, _VERTICAL, _FACTOR = (20.0, 10.0, 5.0, 2.5), (8.0, 4.0, 2.0, 1.0), 0.005


def interpolation_loss(levels: Sequence[Level], truth: Tensor, *, softmax_twice: bool = False) -> Tensor:
    """Return the loss of all levels, a scalar; see `level_loss`. truth (B, H, W), negative = unlabelled."""
    total = torch.zeros((), device=truth.device)
    for i, (level, h, v) in enumerate(zip(levels, _HORIZONTAL, _VERTICAL, strict=True)):
        step = 2 ** (len(levels) - 1 - i)
        labels = truth[:, ::step, ::step]
        total = total + h * level_loss(level.horizontal, labels[:, ::2], softmax_twice=softmax_twice)
        across, turned = level.vertical.transpose(2, 3), labels.transpose(1, 2)
        total = total + v * level_loss(across, turned, softmax_twice=softmax_twice)
    return _FACTOR * total


def level_loss(scores: Tensor, labels: Tensor, *, softmax_twice: bool = False) -> Tensor:
    """Return the cross entropy of inserted columns against their true neighbour, summed over pixels, mean over images.

    scores (B, 2, h, 2 w - 1), labels (B, h, 2 w - 1). A pixel that shares its label with both neighbours or with none
    does not count, nor does one beside or on an unlabelled pixel.
    """
    left, middle, right = labels[..., :-1:2], labels[..., 1::2], labels[..., 2::2]
    known = (left >= 0) & (middle >= 0) & (right >= 0)
    use = known & ((left == middle) != (right == middle))
    odd = scores[..., 1::2].float()
    if softmax_twice:
        odd = odd.softmax(1)  # upstream feeds probabilities to a loss that expects scores; kept so that losses match
    # The cross entropy of two scores is the softplus of their difference.
    wrong = odd[:, 1] - odd[:, 0]
    terms = functional.softplus(torch.where(left == middle, wrong, -wrong))
    return (terms * use).sum() / len(scores)


class Interpolator(Encoder):
    """The authors' SpixelNet1l_bn without its unused modules; with `skips`, maps of the encoder join the decoder's."""

    def __init__(self, skips: bool = False) -> None:
        super().__init__()
        self.skips = skips
        for i in (3, 2, 1, 0):
            self.add_module(f"deconv{i}_h", _up(WIDTHS[i + 1], WIDTHS[i], (1, 2)))
            self.add_module(f"deconv{i}_v", _up(WIDTHS[i], WIDTHS[i], (2, 1)))
            for axis in "hv":
                self.add_module(f"pred_mask{i}_{axis}", nn.Conv2d(WIDTHS[i], 2, 3, padding=1))
                if skips:
                    self.add_module(f"skip{i}_{axis}", nn.Conv2d(WIDTHS[i], WIDTHS[i], 1))
        self.initialise()

    def forward(self, x: Tensor) -> list[Level]:
        """Return the scores of the four levels, coarse to fine."""
        maps = self.encode(x)
        x, levels = maps[-1], []
        for i in (3, 2, 1, 0):
            x = self.part(f"deconv{i}_h", x)
            if self.skips:
                # The rows of this level do not exist yet: its even ones are those of the level before.
                x = x + self.part(f"skip{i}_h", maps[i][:, :, ::2])
            horizontal = self.part(f"pred_mask{i}_h", x)
            x = self.part(f"deconv{i}_v", x)
            if self.skips:
                x = x + self.part(f"skip{i}_v", maps[i])
            levels.append(Level(horizontal, self.part(f"pred_mask{i}_v", x)))
        return levels


def _up(inputs: int, outputs: int, stride: tuple[int, int]) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=stride, padding=1)
    return nn.Sequential(conv, nn.LeakyReLU(0.1, inplace=True))


class Decisions(nn.Module):
    """A folded Interpolator that returns what `decide` would, with about half the work.

    A transposed convolution becomes a plain one that gives the old and the new pixel of each pair as channels, and a
    head becomes one that looks at new pixels only, and at the difference of its two scores.
    """

    def __init__(self, network: Interpolator) -> None:
        super().__init__()
        self.network = network
        for i in (3, 2, 1, 0):
            for axis in "hv":
                up = cast(nn.ConvTranspose2d, network.get_submodule(f"deconv{i}_{axis}.0"))
                self.add_module(f"pair{i}_{axis}", _pairs(up, axis))
                head = cast(nn.Conv2d, network.get_submodule(f"pred_mask{i}_{axis}"))
                self.add_module(f"lead{i}_{axis}", _lead(head, axis))
                network.add_module(f"deconv{i}_{axis}", nn.Identity())
                network.add_module(f"pred_mask{i}_{axis}", nn.Identity())

    def forward(self, x: Tensor) -> list[Level]:
        """Return by how much the left or upper neighbour of each inserted pixel leads, coarse to fine."""
        maps = self.network.encode(x)
        x, leads = maps[-1], []
        for i in (3, 2, 1, 0):
            batch, _, h, w = x.shape
            # Channels last, the pairs of a row already stand side by side. What lies over the frame is cut off.
            pairs = functional.leaky_relu_(self.get_submodule(f"pair{i}_h")(x), 0.1).permute(0, 2, 3, 1)
            x = pairs.reshape(batch, h, 2 * w + 2, -1)[:, :, 2 : 2 * w + 1].permute(0, 3, 1, 2)
            if self.network.skips:
                x = x + self.network.part(f"skip{i}_h", maps[i][:, :, ::2])
            horizontal = self.get_submodule(f"lead{i}_h")(x)[:, 0] if w > 1 else x.new_empty(batch, h, 0)
            pairs = functional.leaky_relu_(self.get_submodule(f"pair{i}_v")(x), 0.1).permute(0, 2, 3, 1)
            pairs = pairs.unflatten(3, (2, -1)).transpose(2, 3)
            x = pairs.reshape(batch, 2 * h + 2, 2 * w - 1, -1)[:, 2 : 2 * h + 1].permute(0, 3, 1, 2)
            if self.network.skips:
                x = x + self.network.part(f"skip{i}_v", maps[i])
            vertical = self.get_submodule(f"lead{i}_v")(x)[:, 0] if h > 1 else x.new_empty(batch, 0, 2 * w - 1)
            leads.append(Level(horizontal, vertical))
        return leads


def _pairs(up: nn.ConvTranspose2d, axis: str) -> nn.Conv2d:
    """Return the transposed convolution as a plain one: channels (old pixels, then new ones), a pixel of padding."""
    weight = up.weight.detach().transpose(0, 1)  # (out, in, 3, 3)
    outputs, inputs = weight.shape[:2]
    if axis == "v":
        weight = weight.transpose(2, 3)
    pair = weight.new_zeros(2 * outputs, inputs, 3, 2)
    # Of a window (i, i + 1): i times the middle tap is the old pixel; i times the last, i + 1 times the first the new.
    pair[:outputs, :, :, 0] = weight[..., 1].flip(2)
    pair[outputs:, :, :, 0] = weight[..., 2].flip(2)
    pair[outputs:, :, :, 1] = weight[..., 0].flip(2)
    if axis == "v":
        pair = pair.transpose(2, 3)
    conv = nn.Conv2d(inputs, 2 * outputs, (pair.shape[2], pair.shape[3]), padding=1)
    conv.load_state_dict({"weight": pair, "bias": up.state_dict()["bias"].repeat(2)})
    return conv


def _lead(head: nn.Conv2d, axis: str) -> nn.Conv2d:
    """Return the head as the difference of its scores at every second column, or row, from the second on."""
    stride, padding = ((1, 2), (1, 0)) if axis == "h" else ((2, 1), (0, 1))
    conv = nn.Conv2d(head.weight.shape[1], 1, 3, stride=stride, padding=padding)
    conv.load_state_dict({name: value[:1] - value[1:] for name, value in head.state_dict().items()})
    return conv
