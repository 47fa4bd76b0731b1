"""SLIC on a GPU, as in gSLICr (Ren, Prisacariu and Reid, arXiv:1509.04232): a pixel looks at the centres around it.

Where the CPU lets each centre look at a window around itself, here each pixel of a grid cell chooses among the centres
of the nine cells around. Both find nearly the same superpixels, but not the same map.
"""

from functools import partial
from math import sqrt

import torch
from torch import Tensor

from spx_cli.methods import _association as association
from spx_cli.methods._association import Grid
from spx_cli.methods._feedforward import run
from spx_cli.methods._graphs import Graphs
from spx_cli.methods._grid import grid_shape
from spx_cli.methods._tensors import scaled_inputs, tensor_to_lab
from spx_cli.types import Image, Labels

_graphs = Graphs()


def cluster(image: Image, n_segments: int, compactness: float, iterations: int, where: torch.device) -> Labels:
    """Return the map of the nearest centres after `iterations` rounds, int32 (H, W); it may be disconnected.

    compactness : weight of distance in grid spacings against distance in Lab.
    """
    height, width, _ = image.shape
    grid = Grid(height, width, *grid_shape((height, width), n_segments))
    nearest = partial(infer, grid=grid, compactness=compactness, iterations=iterations)
    labels: Labels = run(nearest, [image], where, _graphs, (grid, compactness, iterations, where))[0][0]
    return labels


def infer(images: Tensor, grid: Grid, compactness: float, iterations: int) -> tuple[Tensor]:
    """Return the labels (B, H, W), int32, of uint8 images (B, 3, H, W) on the device."""
    per_pixel = sqrt(grid.cells / (grid.height * grid.width))
    features = scaled_inputs(tensor_to_lab(images), 1 / compactness, per_pixel, torch.contiguous_format)
    return (association.nearest_labels(features, grid, iterations + 1),)
