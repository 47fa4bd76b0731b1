"""SIN (Yuan et al., PRCV 2021): a network decides, level by level, which neighbour each inserted pixel joins.

A grid of superpixels grows to the size of the image in four steps, each of which doubles columns, then rows. A new
pixel takes the label of one of the two old ones beside it, so superpixels stay connected at the network's size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple, Self, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.errors import ParameterError
from spx_cli.methods._contours import chances, contour_loss, padded
from spx_cli.methods._feedforward import FeedForward, inward
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._resize import resize_image, resize_labels
from spx_cli.methods._spixelnet import CELL, WIDTHS, Encoder, cell_grid, normalise
from spx_cli.methods._torch import fold
from spx_cli.params import param
from spx_cli.types import Assignment, Image


class Level(NamedTuple):
    """What one level says about the pixels it inserts, for a map (B, h, w) that it receives.

    horizontal : of the columns between columns. vertical : of the rows between rows of the then wider map.

    As leads, by how much the score of the left or upper neighbour is above that of the other one: (B, h, w - 1) and
    (B, h - 1, 2 w - 1). As the authors' raw scores, of both neighbours at old and new pixels alike: (B, 2, h, 2 w - 1)
    and (B, 2, 2 h - 1, 2 w - 1).
    """

    horizontal: Tensor
    vertical: Tensor


@dataclass(frozen=True, kw_only=True)
class SIN(FeedForward):
    """Interpolates a grid of labels up to the image; compact, and connected by construction."""

    name = "sin"
    paper = "doi:10.1007/978-3-030-88007-1_39"
    oversegmentation = 4.0
    sees_contours = True
    recipes = {  # noqa: RUF012
        "paper": Recipe(
            steps=300_000, batch_size=4, lr=5e-5, weight_decay=4e-4, decay="weights", schedule="halve",
            halve_at=200_000, crop=225, flips="hv",
        ),
        "short": Recipe(
            steps=24_000, batch_size=4, optimizer="muon", lr=1e-3, schedule="one-cycle", ema=0.999, clip=1.0,
            amp="bf16", crop=225, scale_min=0.7, scale_max=1.8, flips="hv",
            validate_counts="200,600", validate_images=25,
        ),
    }  # fmt: skip

    weights: str = param("sin", "bundled weights by name, or the path of a .safetensors file")
    skips: bool = param(True, "train a decoder that sees the encoder's maps; the paper's network does not")
    contours: bool = param(True, "learn the borders of objects too, and merge along them; the paper's network does not")
    softmax_twice: bool = param(False, "train as the authors' code does: cross entropy of what is already a softmax")

    def build(self) -> nn.Module:
        """Return the network from normalised images (B, 3, 16 h + 1, 16 w + 1) to the leads of four levels."""
        return Interpolator(self.skips, self.contours).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def deploy(self, network: nn.Module) -> nn.Module:
        """Return the network folded and settled."""
        return cast(Interpolator, fold(network)).settle().to(self.dtype)

    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        """Return the weighted cross entropy of all levels against the annotation (Yuan equations 4 to 6).

        With contours, their cross entropy is added, summed over pixels alike.
        """
        if truth is None or truth.is_floating_point():
            raise ParameterError("sin learns from label maps; this data set has none")
        if images.shape[2] % CELL != 1 or images.shape[3] % CELL != 1:
            size = tuple(images.shape[2:])
            raise ParameterError(f"sin trains on crops of 16 n + 1 pixels, such as 193 or 225, not {size}")
        leads, scores = cast(Interpolator, network).with_contours(normalise(images))
        loss = interpolation_loss(leads, truth, softmax_twice=self.softmax_twice)
        if scores is not None:
            loss = loss + _FACTOR * truth[0].numel() * contour_loss(scores, truth)
        return loss

    def prepare(self, image: Image, n_segments: int) -> Image:
        """Return the image at the size of 16 pixels from one grid point to the next."""
        rows, columns = cell_grid(image.shape[:2], n_segments)
        return resize_image(image, (CELL * (rows - 1) + 1, CELL * (columns - 1) + 1))

    def infer(self, images: Tensor, size: tuple[int, int], n_segments: int) -> Sequence[Tensor]:
        """Return the interpolated maps at the network's size, int32 (B, h, w), and the contours."""
        leads, scores = cast(Interpolator, self.network).with_contours(normalise(images))
        labels = inward(expand(leads))
        return (labels,) if scores is None or not self.contours else (labels, chances(scores, size))

    def complete(self, image: Image, *outputs: NDArray[Any]) -> Assignment:
        """Return the map at the size of the image, and Lab."""
        labels, contours = outputs[0], outputs[1] if len(outputs) > 1 else None
        return Assignment(resize_labels(labels, image.shape[:2]), rgb_to_lab(image), POSITION, contours)

    def contour_scores(self, images: Tensor) -> Tensor:
        """Return the scores of contours, float (B, H, W), for uint8 RGB images (B, 3, H, W) of any size."""
        height, width = images.shape[2:]
        _, scores = cast(Interpolator, self.network).with_contours(normalise(padded(images, CELL, 1)))
        return super().contour_scores(images) if scores is None else scores[:, :height, :width]

    def like(self, state: Mapping[str, Tensor]) -> Self:
        """Return the method with skips and contours if the state dict has them."""
        return replace(self, skips="skip0_h.weight" in state, contours="contour.weight" in state)

    @staticmethod
    def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the authors' state dict less the modules that their network owns and never uses."""
        unused = tuple(f"{part}." for i in range(4) for part in (f"deconv{i}", f"conv{i}_1", f"pred_mask{i}"))
        return {name: value for name, value in state.items() if not name.startswith(unused)}


def expand(leads: Sequence[Level]) -> Tensor:
    """Return label maps, int32 (B, H, W), of leads, coarse to fine; a lead of 0 chooses the left or upper neighbour."""
    batch, rows, columns = leads[0].horizontal.shape
    grid = torch.arange(rows * (columns + 1), dtype=torch.int32, device=leads[0].horizontal.device)
    labels = grid.view(1, rows, columns + 1).expand(batch, -1, -1)
    for lead in leads:
        labels = insert(labels, lead.horizontal)
        labels = insert(labels.transpose(1, 2), lead.vertical.transpose(1, 2)).transpose(1, 2)
    return labels.contiguous()


def insert(labels: Tensor, lead: Tensor) -> Tensor:
    """Return labels (B, h, w) with a column between each two, (B, h, 2 w - 1): the left one's where lead >= 0."""
    out = labels.new_empty(*labels.shape[:2], 2 * labels.shape[2] - 1)
    out[..., ::2] = labels
    out[..., 1::2] = torch.where(lead >= 0, labels[..., :-1], labels[..., 1:])
    return out


# Weights of the levels, coarse to fine (Yuan section 4.1), and a factor that only the authors' code has.
_HORIZONTAL, _VERTICAL, _FACTOR = (20.0, 10.0, 5.0, 2.5), (8.0, 4.0, 2.0, 1.0), 0.005
_SLOPE = 0.1  # of the leaky ReLUs


def interpolation_loss(leads: Sequence[Level], truth: Tensor, *, softmax_twice: bool = False) -> Tensor:
    """Return the loss of all levels, a scalar; see `level_loss`. truth (B, H, W), negative = unlabelled."""
    total = torch.zeros((), device=truth.device)
    for i, (lead, h, v) in enumerate(zip(leads, _HORIZONTAL, _VERTICAL, strict=True)):
        step = 2 ** (len(leads) - 1 - i)
        labels = truth[:, ::step, ::step]
        total = total + h * level_loss(lead.horizontal, labels[:, ::2], softmax_twice=softmax_twice)
        across, turned = lead.vertical.transpose(1, 2), labels.transpose(1, 2)
        total = total + v * level_loss(across, turned, softmax_twice=softmax_twice)
    return _FACTOR * total


def level_loss(lead: Tensor, labels: Tensor, *, softmax_twice: bool = False) -> Tensor:
    """Return the cross entropy of inserted columns against their true neighbour, summed over pixels, mean over images.

    lead (B, h, w - 1), labels (B, h, 2 w - 1). A pixel that shares its label with both neighbours or with none does not
    count, nor does one beside or on an unlabelled pixel.
    """
    left, middle, right = labels[..., :-1:2], labels[..., 1::2], labels[..., 2::2]
    known = (left >= 0) & (middle >= 0) & (right >= 0)
    use = known & ((left == middle) != (right == middle))
    lead = lead.float()
    if softmax_twice:
        # Upstream feeds probabilities to a loss that expects scores; kept so that losses match. Of two scores with
        # this lead, the probabilities differ by the tanh of half of it.
        lead = torch.tanh(lead / 2)
    # The cross entropy of two scores is the softplus of minus the lead of the right one.
    terms = functional.softplus(torch.where(left == middle, -lead, lead))
    return (terms * use).sum() / len(lead)


class Interpolator(Encoder):
    """The authors' SpixelNet1l_bn without its unused modules; with `skips`, maps of the encoder join the decoder's.

    With `contours` a last head scores the borders of objects.
    """

    def __init__(self, skips: bool = False, contours: bool = False) -> None:
        super().__init__()
        self.skips, self.contours = skips, contours
        for i in (3, 2, 1, 0):
            self.add_module(f"deconv{i}_h", _up(WIDTHS[i + 1], WIDTHS[i], (1, 2)))
            self.add_module(f"deconv{i}_v", _up(WIDTHS[i], WIDTHS[i], (2, 1)))
            for axis in "hv":
                self.add_module(f"pred_mask{i}_{axis}", nn.Conv2d(WIDTHS[i], 2, 3, padding=1))
                if skips:
                    self.add_module(f"skip{i}_{axis}", nn.Conv2d(WIDTHS[i], WIDTHS[i], 1))
        if contours:
            self.add_module("contour", nn.Conv2d(WIDTHS[0], 1, 3, padding=1))
        self.initialise()

    def forward(self, x: Tensor) -> list[Level]:
        """Return the leads of the four levels, coarse to fine; half the work of `scores`."""
        return self.with_contours(x)[0]

    def with_contours(self, x: Tensor) -> tuple[list[Level], Tensor | None]:
        """Return the leads, and the scores of contours, (B, H, W), of a network that has them."""
        maps = self.encode(x)
        x, leads = maps[-1], []
        for i in (3, 2, 1, 0):
            batch, _, h, w = x.shape
            # Channels last, the two pixels of a pair already stand side by side. The pairs over the frame are cut off.
            pairs = self._pairs(f"deconv{i}_h", x)
            x = pairs.reshape(batch, h, 2 * w + 2, -1)[:, :, 2 : 2 * w + 1].permute(0, 3, 1, 2)
            x = self._join(f"skip{i}_h", x, maps[i])
            horizontal = self._lead(f"pred_mask{i}_h", x) if w > 1 else x.new_empty(batch, h, 0)
            pairs = self._pairs(f"deconv{i}_v", x).unflatten(3, (2, -1)).transpose(2, 3)
            x = pairs.reshape(batch, 2 * h + 2, 2 * w - 1, -1)[:, 2 : 2 * h + 1].permute(0, 3, 1, 2)
            x = self._join(f"skip{i}_v", x, maps[i])
            vertical = self._lead(f"pred_mask{i}_v", x) if h > 1 else x.new_empty(batch, 0, 2 * w - 1)
            leads.append(Level(horizontal, vertical))
        return leads, self.part("contour", x)[:, 0] if self.contours else None

    def scores(self, x: Tensor) -> list[Level]:
        """Return the raw scores of the four levels, coarse to fine, as the authors' network does before its softmax."""
        maps = self.encode(x)
        x, levels = maps[-1], []
        for i in (3, 2, 1, 0):
            x = self._join(f"skip{i}_h", self.part(f"deconv{i}_h", x), maps[i])
            horizontal = self.part(f"pred_mask{i}_h", x)
            x = self._join(f"skip{i}_v", self.part(f"deconv{i}_v", x), maps[i])
            levels.append(Level(horizontal, self.part(f"pred_mask{i}_v", x)))
        return levels

    def _join(self, name: str, x: Tensor, early: Tensor) -> Tensor:
        if not self.skips:
            return x
        skip = cast(nn.Conv2d, self.get_submodule(name))
        # Before the rows of a level are inserted, only the even ones of the encoder's map have a counterpart. Channels
        # last, a 1 x 1 convolution is a matrix product.
        early = early[:, :, ::2] if name.endswith("h") else early
        return x + functional.linear(early.permute(0, 2, 3, 1), skip.weight[:, :, 0, 0], skip.bias).permute(0, 3, 1, 2)

    def _pairs(self, name: str, x: Tensor) -> Tensor:
        """Apply a transposed convolution as a plain one: (B, H, W, 2 C), an old and the next new pixel as channels."""
        pairs = functional.conv2d(x, *self._weights(name), padding=1)
        return functional.leaky_relu_(pairs, _SLOPE).permute(0, 2, 3, 1)

    def _lead(self, name: str, x: Tensor) -> Tensor:
        """Apply a head at every second column, or row, from the second on: the difference of its scores."""
        stride, padding = ((1, 2), (1, 0)) if name.endswith("h") else ((2, 1), (0, 1))
        return functional.conv2d(x, *self._weights(name), stride, padding)[:, 0]

    def _weights(self, name: str) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the plain convolution that stands for a transposed one, or for a head."""
        if f"{name}_weight" in self._buffers:
            return self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
        if name.startswith("pred_mask"):
            weight, bias = self.get_parameter(f"{name}.weight"), self.get_parameter(f"{name}.bias")
            return weight[:1] - weight[1:], bias[:1] - bias[1:]
        horizontal, taps = name.endswith("h"), self.get_parameter(f"{name}.0.weight").transpose(0, 1)
        taps = taps.flip(2) if horizontal else taps.transpose(2, 3).flip(2)
        # Of a window (i, i + 1), i times the middle tap is the old pixel; the new one is i times the last tap plus
        # i + 1 times the first.
        old = functional.pad(taps[..., 1:2], (0, 1))
        pair = torch.cat([old, torch.cat([taps[..., 2:], taps[..., :1]], 3)])
        return pair if horizontal else pair.transpose(2, 3), self.get_parameter(f"{name}.0.bias").repeat(2)

    def settle(self) -> Self:
        """Keep the weights of the plain convolutions from now on: the network can no longer be trained, nor saved."""
        for i, part, axis in product(range(4), ("deconv", "pred_mask"), "hv"):
            weight, bias = self._weights(name := f"{part}{i}_{axis}")
            self.register_buffer(f"{name}_weight", weight.detach().contiguous())
            self.register_buffer(f"{name}_bias", bias.detach())
        return self


def _up(inputs: int, outputs: int, stride: tuple[int, int]) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=stride, padding=1)
    return nn.Sequential(conv, nn.LeakyReLU(_SLOPE, inplace=True))
