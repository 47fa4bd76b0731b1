"""A second task for the networks: to say which pixels lie on the border of an object, which steers the merging.

None of the papers has it; `spx eval -p contours=false` shows what it is worth.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spx_cli.errors import ParameterError


def contour_loss(scores: Tensor, truth: Tensor) -> Tensor:
    """Return the mean binary cross entropy over labelled pixels.

    scores (B, H, W); truth int64 (B, H, W), negative = unlabelled.
    """
    border, known = borders(truth)
    terms = functional.binary_cross_entropy_with_logits(scores.float(), border.float(), reduction="none")
    return (terms * known).sum() / known.sum().clamp(min=1)


def borders(truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pixels of label maps (B, H, W) lie on a border, and which are labelled, bool (B, H, W).

    A pixel lies on a border if a pixel beside, above or below it has another label.
    """
    if truth.is_floating_point():
        raise ParameterError("contours are learned from label maps; for another property set contours=false")
    known = truth >= 0
    border = torch.zeros_like(known)
    for axis in (1, 2):
        before, after = slice(0, truth.shape[axis] - 1), slice(1, truth.shape[axis])
        one, other = ((slice(None),) * axis + (part,) for part in (before, after))
        differs = (truth[one] != truth[other]) & known[one] & known[other]
        border[one] |= differs
        border[other] |= differs
    return border, known


def chances(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the chance of a border at each pixel, (B, *size) float32, for scores (B, h, w)."""
    found = sigmoid(scores.float())[:, None]
    if found.shape[2:] != size:
        found = functional.interpolate(found, size, mode="bilinear")
    return found[:, 0].contiguous()


def sigmoid(scores: Tensor) -> Tensor:
    """Return the logistic function of scores, float32, without a gradient.

    Torch on the CPU rounds it otherwise at the end of each thread's share than before it; NumPy rounds all alike.
    """
    if scores.device.type != "cpu":
        return scores.sigmoid()
    return torch.from_numpy(1 / (1 + np.exp(np.minimum(-np.ascontiguousarray(scores.numpy()), np.float32(80)))))


def padded(images: Tensor, multiple: int, rest: int = 0) -> Tensor:
    """Return images (B, C, H, W) with sides of `multiple` n + `rest`, n >= 1, mirrored right and below."""
    for axis in (2, 3):
        length = images.shape[axis]
        wanted = rest + multiple * max(1, -((rest - length) // multiple))
        if wanted > length:
            index = np.pad(np.arange(length), (0, wanted - length), mode="symmetric")
            images = images.index_select(axis, torch.from_numpy(index).to(images.device))
    return images
