"""SEN (Gaur and Manjunath, TIP 2020): SNIC on pixel embeddings that a network learns from SNIC's own superpixels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log
from typing import Any, Self, cast

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spx_cli import device
from spx_cli.color import rgb_to_lab
from spx_cli.errors import ParameterError
from spx_cli.methods._merging import WARD
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._snic import grow
from spx_cli.methods._tensors import stack, tensor_to_lab
from spx_cli.methods._torch import TorchMethod
from spx_cli.methods._unlabelled import unlabelled
from spx_cli.methods.base import check_count
from spx_cli.params import param
from spx_cli.types import Assignment, Image, Labels, check_image

LEVELS = 5  # halvings of the image; its sides are padded to multiples of 2^LEVELS
# Borders, from which regions merge last, are seen over these distances in pixels, and full from about this distance of
# embeddings on. Over 2 pixels alone F1 is .003 lower.
REACH, STEP = (2, 4, 6), 0.2
# Half of the 3 x 3 neighbourhoods of dilation 1, 2 and 3: the other half are the same pairs seen from the other pixel.
OFFSETS = tuple((d * dy, d * dx) for d in (1, 2, 3) for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)))


@dataclass(frozen=True, kw_only=True)
class SEN(TorchMethod):
    """Regions grown on embeddings of texture. The network learns from images alone: no labels are needed, nor used."""

    name = "sen"
    paper = "doi:10.1109/TIP.2019.2957937"
    label_free = True
    oversegmentation = 8.0
    recipes = {  # noqa: RUF012
        "short": Recipe(
            steps=2500, batch_size=4, optimizer="muon", lr=5e-4, schedule="one-cycle", ema=0.999, clip=1.0,
            crop=160, scale_min=0.7, scale_max=1.5, flips="h", validate_counts="50,200", validate_images=25,
        ),
    }  # fmt: skip

    merge: str = param(WARD, "cost of a merge: ward has seen no label; loss has, in the weights of its cost")
    weights: str = param("sen", "bundled weights by name, or the path of a .safetensors file")
    channels: int = param(8, "D: length of an embedding", ge=2, le=64)
    width: int = param(4, "channels of the network at full size; they double with each of five halvings", ge=1, le=32)
    clustering: bool = param(False, "shift embeddings to the modes of their density, as in the paper")
    iterations: int = param(1, "mean-shift steps", ge=1, le=20)
    anchor: int = param(16, "side of the blocks whose mean embeddings stand for the density, pixels", ge=1, le=256)
    compactness: float = param(
        0.03, "m', weight of distance in position against distance of embeddings", ge=0.001, le=1000
    )
    spacing: float = param(20.0, "mean distance of seeds of the superpixels to learn from, pixels", ge=1, le=1000)
    roundness: float = param(60.0, "mean compactness of these superpixels, as of snic", ge=0.01, le=1e6)
    variety: float = param(2.5, "both vary between their mean divided and multiplied by this", ge=1, le=100)
    alpha: float = param(0.0, "distance that embeddings of one superpixel may have", ge=0, le=1)
    apart: float = param(
        50.0, "distance of mean Lab from which on embeddings of two superpixels are opposite", ge=1, le=1000
    )
    exponent: float = param(
        2.0, "how the margin grows with that distance: 1 as in the paper, 2 with its square", ge=0.1, le=10
    )
    exact: bool = param(True, "embeddings beyond the margin cost, too; false is the paper's hinge")
    noise: float = param(2.0, "standard deviation of the noise on training images, in Lab", ge=0, le=100)
    share: float = param(0.5, "share of the pixels that a training step compares with their neighbours", ge=0.01, le=1)

    def build(self) -> nn.Module:
        """Return the network from standardised Lab (B, 3, 32 h, 32 w) to embeddings before and after each step."""
        clustering = MeanShift(self.anchor, self.iterations) if self.clustering else None
        network = Embedder(self.channels, self.width, clustering)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def teacher(self) -> Callable[[Image, np.random.Generator], Labels]:
        """Return `pseudo_labels`."""
        return self.pseudo_labels

    def pseudo_labels(self, image: Image, rng: np.random.Generator) -> Labels:
        """Return SNIC superpixels of a random size and compactness: what the network learns from."""
        spacing, roundness = (mean * self.variety ** rng.uniform(-1, 1) for mean in (self.spacing, self.roundness))
        height, width, _ = image.shape
        return grow(rgb_to_lab(image), max(1, round(height * width / spacing**2)), roundness)

    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        """Return the variable-margin contrastive loss, summed over the embeddings before and after each step.

        truth : superpixels of the images, from `pseudo_labels`.
        """
        height, width = images.shape[2:]
        if height % 2**LEVELS or width % 2**LEVELS or min(height, width) < 2 ** (LEVELS + 1):
            raise ParameterError(f"sen trains on crops of 32 n pixels from 64 on, such as 224, not {height} x {width}")
        if truth is None:
            raise ParameterError("sen learns from superpixels of the images; none were given")
        lab = tensor_to_lab(images)
        margins = variable_margins(lab, truth, self.apart, self.exponent)
        x = standardise(lab + self.noise * torch.randn_like(lab))
        chosen = torch.rand(truth.shape, device=truth.device) < self.share
        weight = of_pairs(lambda a, b: a.float() + b, chosen)
        losses = [contrastive_loss(e.float(), margins, weight, self.alpha, exact=self.exact) for e in network(x)]
        return torch.stack(losses).sum()

    def assign_batch(self, images: Sequence[Image], n_segments: int) -> list[Assignment]:
        """Return the regions that SNIC grows on the embeddings (Gaur equation 7), and the embeddings."""
        return [task() for task in self.tasks(images, n_segments)]

    def tasks(self, images: Sequence[Image], n_segments: int) -> Sequence[Callable[[], Assignment]]:
        """Return for each image its growth, which is left to the CPU."""
        with device.turn(self.where, self.precision):
            embedded = self.embed(images)
        return [partial(self._grow, image, rows, n_segments) for image, rows in zip(images, embedded, strict=True)]

    def segment_counts(self, image: Image, counts: Iterable[int]) -> list[Labels]:
        """Return a label map for each count, all from one pass of the network."""
        check_image(image)
        counts = list(counts)
        for count in counts:
            check_count(count, image)
        with device.turn(self.where, self.precision):
            (rows,) = self.embed([image])
        return [self.finish(self._grow(image, rows, self.asked(image, n, None, native=False)), n) for n in counts]

    def embed(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return halved embeddings, (B, H, W, D): their squared distance is the paper's cosine distance."""
        height, width, _ = images[0].shape
        top, bottom = _margin(height)
        left, right = _margin(width)
        around = ((top, bottom), (left, right), (0, 0))
        with torch.inference_mode():
            x = stack([np.pad(image, around, mode="reflect") for image in images], self.where)
            last = self.network(standardise(tensor_to_lab(x)))[-1][:, :, top : top + height, left : left + width]
            rows: NDArray[np.float32] = (0.5 * last.float()).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return rows

    def _grow(self, image: Image, rows: NDArray[np.float32], n_segments: int) -> Assignment:
        return unlabelled(grow(rows, n_segments, self.compactness), image, contours=_steps(rows))

    def like(self, state: Mapping[str, Tensor]) -> Self:
        """Return the method with the sizes and the clustering that a state dict shows."""
        first, last = state.get("down.0.0.0.weight"), state.get("last.weight")
        if first is None or last is None:
            return self
        return replace(self, width=len(first), channels=len(last), clustering="cluster.kappa" in state)


@njit(cache=True, nogil=True, error_model="numpy")
def _steps(rows):
    """rows (H, W, D) float32, halved embeddings. Returns how steep they are at each pixel, (H, W) float32, 0 to 5/6.

    Steepness is d / (d + STEP), d the largest distance across the pixel along rows, columns or diagonals: what lies far
    apart is a border however far. It is the mean over REACH, the pixels to either side.
    """
    height, width, channels = rows.shape
    out = np.zeros((height, width), np.float32)
    for reach in REACH:
        for y in range(height):
            up, down = max(y - reach, 0), min(y + reach, height - 1)
            for x in range(width):
                left, right = max(x - reach, 0), min(x + reach, width - 1)
                most = np.float32(0)
                across = (y, left, y, right), (up, x, down, x), (up, left, down, right), (up, right, down, left)
                for a, b, c, d in across:
                    distance = np.float32(0)
                    for i in range(channels):
                        difference = rows[a, b, i] - rows[c, d, i]
                        distance += difference * difference
                    most = max(most, distance)
                out[y, x] += most / (most + np.float32(STEP)) / np.float32(len(REACH))
    return out


def standardise(lab: Tensor) -> Tensor:
    """Return Lab (B, 3, H, W) as the network takes it: about as far from 0 in each channel."""
    return torch.cat([(lab[:, :1] - 50) / 25, lab[:, 1:] / 12], 1)


def _margin(length: int) -> tuple[int, int]:
    """Return the pixels to add on both sides so that the network can halve the length; it needs two at the end."""
    side = 2**LEVELS
    missing = max(2 * side, -(-length // side) * side) - length
    return missing // 2, missing - missing // 2


def _pair(x: Tensor, offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return two views of x (..., H, W): the pixels that have a neighbour at the offset, and these neighbours."""
    (dy, dx), (height, width) = offset, x.shape[-2:]
    left, right = max(-dx, 0), max(dx, 0)
    return x[..., : height - dy, left : width - right], x[..., dy:, right : width - left]


def of_pairs(value: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    """Return value(x at a pixel, x at its neighbour), float32 (B, offsets, H, W), 0 for neighbours beyond the image.

    x : (B, H, W) or (B, C, H, W); `value` takes away C.
    """
    out = x.new_zeros(len(x), len(OFFSETS), *x.shape[-2:], dtype=torch.float32)
    for i, offset in enumerate(OFFSETS):
        _pair(out[:, i], offset)[0].copy_(value(*_pair(x, offset)))
    return out


class Cosines(torch.autograd.Function):
    """Inner products of all pairs of neighbours, (B, D, H, W) -> (B, offsets, H, W).

    Its gradient gathers in place; slices that autograd differentiates one by one cost a map each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the products."""
        ctx.save_for_backward(x)
        return of_pairs(lambda a, b: (a * b).sum(1), x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Return the gradient of x."""
        (x,) = ctx.saved_tensors
        out = torch.zeros_like(x)
        for i, offset in enumerate(OFFSETS):
            g = _pair(grad[:, i : i + 1], offset)[0]
            (first, second), (to_first, to_second) = _pair(x, offset), _pair(out, offset)
            to_first.addcmul_(g, second)
            to_second.addcmul_(g, first)
        return out


def variable_margins(lab: Tensor, superpixels: Tensor, apart: float, exponent: float) -> Tensor:
    """Return beta_ij of each pair of neighbours, (B, offsets, H, W) in 0..1, and -1 for those of one superpixel.

    It is the distance of the two superpixels' mean Lab over `apart`, to the power of `exponent` (Gaur equation 3: 1).
    lab (B, 3, H, W); superpixels int64 (B, H, W), ids from 0.
    """
    batch, channels, *_ = lab.shape
    count = int(superpixels.max()) + 1
    ids = (superpixels + count * torch.arange(batch, device=lab.device)[:, None, None]).flatten()
    values = torch.cat([lab, torch.ones_like(lab[:, :1])], 1).permute(0, 2, 3, 1).reshape(-1, channels + 1)
    total = values.new_zeros(batch * count, channels + 1).index_add_(0, ids, values)
    mean = total[:, :channels] / total[:, channels:].clamp(min=1)
    colour = mean[ids].view(batch, *superpixels.shape[1:], channels).permute(0, 3, 1, 2).contiguous()
    margin = of_pairs(lambda a, b: ((a - b).square().sum(1) / apart**2).pow(exponent / 2).clamp(max=1.0), colour)
    return margin.masked_fill_(of_pairs(torch.eq, superpixels) > 0, -1.0)


def contrastive_loss(embeddings: Tensor, margins: Tensor, weight: Tensor, alpha: float, *, exact: bool) -> Tensor:
    """Return the mean loss of matching pairs plus that of the others (Gaur equation 4).

    exact : pairs of two superpixels further apart than their margin cost their excess; the paper lets them.
    embeddings (B, D, H, W) of unit length; margins as from `variable_margins`; weight (B, offsets, H, W) of each pair.
    """
    cosines: Tensor = Cosines.apply(embeddings.contiguous())
    distance = 0.5 - 0.5 * cosines
    same = margins < 0
    near, far = weight * same, weight * ~same
    pull = (near * (distance - alpha).relu()).sum() / near.sum().clamp(min=1)
    missing = margins - distance
    push = (far * (missing.abs() if exact else missing.relu())).sum() / far.sum().clamp(min=1)
    return pull + push


class MeanShift(nn.Module):
    """Gaussian blurring mean shift on the unit sphere (Gaur equation 6): every point moves to the mean around it.

    The kernel is exp(kappa x.y), kappa learned. The density is that of anchors, the mean embeddings of blocks, which
    move along: pixels x anchors products in place of pixels x pixels, and exact where a block is a pixel.
    """

    def __init__(self, block: int, iterations: int, kappa: float = 150.0) -> None:
        super().__init__()
        self.block, self.iterations = block, iterations
        self.kappa = nn.Parameter(torch.tensor([log(kappa)]))  # its logarithm, so that it stays positive

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the embeddings (B, D, H, W) after each step, for embeddings of unit length."""
        anchors = functional.avg_pool2d(x, self.block, ceil_mode=True, count_include_pad=False)
        anchors = functional.normalize(anchors, dim=1).permute(0, 2, 3, 1).flatten(1, 2)
        points, found = x.permute(0, 2, 3, 1).flatten(1, 2), []
        for _ in range(self.iterations):
            points, anchors = self.shift(points, anchors), self.shift(anchors, anchors)
            found.append(points.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2))
        return found

    def shift(self, points: Tensor, anchors: Tensor) -> Tensor:
        """Return the kernel-weighted mean of the anchors (B, M, D) around each point (B, N, D), of unit length."""
        kappa = self.kappa.exp().to(points.dtype)
        # attention without its root of D: the weights are exp(kappa x.y) over their sum, N x M of them never in memory
        anchors = anchors[:, None]
        mean = functional.scaled_dot_product_attention((points * kappa)[:, None], anchors, anchors, scale=1.0)
        return functional.normalize(mean[:, 0], dim=-1)


class Embedder(nn.Module):
    """U-Net of five halvings; nearest upsampling, reflection at the borders; embeddings of unit length."""

    def __init__(self, channels: int, width: int, cluster: MeanShift | None) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(LEVELS + 1)]
        self.down = nn.ModuleList(
            nn.Sequential(_block(before, after, 1 if i == 0 else 2), _block(after, after))
            for i, (before, after) in enumerate(zip([3, *widths], widths, strict=False))
        )
        steps = range(LEVELS - 1, -1, -1)
        # the last map is as wide as an embedding, or a narrow network could not fill it
        outs = [max(width, channels), *widths[1:]]
        self.up = nn.ModuleList(_block(widths[i + 1], widths[i]) for i in steps)
        self.join = nn.ModuleList(_block(2 * widths[i], outs[i]) for i in steps)
        self.last = nn.Conv2d(outs[0] + 3, channels, 1)
        with torch.no_grad():  # start near the colours themselves, a quarter of the sphere
            self.last.weight.mul_(0.2)
            self.last.weight[:3, -3:, 0, 0] += torch.eye(3)[:channels]
            cast(Tensor, self.last.bias).copy_(torch.arange(channels) == channels - 1)
        self.cluster = cluster

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the embeddings of the U-Net, (B, D, H, W), and what each step of the clustering makes of them."""
        x, maps = x.to(self.last.weight.dtype), []
        colour = x
        for down in self.down:
            x = down(x)
            maps.append(x)
        x = maps.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([functional.interpolate(up(x), scale_factor=2.0, mode="nearest"), maps.pop()], 1))
        x = functional.normalize(self.last(torch.cat([x, colour], 1)), dim=1)
        return [x] if self.cluster is None else [x, *self.cluster(x)]


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, padding_mode="reflect", bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True))
