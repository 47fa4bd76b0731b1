"""ELM, expected-loss merging (spx, 2026): FCN's cells merge along contours and an embedding of a second network.

No paper yet. The network looks at the image once, at its own size, unless superpixels are very large there, and down to
a 64th of it. It learns from pairs of regions how many pixels their union would lose (`_pairs`), and beside that
contours at three scales and cells as FCN does. What merges are the cells of FCN, which sees the image enlarged: its own
keep less of the borders, about .004 of ASA on BSDS500 val. FCN's contours are a fourth scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import sqrt
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spx_cli import device
from spx_cli.errors import ParameterError
from spx_cli.methods import _association as association
from spx_cli.methods import create
from spx_cli.methods._association import Grid
from spx_cli.methods._contours import borders, chances, padded
from spx_cli.methods._merging import LOSS
from spx_cli.methods._pairs import PairLoss
from spx_cli.methods._pieces import pieces
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._resize import resize_image
from spx_cli.methods._spixelnet import normalise
from spx_cli.methods._tensors import stack, tensor_to_lab
from spx_cli.methods._torch import TorchMethod
from spx_cli.methods.base import BORDER_PRICE
from spx_cli.params import param
from spx_cli.types import Assignment, Image

CELL = 8  # pixels to a side of a grid cell
WIDTHS = (16, 32, 64, 80, 80, 80, 80)  # channels at full size, then after each halving
DEPTHS = (0, 1, 1, 2, 2, 1, 1)  # residual blocks of the encoder at each size
SCALES = (0, 2, 3)  # halvings at which contours are scored
COARSE = (16, 24, 40)  # pixels to a side of the larger regions that the network is trained on, beside its own cells
LARGEST = 8192  # pixels per superpixel up to which an image is seen at its own size; it learned from 200 to 1,000


class Outputs(NamedTuple):
    """What the network says.

    cells : (B, 9, H, W), scores of the nine grid cells around each pixel's own. contours : at full size and after the
    halvings of SCALES, (B, h, w), scores of a border. embedding : (B, D, H, W).
    """

    cells: Tensor
    contours: list[Tensor]
    embedding: Tensor


@dataclass(frozen=True, kw_only=True)
class ELM(TorchMethod):
    """Merges fine regions by the pixels that each merge is expected to lose; the most accurate method of spx."""

    name = "elm"
    paper = "spx"
    oversegmentation = 6.0
    sees_contours = True
    recipes = {  # noqa: RUF012
        "default": Recipe(
            steps=20_000, batch_size=16, optimizer="muon", lr=1.5e-3, weight_decay=0.02, schedule="one-cycle",
            ema=0.999, clip=1.0, amp="bf16", crop=288, scale_min=0.9, scale_max=1.7, flips="h", rotate=15.0,
            jitter=0.25, validate_counts="200,600", validate_images=25,
        ),
    }  # fmt: skip

    weights: str = param("elm", "bundled weights by name, or the path of a .safetensors file")
    merge: str = param(LOSS, "cost of a merge: loss (pixels expected to be lost), ward, or the path of other weights")
    border_price: float = param(0.02, BORDER_PRICE, ge=0, le=1000)
    embedding: int = param(8, "channels of the embedding whose region means enter the cost of a merge", ge=1, le=64)
    pairs: float = param(1.0, "weight of the loss on pairs of regions", ge=0, le=100)

    def build(self) -> nn.Module:
        """Return the network from normalised images (B, 3, H, W) to `Outputs`."""
        return Network(self.embedding).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        """Return the sum of mean cross entropies: of cells, of contours at all scales, and of pairs of regions."""
        if truth is None or truth.is_floating_point():
            raise ParameterError("elm learns from label maps; this data set has none")
        height, width = images.shape[2:]
        if height % CELL or width % CELL:
            raise ParameterError(f"elm trains on crops of 8 n pixels, such as 288, not {height} x {width}")
        out: Outputs = network(normalise(images))
        with torch.autocast(images.device.type, enabled=False):
            out = Outputs(out.cells.float(), [c.float() for c in out.contours], out.embedding.float())
            grid = Grid(height, width, height // CELL, width // CELL)
            loss = association.grid_loss(out.cells.softmax(1), truth, grid, 0.003) + _contours_loss(out.contours, truth)
            if self.pairs > 0:
                loss = loss + self.pairs * _pairs_loss(cast(Network, network).pairs, out, grid, images, truth)
        return loss

    def assign_batch(self, images: Sequence[Image], n_segments: int) -> list[Assignment]:
        """Return the cells of FCN, with the contours of both networks and the embedding along which to merge them."""
        return [task() for task in self.tasks(images, n_segments)]

    def tasks(self, images: Sequence[Image], n_segments: int) -> Sequence[Callable[[], Assignment]]:
        """Return for each image what is left to do on the CPU for its assignment."""
        height, width = size = images[0].shape[:2]
        fine = self._fine.tasks(images, n_segments)
        scale = sqrt(LARGEST * n_segments / (self.oversegmentation * height * width))
        smaller = size if scale >= 1 else (max(1, round(scale * height)), max(1, round(scale * width)))
        strength, embedding = self._look([i if smaller == size else resize_image(i, smaller) for i in images])
        square = 1  # side of the largest squares of the image of each of which the network saw a pixel
        while all(2 * square * new <= old for old, new in zip(size, smaller, strict=True)):
            square *= 2
        coarse = -(-height // square), -(-width // square)

        def complete(i: int) -> Assignment:
            cells = fine[i]()
            contours = np.empty((len(SCALES) + 1, *size), np.float32)
            contours[:-1] = resized(strength[i : i + 1], size)[0]
            contours[-1] = cells.contours
            vectors = np.ascontiguousarray(resized(embedding[i : i + 1], coarse)[0].transpose(1, 2, 0))
            return cells._replace(contours=contours, embedding=vectors)

        return [partial(complete, i) for i in range(len(images))]

    def _look(self, images: Sequence[Image]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the contours (B, S, H, W) and the embedding (B, D, H, W) of images, of large ones piece by piece."""
        size = images[0].shape[:2]
        contours = np.empty((len(images), len(SCALES), *size), np.float32)
        embedding = np.empty((len(images), self.embedding, *size), np.float32)
        for (y, x), around, (below, right) in pieces(size):
            with device.turn(self.where, self.precision), torch.inference_mode():
                seen = stack([np.ascontiguousarray(image[around]) for image in images], self.where)
                out: Outputs = self.network(normalise(padded(seen, CELL)))
                full = out.contours[0].shape[1:]
                strength = torch.stack([chances(c, (full[0], full[1])) for c in out.contours], 1)
                contours[:, :, y, x] = strength[:, :, below, right].cpu().numpy()
                embedding[:, :, y, x] = out.embedding[:, :, below, right].float().cpu().numpy()
        return contours, embedding

    def weights_identity(self) -> str:
        """Return in words what the weights behind the parameters are, the cells' network included."""
        return f"{super().weights_identity()} on cells of {self._fine.identity()}"

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All networks that segment: its own, and that of the cells."""
        return (self.network, *self._fine.networks)

    @cached_property
    def _fine(self) -> TorchMethod:
        fine: TorchMethod = create("fcn", device=self.device, precision=self.precision)  # type: ignore[assignment]
        return fine

    def contour_scores(self, images: Tensor) -> Tensor:
        """Return the scores of contours, float (B, H, W), for uint8 RGB images (B, 3, H, W) of any size."""
        height, width = images.shape[2:]
        out: Outputs = self.network(normalise(padded(images, CELL)))
        scores: Tensor = out.contours[0][:, :height, :width]
        return scores


def resized(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return maps (B, C, h, w) at another size."""
    out: NDArray[np.float32] = enlarged(torch.from_numpy(maps).flatten(0, 1), size).numpy()
    return out.reshape(*maps.shape[:2], *size)


def _contours_loss(contours: list[Tensor], truth: Tensor) -> Tensor:
    """Return the mean cross entropy at each scale, added; a coarse pixel lies on a border if one of its pixels does."""
    border, known = (x.float()[:, None] for x in borders(truth))
    total = truth.new_zeros((), dtype=torch.float32)
    for scores, halvings in zip(contours, SCALES, strict=True):
        target, seen = (functional.max_pool2d(x, 2**halvings)[:, 0] for x in (border, known))
        terms = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
        total = total + (terms * seen).sum() / seen.sum().clamp(min=1)
    return total


def _pairs_loss(predictor: PairLoss, out: Outputs, grid: Grid, images: Tensor, truth: Tensor) -> Tensor:
    """Return the mean loss on pairs of the network's own cells, and of larger regions that keep to its embedding."""
    size = images.shape[2:]
    contours = torch.cat([enlarged(c, size).sigmoid() for c in out.contours], 1)
    lab = tensor_to_lab(images)
    with torch.no_grad():
        own = association.hard_labels(out.cells, grid)
        cell = COARSE[int(torch.randint(len(COARSE), ()))]
        coarse = Grid(grid.height, grid.width, max(1, grid.height // cell), max(1, grid.width // cell))
        y = torch.arange(grid.height, device=lab.device)[:, None].expand(len(lab), 1, *size)
        x = torch.arange(grid.width, device=lab.device).expand(len(lab), 1, *size)
        features = torch.cat([0.26 * lab, 2.5 / cell * y, 2.5 / cell * x, 4 * out.embedding, 8 * contours[:, :1]], 1)
        larger = association.cluster_labels(features, coarse, 4).long()
        area = float(200 * 5 ** torch.rand(()))  # pixels per region when K is about 150 to 770 on an image of BSDS500
    return 0.5 * sum(
        (
            predictor(labels, cells, contours, out.embedding, lab, truth, area)
            for labels, cells in ((own, grid), (larger, coarse))
        ),
        start=lab.new_zeros(()),
    )


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return scores (B, h, w) at another size, (B, 1, H, W)."""
    x = x[:, None]
    return x if x.shape[2:] == tuple(size) else functional.interpolate(x, tuple(size), mode="bilinear")


class Network(nn.Module):
    """A U-Net of residual blocks that sees a 64th of the image's size; coarse maps are added to fine ones."""

    def __init__(self, embedding: int, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        self.embedding = embedding
        self.stem = nn.Sequential(*_conv(3, widths[0]), *_conv(widths[0], widths[0]))
        self.down, self.up, self.refine = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i in range(1, len(widths)):
            drop = 0.1 if i >= 4 else 0.0
            blocks = [_Residual(widths[i], drop) for _ in range(depths[i])]
            self.down.append(nn.Sequential(*_conv(widths[i - 1], widths[i], stride=2), *blocks))
            self.up.append(
                nn.Sequential(nn.Conv2d(widths[i], widths[i - 1], 1, bias=False), nn.BatchNorm2d(widths[i - 1]))
            )
            self.refine.append(_Residual(widths[i - 1], drop) if i > 1 else nn.LeakyReLU(0.1))
        self.head = nn.Sequential(*_conv(widths[0], 2 * widths[0]), nn.Conv2d(2 * widths[0], 10 + embedding, 1))
        self.contours = nn.ModuleList(nn.Conv2d(widths[s], 1, 1) for s in SCALES[1:])
        self.pairs = PairLoss(len(SCALES))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            cast(nn.Conv2d, self.head[-1]).weight.mul_(0.3)

    def forward(self, x: Tensor) -> Outputs:
        """Return the scores and the embedding of normalised images (B, 3, H, W)."""
        maps = [self.stem(x.to(next(self.parameters()).dtype).contiguous(memory_format=torch.channels_last))]
        for down in self.down:
            maps.append(down(maps[-1]))
        x = maps.pop()
        coarse: dict[int, Tensor] = {}
        for i in range(len(maps) - 1, -1, -1):
            low = functional.interpolate(self.up[i](x), maps[i].shape[2:], mode="bilinear")
            x = self.refine[i](maps.pop() + low)
            if i in SCALES:
                coarse[i] = x
        scores = self.head(x)
        contours = [head(coarse[s])[:, 0] for head, s in zip(self.contours, SCALES[1:], strict=True)]
        return Outputs(scores[:, :9], [scores[:, 9], *contours], scores[:, 10:])


class _Residual(nn.Module):
    def __init__(self, width: int, drop: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        self.drop = nn.Dropout2d(drop)
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.drop(self.body(x)))
        return out


def _conv(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True)]
