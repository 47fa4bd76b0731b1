"""What regions merge by where no label may have been seen: colour, position, and edges of colour."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.color import rgb_to_lab
from spx_cli.methods._gradient import fill_gradient
from spx_cli.methods._smoothing import smooth
from spx_cli.types import Assignment, Contours, Features, Image

# A channel that varies less, in units of Lab or pixels, stays small: of grey images a and b are mere rounding.
FLAT = 0.5
# Weight of positions beside colours, and the gradient, in Lab per pixel, whose edge strength is one half. Chosen on
# BSDS500 val; twice or half as much makes little difference.
_NEARNESS, _HALF = 3.0, 5.0


def unlabelled(
    labels: NDArray[Any], image: Image, *, edges: bool = True, contours: Contours | None = None
) -> Assignment:
    """Return the assignment whose regions merge by colour and position, and rather not across edges of colour.

    On BSDS500 val that is worth .002 ASA more than merging by the features of LNS-Net or SEN, and as much again with
    edges.

    contours : float32 (H, W), 0 to 1, in place of edges of colour: what a network knows that saw no label, either.
    """
    lab = rgb_to_lab(image)
    along = colour_edges(lab) if edges and contours is None else contours
    return Assignment(labels, _standardise(lab), 0.0, along, lab=lab, edges=edges and contours is None)


def colour_edges(lab: Features) -> Contours:
    """Return how strong the edge of colour at each pixel of Lab is, float32 (H, W), 0 to 1."""
    strength = np.empty(lab.shape[:2], np.float32)
    fill_gradient(smooth(lab, 4), np.float32(0), np.float32(1), strength)  # a blur of about 1.4 pixels
    strength /= strength + np.float32(_HALF)
    return strength


def _standardise(lab: Features) -> Features:
    """Return (L, a, b, y, x), float32 (H, W, 5): deviation 1 in each colour, _NEARNESS in each position."""
    height, width, _ = lab.shape
    out = np.empty((height, width, 5), np.float32)
    y, x = np.arange(height), np.arange(width)
    _fill(lab, _NEARNESS / max(y.std(), FLAT), _NEARNESS / max(x.std(), FLAT), out)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(lab, per_row, per_column, out):
    """lab (H, W, 3); out (H, W, 5) takes standardised colours, and positions in units per row and column."""
    height, width, _ = lab.shape
    mean, scale = np.zeros(3), np.zeros(3)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                mean[c] += lab[y, x, c]
    mean /= height * width
    for y in range(height):
        for x in range(width):
            for c in range(3):
                scale[c] += (lab[y, x, c] - mean[c]) ** 2
    for c in range(3):
        scale[c] = 1 / max(np.sqrt(scale[c] / (height * width)), FLAT)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                out[y, x, c] = (lab[y, x, c] - mean[c]) * scale[c]
            out[y, x, 3] = per_row * y
            out[y, x, 4] = per_column * x
