"""The expected loss of a merge (`regions.costs`), fitted: cases, pairs drawn from them, and a few weights.

A case is one image's map to be merged, as a graph, with the overlaps of its regions and the annotations. `merging`
makes them of a data set, and runs the rounds of drawing and fitting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from spx_cli import params
from spx_cli.errors import ParameterError
from spx_cli.methods._merging import Seen
from spx_cli.methods._recipe import TomlRecipe
from spx_cli.params import param
from spx_cli.regions.costs import Judge, pair_inputs
from spx_cli.regions.finish import loss_graph
from spx_cli.regions.graph import FEATURES, SIZE, RegionGraph, contract
from spx_cli.regions.maps import compact
from spx_cli.regions.merging import merge
from spx_cli.regions.runs import find_runs, paint
from spx_cli.types import Assignment


@dataclass(frozen=True, kw_only=True)
class MergeRecipe(TomlRecipe):
    """Everything that decides the weights, apart from the data and the methods whose maps are merged."""

    counts: str = param("200,600", "numbers of superpixels to merge to, with commas between")
    factor: float = param(
        0.0, "times the count: regions that a method is asked for; 0 = as when it segments", ge=0, le=1e9
    )
    stops: str = param("2,1.4,1,0.6", "times the count: where pairs are drawn")
    pairs: int = param(500, "pairs drawn at each stop", ge=1, le=10**9)
    rounds: int = param(3, "fits, each to pairs from merges by the fit before", ge=1, le=1000)
    hidden: int = param(16, "hidden units", ge=1, le=256)
    steps: int = param(2500, "optimiser steps of a fit", ge=1, le=10**9)
    batch_size: int = param(4096, "pairs per step", ge=1, le=100_000)
    lr: float = param(0.01, "peak of the one-cycle learning rate", gt=0, le=100)
    weight_decay: float = param(0.3, "weight decay (AdamW)", ge=0, le=100)
    folds: int = param(2, "parts of the images that are scored by a fit to the others; 1 = none", ge=1, le=10**6)
    seed: int = param(0, "of the pairs drawn, and of the fits", ge=0, le=2**63 - 1)

    def __post_init__(self) -> None:
        params.check(self)
        if max(self.numbers("stops")) > 1e9:
            raise ParameterError(f"stops must be at most 1000000000, not {self.stops!r}")
        if not all(1 <= number <= 10**9 and number == int(number) for number in self.numbers("counts")):
            raise ParameterError(f"counts must be whole numbers from 1 to 1000000000, not {self.counts!r}")

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return the numbers in a field of texts; ParameterError for anything else in it."""
        try:
            values = tuple(float(part) for part in getattr(self, name).split(","))
        except ValueError:
            values = ()
        if not values or not all(0 < value < inf for value in values):
            raise ParameterError(f"{name} must be positive numbers with commas between, not {getattr(self, name)!r}")
        return values


class Case(NamedTuple):
    """A map to merge down to `n_regions` regions, and what the annotations say of its regions.

    tables : for each annotation (region, segment, pixels), int32 (3, P), of those that overlap.
    edges_of_colour : whether the contours of the graph are no more than that.
    """

    graph: RegionGraph
    tables: tuple[NDArray[np.int32], ...]
    n_regions: int
    edges_of_colour: bool = False

    @property
    def area(self) -> float:
        """Pixels of the image per region asked for."""
        return float(self.graph.sums[:, SIZE].sum()) / self.n_regions

    @property
    def seen(self) -> Seen:
        """What weights that are fitted to it look at."""
        return Seen(self.graph.contour.shape[1], self.graph.sums.shape[1] > FEATURES + 3, self.edges_of_colour)


def make_case(assignment: Assignment, truths: Sequence[NDArray[Any]], count: int, ignore: Any = None) -> Case:
    """Return the case of one assignment; truths : label maps (H, W); ignore : ids in them that count nowhere."""
    runs = find_runs(assignment.labels)
    graph, into = loss_graph(assignment, runs, count)
    regions = paint(runs, into).ravel().astype(np.int64)
    tables = []
    for truth in truths:
        segments = compact(truth, ignore_label=ignore, what="annotation").ravel()
        of = int(segments.max()) + 1
        pairs, pixels = np.unique((regions * of + segments)[segments >= 0], return_counts=True)
        tables.append(np.stack([pairs // of, pairs % of, pixels]).astype(np.int32))
    return Case(graph, tuple(tables), count, assignment.edges)


def asa(case: Case, judge: Judge) -> float:
    """Return the achievable segmentation accuracy after merging to the count, mean over annotations."""
    into = merge(case.graph, case.n_regions, judge, case.area)
    return float(np.mean([_table(t, into).max(1).sum() / t[2].sum() for t in case.tables]))


def draw(
    case: Case, judge: Judge, stops: Sequence[float], n_pairs: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return pairs of neighbours met on the way down: inputs (P, I), share lost (P,), and weight (P,).

    The share is of the pixels of the smaller region, mean over annotations; the weight is its size, whose unit is the
    mean size aimed at.
    """
    graph, into = case.graph, np.arange(len(case.graph.sums), dtype=np.int32)
    inputs, shares, weights = [], [], []
    for stop in sorted(stops, reverse=True):
        step = merge(graph, max(2, round(stop * case.n_regions)), judge, case.area)
        graph, into = contract(graph, step), step[into]
        chosen = rng.choice(len(graph.edges), min(n_pairs, len(graph.edges)), replace=False)
        a, b = graph.edges[chosen].T
        smaller = np.minimum(graph.sums[a, SIZE], graph.sums[b, SIZE])
        lost = np.zeros(len(chosen))
        for overlaps in case.tables:
            table = _table(overlaps, into)
            best = table.max(1)
            lost += best[a] + best[b] - (table[a] + table[b]).max(1)
        inputs.append(pair_inputs(graph, case.area)[chosen])
        shares.append(lost / len(case.tables) / smaller)
        weights.append(smaller / case.area)
    share, weight = (np.concatenate(parts).astype(np.float32) for parts in (shares, weights))
    return np.concatenate(inputs), share, weight


def _table(overlaps: NDArray[np.int32], into: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the pixels that merged regions share with segments, (R', G); overlaps (3, P) as in Case, into (R,)."""
    shape = int(into.max()) + 1, int(overlaps[1].max()) + 1
    pairs = into[overlaps[0]].astype(np.int64) * shape[1] + overlaps[1]
    return np.bincount(pairs, overlaps[2], shape[0] * shape[1]).astype(np.int64).reshape(shape)


def fit(
    inputs: NDArray[np.float32],
    shares: NDArray[np.float32],
    weights: NDArray[np.float32],
    recipe: MergeRecipe,
    seed: int,
) -> tuple[Judge, float]:
    """Return the network fitted to pairs as `draw` gives them, and its weighted cross entropy on them."""
    x, y, w = (torch.from_numpy(array) for array in (inputs, shares, weights / weights.mean()))
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / deviation
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(x.shape[1], recipe.hidden), nn.Linear(recipe.hidden, 1)
        parameters = [*first.parameters(), *last.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
        rise = 0.2 if recipe.steps == 10 else 0.1  # PyTorch's schedule divides by 0 where it rises in a single step
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps, pct_start=rise)

        def loss(of: Any) -> torch.Tensor:
            logits = last(first(x[of]).relu())[:, 0]
            return (functional.binary_cross_entropy_with_logits(logits, y[of], reduction="none") * w[of]).mean()

        for _ in range(recipe.steps):
            value = loss(torch.randint(len(x), (recipe.batch_size,)))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        # The scale of the inputs goes into the weights, so that what merges knows nothing of it.
        hidden = first.weight / deviation
        bias, reached = first.bias - hidden @ mean, float(loss(slice(None)))
        arrays = [np.ascontiguousarray(array.numpy()) for array in (hidden.T, bias, last.weight[0])]
    return Judge(arrays[0], arrays[1], arrays[2], float(last.bias.detach()[0]), 0.0, 0.0), reached
