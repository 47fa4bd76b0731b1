"""Which regions of a picture speak for what a classifier says of it, by LIME with any method of spx.

    python examples/explain.py                               # examples/coffee.jpg by snic; writes explained.png
    python examples/explain.py photo.jpg --method slic -k 80

LIME (Ribeiro et al., KDD 2016) paints random sets of regions over, looks at what the classifier says then, and fits a
linear model: its weights say how much each region speaks for the answer. The classifier here is a stand-in that needs
no weights; put your own network in place of `warmth`. The authors' package takes spx as well:
`explain_instance(image, predict, segmentation_fn=lambda image: spx_cli.segment(image, "snic", 60))`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import spx_cli as spx
from spx_cli.io import write_image

WIDTH = 0.25  # of the kernel that weighs a sample by its distance from the picture
RIDGE = 1.0  # weight of the squared weights


def warmth(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how warm images are, (N,), 0 to 1, for uint8 (N, H, W, 3): a logistic of red less blue."""
    red, _, blue = np.moveaxis(images.mean((1, 2)), 1, 0)
    return 1 / (1 + np.exp((40 - (red - blue)) / 10))


def explain(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    image: spx.Image,
    labels: spx.Labels,
    *,
    samples: int = 400,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return how much each region speaks for the answer, (K,): what the answer loses where it is painted over.

    predict : the answers, (N,), for images uint8 (N, H, W, 3). A region is painted over with the mean colour.
    """
    count = int(labels.max()) + 1
    shown = np.random.default_rng(seed).random((samples, count)) < 0.5
    shown[0] = True
    plain = np.broadcast_to(image.mean((0, 1)).astype(np.uint8), image.shape)
    answers = np.array([predict(np.where(kept[labels][None, ..., None], image, plain))[0] for kept in shown])
    distance = 1 - np.sqrt(shown.mean(1))  # of cosines, from the picture in which all is shown
    weight = np.exp(-(distance**2) / WIDTH**2)
    x = shown - np.average(shown, 0, weight)
    y = answers - np.average(answers, weights=weight)
    return np.linalg.solve((x.T * weight) @ x + RIDGE * np.eye(count), (x.T * weight) @ y)


def tint(image: spx.Image, labels: spx.Labels, weights: NDArray[np.float64]) -> spx.Image:
    """Return the image with what speaks for the answer in green, and what speaks against it in red."""
    share = (weights / np.abs(weights).max())[labels][..., None]
    colour = np.where(share > 0, (0, 200, 0), (220, 0, 0))
    mixed = image + 0.7 * np.abs(share) * (colour - image)
    return spx.render(mixed.astype(np.uint8), labels, "boundaries")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", type=Path, default=Path(__file__).with_name("coffee.jpg"))
    parser.add_argument("--method", default="snic")
    parser.add_argument("-k", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("explained.png"))
    options = parser.parse_args()
    image = spx.read_image(options.photo)
    labels = spx.segment(image, options.method, options.k)
    weights = explain(warmth, image, labels)
    write_image(options.out, tint(image, labels, weights))
    print(f"{warmth(image[None])[0]:.2f} warm; most by region {weights.argmax()}; look at {options.out}")


if __name__ == "__main__":
    main()
