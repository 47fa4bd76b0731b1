"""Clusters that fall into pieces, as those of k-means in a feature space do."""

from typing import Any

from numpy.typing import NDArray

from spx_cli.graph import absorb, merge, region_graph
from spx_cli.runs import find_runs, paint
from spx_cli.types import Labels

_CRUMB = 0.06  # of the mean size: smaller pieces join their most similar neighbour before pairs are compared


def join_fragments(labels: NDArray[Any], features: NDArray[Any], n_segments: int) -> Labels:
    """Return the 4-connected regions of a map, similar neighbours merged until no more than n_segments are left.

    labels : (H, W) integers of any kind. features : (H, W, C) numbers in which regions are compared.
    """
    runs = find_runs(labels)
    into, graph = absorb(region_graph(runs, features), int(_CRUMB * labels.size / n_segments), n_segments)
    return paint(runs, merge(graph, n_segments)[into])
