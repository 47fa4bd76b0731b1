"""What networks that see one image at a time share: normalisation over the image, and its frame."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Norm(nn.Module):
    """Instance normalisation with scale and shift, also of a single pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(channels, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) with mean `bias` and deviation `weight` in each channel."""
        mean, variance = moments(x)
        scale = self.weight[:, None, None] / (variance + 1e-5).sqrt()
        return torch.addcmul(self.bias[:, None, None] - mean * scale, x, scale)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel of x (B, C, H, W), both (B, C, 1, 1).

    Row by row and then in float64: torch's own normalisations take several times as long, or lose digits, in
    channels_last.
    """
    count = x.shape[2] * x.shape[3]
    mean = x.sum(3, keepdim=True, dtype=torch.float32).double().sum(2, keepdim=True) / count
    square = x.square().sum(3, keepdim=True, dtype=torch.float32).double().sum(2, keepdim=True) / count
    return mean.to(x.dtype), (square - mean.square()).clamp(min=0).to(x.dtype)


def pad(x: Tensor) -> Tensor:
    """Return x (B, C, H, W) with a frame of one pixel, its reflection where there are pixels enough."""
    return functional.pad(x, (1, 1, 1, 1), "reflect" if min(x.shape[2:]) > 1 else "replicate")
