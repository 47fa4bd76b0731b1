"""Superpixels as a graph for a classifier: colour, area and place of each region, and which regions touch.

    python examples/region_features.py

The pictures show shapes of four materials that differ in colour only on average. A network of two layers looks at each
region and at the mean of its neighbours, and says of which material it is. `edge_index` has the form that PyTorch
Geometric takes. It runs for a few seconds on a CPU.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import spx_cli as spx
from train_through_superpixels import CLASSES, make_batch

K = 60


class Regions(NamedTuple):
    """What is known of K regions.

    color : (K, 3), mean RGB, 0 to 1. area : (K,) pixels. centroid : (K, 2), mean row and column in pixels.
    edge_index : (2, E) int64, pairs of regions that share a border, each in both directions.
    """

    color: NDArray[np.float64]
    area: NDArray[np.int64]
    centroid: NDArray[np.float64]
    edge_index: NDArray[np.int64]


def region_features(image: spx.Image, labels: spx.Labels) -> Regions:
    """Return what is known of the regions of a label map, int32 (H, W), over an image, uint8 (H, W, 3)."""
    ids, count = labels.ravel(), int(labels.max()) + 1
    area = np.bincount(ids, minlength=count)

    def mean(*channels: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.stack([np.bincount(ids, channel.ravel(), count) / area for channel in channels], 1)

    across, down = (labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])
    pairs = np.concatenate([np.stack(side).reshape(2, -1) for side in (across, down)], 1).astype(np.int64)
    pairs = pairs[:, pairs[0] != pairs[1]]
    edge_index = np.unique(np.concatenate([pairs, pairs[::-1]], 1), axis=1)
    return Regions(mean(*np.moveaxis(image / 255, 2, 0)), area, mean(*np.indices(labels.shape)), edge_index)


class Classifier(nn.Module):
    """Scores regions, (K, classes), by their features, (K, 6), and by the mean of those of their neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 32), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self._beside(self.first(self._beside(x, edge_index)).relu(), edge_index))

    def _beside(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        total = torch.zeros_like(x).index_add(0, target, x[source])
        return torch.cat([x, total / target.bincount(minlength=len(x))[:, None]], 1)


def make_graph(image: spx.Image) -> tuple[spx.Labels, Tensor, Tensor]:
    """Return the label map of an image, the features of its regions, and its edge_index."""
    labels = spx.segment(image, "snic", K)
    regions = region_features(image, labels)
    place, size = regions.centroid / labels.shape, regions.area[:, None] / labels.size
    x = np.concatenate([8 * (regions.color - 0.43), place, K * size], 1)
    return labels, torch.from_numpy(x).float(), torch.from_numpy(regions.edge_index)


def main(steps: int = 150) -> float:
    """Return the share of pixels of unseen pictures that are right."""
    torch.manual_seed(0)
    pictures, truth = make_batch(12, torch.Generator().manual_seed(1))
    graphs = [make_graph(picture.permute(1, 2, 0).contiguous().numpy()) for picture in pictures]
    network = Classifier()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(steps):
        labels, x, edge_index = graphs[step % 8]
        loss = functional.cross_entropy(network(x, edge_index)[torch.from_numpy(labels).long()].movedim(2, 0)[None],
                                        truth[step % 8][None])  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = [network(x, edge_index).argmax(1)[torch.from_numpy(labels).long()] for labels, x, edge_index in graphs]
    return float((torch.stack(found[8:]) == truth[8:]).float().mean())


if __name__ == "__main__":
    print(f"{main():.1%} of the pixels of unseen pictures are right")
