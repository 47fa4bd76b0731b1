"""Images as tensors: stacked, in Lab, and with the positions of their pixels."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from spx_cli.errors import ImageError
from spx_cli.types import Image


def stack(images: Sequence[Image], where: torch.device) -> Tensor:
    """Return images of one size as a uint8 tensor (B, 3, H, W), channels_last; a copy to a GPU is not waited for."""
    cuda = where.type == "cuda"
    batch = torch.empty(len(images), *images[0].shape, dtype=torch.uint8, pin_memory=cuda)
    np.stack(images, out=batch.numpy())
    return batch.to(where, non_blocking=cuda).permute(0, 3, 1, 2)


# Kept for good: a captured CUDA graph may read it.
@cache
def _lab_tables(where: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    level = torch.arange(256, dtype=torch.float64) / 255
    linear = torch.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    to_xyz = torch.tensor(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
        dtype=torch.float64,
    )
    white = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64)
    with torch.inference_mode(False):  # what a segmentation leaves here must serve training too
        return linear.to(where, dtype), (to_xyz / white[:, None]).to(where, dtype)


def check_bytes(images: Tensor) -> None:
    """Raise ImageError unless `images` are uint8 (B, 3, H, W): as indices of a table, floats up to 1 would be black."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ImageError(f"images must be uint8 (B, 3, H, W), 0 to 255, not {images.dtype} {tuple(images.shape)}")


def tensor_to_lab(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return Lab (D65), (B, 3, H, W), of uint8 RGB, on the same device; `color.rgb_to_lab` for tensors."""
    check_bytes(images)
    linear, to_xyz = _lab_tables(images.device, dtype)
    rgb = linear[images.long()]
    # Written out: as a matrix product it would be rounded wherever products are, under autocast or in TF32.
    t = sum((rgb[:, c : c + 1] * to_xyz[:, c, None, None] for c in range(3)), start=torch.zeros_like(rgb))
    f = torch.where(t > 0.008856, _cube_root(t.clamp(min=1e-6)), 7.787 * t + 16 / 116)
    return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def _cube_root(t: Tensor) -> Tensor:
    """Return t^(1/3) within 2e-7 for float32 and 1e-15 for float64, 0 < t <= 1.1; see `color._lab_f`.

    On the CPU torch rounds a power otherwise at the end of each thread's share of the pixels than before it, so a map
    would depend on the number of threads. Sums, products, quotients and square roots have one rounding.
    """
    u = t.sqrt().sqrt()
    root = -0.04940759 + u * (0.73443874 + u * 0.31808401)
    for _ in range(2 if t.dtype == torch.float64 else 1):
        cube = root * root * root
        root = root * ((cube + t + t) / (cube + cube + t))
    return root


INPUTS = 5  # L, a, b, y, x


def scaled_inputs(
    lab: Tensor, color_scale: float, position_scale: float, layout: torch.memory_format = torch.channels_last
) -> Tensor:
    """Return (B, 5, H, W): scaled L, a, b and the scaled row and column of each pixel, from 0."""
    batch, _, height, width = lab.shape
    x = torch.empty(batch, INPUTS, height, width, dtype=lab.dtype, device=lab.device, memory_format=layout)
    x[:, :3] = lab * color_scale
    x[:, 3] = torch.arange(height, dtype=lab.dtype, device=lab.device)[:, None] * position_scale
    x[:, 4] = torch.arange(width, dtype=lab.dtype, device=lab.device) * position_scale
    return x
