"""How good a network is by now: the ASA of its superpixels on images that it does not learn from.

The processes of a run share the images, so that none waits for another longer than one image takes.
"""

import numpy as np
from torch import nn

from spx_cli.datasets import Sample
from spx_cli.device import each
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._torch import TorchMethod
from spx_cli.metrics import score
from spx_cli.regions.maps import compact
from spx_cli.training.processes import World
from spx_cli.training.samples import Samples


class Validation:
    """Images to validate on; false where there are none."""

    def __init__(self, method: TorchMethod, recipe: Recipe, samples: Samples, world: World) -> None:
        """Read this process's share of the samples, or of `recipe.validate_images` of them at even distances.

        Raises LabelError for an annotation that cannot be scored, before hours have gone into the training.
        """
        self._method, self._counts, self._world = method, recipe.counts, world
        count = min(recipe.validate_images or len(samples), len(samples)) if recipe.validate_every else 0
        chosen = [samples[i * len(samples) // count] for i in range(world.rank, count, world.size)]
        for sample in chosen:
            for i, truth in enumerate(sample.truths):
                compact(truth, ignore_label=sample.ignore_label, what=f"annotation {sample.id}:{i}")
        self._samples: list[Sample] = [sample for sample in chosen if sample.truths]
        self._any = world.total(len(self._samples))[0] > 0

    def __bool__(self) -> bool:
        return self._any

    def asa(self, network: nn.Module) -> float:
        """Return the mean over counts, images and annotations, in all processes."""
        bound = self._method.bind(network)

        def scores(case: tuple[Sample, int]) -> list[float]:
            sample, count = case
            height, width, _ = sample.image.shape
            labels = bound.segment(sample.image, min(count, height * width))
            rows = score(labels, sample.truths, metrics=["asa"], ignore_label=sample.ignore_label)
            return [row["asa"] for row in rows]

        found = each(bound.where, scores, [(sample, count) for sample in self._samples for count in self._counts])
        values = [value for case in found for value in case]
        total, number = self._world.total(float(np.sum(values)), len(values))
        return total / number
