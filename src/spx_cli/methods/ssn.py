"""SSN (Jampani et al., ECCV 2018, arXiv:1807.10174): differentiable SLIC over features that a small network learns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from numbers import Integral
from typing import Any, Self, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spx_cli import color
from spx_cli.errors import ParameterError
from spx_cli.methods import _association as association
from spx_cli.methods._association import Grid, SoftSuperpixels
from spx_cli.methods._contours import chances, contour_loss
from spx_cli.methods._feedforward import FeedForward, inward
from spx_cli.methods._pieces import in_pieces
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._tensors import INPUTS, check_bytes, scaled_inputs, tensor_to_lab
from spx_cli.params import param
from spx_cli.types import Assignment, Image

# Pixels to a side of the training crops, less one, and of the superpixels there: where contours are learned.
_TRAINED_SIDE, _TRAINED_CELL = 200, 20
# Pixels around a piece of a large image that its features depend on; a multiple of 16, the coarsest scale.
_REACH = 96


@dataclass(frozen=True, kw_only=True)
class SSN(FeedForward):
    """Clusters of learned pixel features, each pixel choosing among the nine seeds of the grid around it."""

    name = "ssn"
    paper = "arXiv:1807.10174"
    oversegmentation = 2.0
    sees_contours = True
    recipes = {  # noqa: RUF012
        "paper": Recipe(
            steps=500_000, batch_size=8, lr=1e-4, crop=201, scale_min=0.75, scale_max=3.0, scale_sd=0.75, flips="h"
        ),
        "short": Recipe(
            steps=36_000, batch_size=2, optimizer="muon", lr=1e-3, schedule="one-cycle", ema=0.999, clip=1.0,
            amp="bf16", crop=201, scale_min=0.75, scale_max=2.0, flips="h",
            validate_counts="200,600", validate_images=25,
        ),
    }  # fmt: skip

    weights: str = param("ssn", "bundled weights by name, or the path of a .safetensors file")
    variant: str = param(
        "deep", "features: seven layers, one linear layer, or Lab and position", choices=("deep", "linear", "pix")
    )
    iterations: int = param(10, "v: rounds of differentiable SLIC", ge=1, le=1000)
    channels: int = param(20, "k: features per pixel, five of them Lab and position", ge=INPUTS + 1, le=256)
    eta: float = param(2.5, "weight of position: each is scaled by eta * cells per pixel", ge=1e-4, le=1e4)
    color_scale: float = param(0.26, "gamma_color: scale of Lab", ge=1e-4, le=1e4)
    train_iterations: int = param(5, "rounds of differentiable SLIC in training", ge=1, le=100)
    train_segments: int = param(100, "superpixels per training crop", ge=1, le=100_000)
    compactness: float = param(1e-5, "lambda: weight of the compactness loss", ge=0, le=1e6)
    contours: bool = param(True, "learn the borders of objects too, and merge along them; the paper's network does not")

    def build(self) -> nn.Module:
        """Return the network from inputs (B, 5, H, W) to features (B, channels, H, W)."""
        if self.variant == "pix":
            return nn.Identity()
        network = Deep(self.channels, contours=self.contours) if self.variant == "deep" else linear(self.channels)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def deploy(self, network: nn.Module) -> nn.Module:
        """Return the network folded; only the deep one knows other types than float32."""
        return super().deploy(network) if self.variant == "deep" else network

    def inputs(self, images: Tensor, grid: Grid) -> Tensor:
        """Return scaled (L, a, b, y, x), float32 (B, 5, H, W), for uint8 RGB images."""
        last = images.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return scaled_inputs(tensor_to_lab(images), self.color_scale, position_scale(grid, self.eta), layout)

    def soften(self, network: nn.Module, images: Tensor, n_segments: int, iterations: int) -> SoftSuperpixels:
        """Return differentiable superpixels of uint8 RGB images (B, 3, H, W), to build into a larger network.

        network : what `load` or `build` returned, on the device of the images; it may be wrapped.

        Raises ImageError for other images, ParameterError for a count or a number of rounds below 1.
        """
        check_bytes(images)
        if not all(isinstance(number, Integral) and number > 0 for number in (n_segments, iterations)):
            raise ParameterError(f"n_segments and iterations must be at least 1, not {n_segments} and {iterations}")
        grid = seed_grid((images.shape[2], images.shape[3]), n_segments)
        return _soften(network(self.inputs(images, grid)), grid, iterations)

    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        """Return reconstruction plus `compactness` times compactness (Jampani equations 5 to 7).

        truth : labels as int64 (B, H, W), compared by cross entropy; or any dense property as float (B, D, H, W), such
            as optical flow, compared by its absolute difference.
        With contours, half their cross entropy is added.
        """
        if truth is None:
            raise ParameterError("ssn learns from label maps or another dense property; this data set has none")
        grid = seed_grid((images.shape[2], images.shape[3]), self.train_segments)
        features, scores = _with_contours(network, self.inputs(images, grid))
        soft = _soften(features, grid, self.train_iterations)
        loss = reconstruction_loss(soft.q, truth, grid) + self.compactness * compactness_loss(soft.q, grid)
        return loss if scores is None else loss + 0.5 * contour_loss(scores, truth)

    def infer(self, images: Tensor, size: tuple[int, int], n_segments: int) -> Sequence[Tensor]:
        """Return the hard labels after `iterations` rounds, the features that were clustered, and the contours."""
        grid = seed_grid(size, n_segments)

        def see(piece: Tensor, place: tuple[int, int]) -> Sequence[Tensor]:
            features, scores = _with_contours(self.network, piece)
            return (features,) if scores is None or not self.contours else (features, scores)

        features, *scores = in_pieces(see, self.inputs(images, grid), _REACH)
        if self.variant == "deep":
            inward(features[:, : self.channels - INPUTS])
        labels = association.cluster_labels(features, grid, self.iterations)
        return (labels, features.permute(0, 2, 3, 1).contiguous(), *(chances(s, size) for s in scores))

    def complete(self, image: Image, *outputs: NDArray[Any]) -> Assignment:
        """Return the labels with their features."""
        contours = outputs[2] if len(outputs) > 2 else None
        return Assignment(outputs[0], outputs[1], 0.0, contours, lab=color.rgb_to_lab(image))

    def contour_scores(self, images: Tensor) -> Tensor:
        """Return the scores of contours, float (B, H, W), for uint8 RGB images (B, 3, H, W) of any size.

        Positions are those of a training crop, run through forth and back: beyond them the network sees contours worse
        (ODS on val .687 instead of .697).
        """
        size = images.shape[2], images.shape[3]
        x = self.inputs(images, Grid(*size, 1, 1))
        scale = self.eta / _TRAINED_CELL
        x[:, 3] = scale * _folded(size[0], x.device)[:, None]
        x[:, 4] = scale * _folded(size[1], x.device)
        scores = _with_contours(self.network, x)[1]
        return super().contour_scores(images) if scores is None else scores

    def like(self, state: Mapping[str, Tensor]) -> Self:
        """Return the method with contours if the state dict has them."""
        last = state.get("output_conv.0.weight")
        return self if last is None else replace(self, contours=len(last) > self.channels - INPUTS)


def _folded(length: int, where: torch.device) -> Tensor:
    """Return 0, 1, ..., _TRAINED_SIDE, ..., 1, 0, 1, ...: positions of a training crop, (length,)."""
    return _TRAINED_SIDE - (torch.arange(length, device=where) % (2 * _TRAINED_SIDE) - _TRAINED_SIDE).abs()


def _with_contours(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    return network.with_contours(x) if isinstance(network, Deep) else (network(x), None)


def _soften(features: Tensor, grid: Grid, iterations: int) -> SoftSuperpixels:
    return SoftSuperpixels(association.cluster(features.float(), grid, iterations)[0], grid)


def seed_grid(size: tuple[int, int], n_segments: int) -> Grid:
    """Return the grid of about square cells with at most n_segments cells, at least one and never finer than pixels."""
    height, width = size
    rows, columns = int(sqrt(n_segments * height / width)), int(sqrt(n_segments * width / height))
    if rows < 1 or columns < 1:  # a strip narrower than a cell
        rows, columns = (1, n_segments) if height < width else (n_segments, 1)
    return Grid(height, width, min(rows, height), min(columns, width))


def position_scale(grid: Grid, eta: float) -> float:
    """Return gamma_pos, the scale of pixel coordinates: eta times the larger number of cells per pixel."""
    return eta * max(grid.rows / grid.height, grid.columns / grid.width)


def reconstruction_loss(q: Tensor, truth: Tensor, grid: Grid) -> Tensor:
    """Return how badly pooled truth gives itself back (Jampani equation 5).

    Labels, int64 (B, H, W): mean cross entropy over labelled pixels. Floats (B, D, H, W), NaN where unknown: mean
    absolute difference over known pixels.
    """
    if truth.is_floating_point():
        known = (~truth.isnan().any(1, keepdim=True)).to(truth.dtype)
        pooled = association.pool(q, torch.cat([truth.nan_to_num(0.0) * known, known], 1), grid)
        means = pooled[:, :-1] / pooled[:, -1:].clamp(min=association.EPSILON)
        difference = (association.unpool(q, means, grid) - truth.nan_to_num(0.0)).abs() * known
        return difference.sum() / (known.sum() * truth.shape[1]).clamp(min=1)
    agreement = association.label_agreement(q, truth, grid)
    return -(agreement + association.EPSILON).log().sum() / (truth >= 0).sum().clamp(min=1)


def compactness_loss(q: Tensor, grid: Grid) -> Tensor:
    """Return the mean squared distance in pixels, per axis, to the centre of a pixel's hard superpixel (equation 6)."""
    # Coordinates are not scaled, as in the PyTorch port; the authors' Caffe loss is about 2500 times this one.
    y, x = torch.arange(grid.height, device=q.device), torch.arange(grid.width, device=q.device)
    position = torch.stack(torch.meshgrid(y, x, indexing="ij")).to(q.dtype).expand(len(q), -1, -1, -1)
    centres = association.pool(q, position, grid).flatten(2)
    hard = association.hard_labels(q, grid).flatten(1)
    return (centres.gather(2, hard[:, None].expand(-1, 2, -1)).view_as(position) - position).square().mean()


class Deep(nn.Module):
    """The network of Jampani figure 3, in the layout of its PyTorch ports; (B, 5, H, W) -> (B, channels, H, W).

    With `contours` it looks further: two coarser scales join the third, and the last convolution has one more channel,
    which scores the borders of objects.
    """

    def __init__(self, channels: int, width: int = 64, *, contours: bool = False) -> None:
        super().__init__()
        self.learned, self.contours = channels - INPUTS, contours
        self.scale1 = nn.Sequential(_block(INPUTS, width), _block(width, width))
        self.scale2 = _coarser(width, width)
        self.scale3 = _coarser(width, width)
        if contours:
            self.scale4 = _coarser(width, 2 * width)
            self.scale5 = _coarser(2 * width, 2 * width)
            self.join5 = nn.Conv2d(2 * width, 2 * width, 1)
            self.join4 = nn.Conv2d(2 * width, width, 1)
        last = nn.Conv2d(3 * width + INPUTS, self.learned + contours, 3, padding=1)
        self.output_conv = nn.Sequential(last, nn.ReLU(inplace=True))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # The authors start at a deviation of 0.001, far below the epsilon of the first normalisations; after a
                # short run half of the features were dead.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        with torch.no_grad():
            last.weight[: self.learned] *= 4  # features as large as the inputs beside them
            last.weight[:, :INPUTS] *= 0.1
            nn.init.zeros_(cast(Tensor, last.bias))
            for name, parameter in self.named_parameters():
                if name.startswith("join"):  # the coarser scales grow into the paper's network
                    nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features: the input follows the learned ones."""
        return self.with_contours(x)[0]

    def with_contours(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the features, and the scores of contours, (B, H, W), of a network that has them."""
        last = cast(nn.Conv2d, self.output_conv[0])
        width = (last.weight.shape[1] - INPUTS) // 3
        first, *others = torch.split(last.weight, [INPUTS, width, width, width], 1)
        # The last layer adds up map by map: to concatenate all maps, and take their gradient apart, costs half as much
        # as the convolutions do.
        s = x.to(last.weight.dtype)
        total = functional.conv2d(s, first, last.bias, padding=1)
        for scale, weight in zip((self.scale1, self.scale2, self.scale3), others, strict=True):
            lean = scale is self.scale1 and x.device.type == "cpu" and not (self.training or torch.is_grad_enabled())
            s = _by_strips(scale, s) if lean else scale(s)
            seen = self._with_context(s) if self.contours and scale is self.scale3 else s
            # No name for the enlarged map: it would keep the one before alive while this one is made.
            total += functional.conv2d(_enlarge(seen, x), weight, padding=1)
        contours = total[:, self.learned].clone() if self.contours else None
        return torch.cat([self.output_conv[1](total[:, : self.learned]).to(x.dtype), x], 1), contours

    def _with_context(self, s: Tensor) -> Tensor:
        fourth = self.scale4(s)
        fourth = fourth + _enlarge(self.join5(self.scale5(fourth)), fourth)
        return s + _enlarge(self.join4(fourth), s)


def _enlarge(s: Tensor, x: Tensor) -> Tensor:
    return s if s.shape[2:] == x.shape[2:] else functional.interpolate(s, x.shape[2:], mode="bilinear")


def _by_strips(scale: nn.Module, x: Tensor, height: int = 32) -> Tensor:
    """Return what two 3 x 3 convolutions make of x, a few rows at a time: one large map is alive instead of two."""
    rows, out = x.shape[2], x.new_empty(0)
    for top in range(0, rows, height):
        above = max(top - 2, 0)
        strip = scale(x[:, :, above : top + height + 2])[:, :, top - above :][:, :, :height]
        if top == 0:
            out = x.new_empty(len(x), rows, x.shape[3], strip.shape[1]).permute(0, 3, 1, 2)
        out[:, :, top : top + height] = strip
    return out


def _coarser(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.MaxPool2d(3, 2, padding=1), _block(inputs, outputs), _block(outputs, outputs))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def linear(channels: int) -> nn.Module:
    """Return one linear layer, which starts as Lab and position followed by zeros; the paper's ablation."""
    layer = nn.Conv2d(INPUTS, channels, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight[:INPUTS, :, 1, 1] += torch.eye(INPUTS)
    return layer
