"""Region metrics: all read one table of how many pixels each superpixel shares with each true segment.

Notation: S_j a superpixel, G_i a true segment, n_ij = |S_j and G_i|, N pixels. Ids need not be consecutive, a
superpixel need not be connected.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spx_cli.regions.maps import Overlap


def _largest_per_label(table: Overlap) -> NDArray[np.int64]:
    return np.maximum.reduceat(table.count, table.start)


def _largest_per_segment(values: NDArray[Any], table: Overlap) -> NDArray[Any]:
    out = np.zeros(len(table.segment_sizes), values.dtype)
    np.maximum.at(out, table.segment, values)
    return out


def achievable_segmentation_accuracy(table: Overlap) -> float:
    """Share of pixels right when each superpixel takes its best true segment, 0 to 1; higher is better.

    (1/N) sum_j max_i n_ij, Liu et al. (CVPR 2011).

    >>> achievable_segmentation_accuracy(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])))
    0.75
    """
    return float(_largest_per_label(table).sum() / table.pixels)


def corrected_undersegmentation_error(table: Overlap) -> float:
    """Share of pixels outside the best true segment of their superpixel, 0 to 1; lower is better.

    (1/N) sum_j (|S_j| - max_i n_ij), Van den Bergh et al. (ECCV 2012), SEN's CUSE; identically 1 - ASA.

    >>> corrected_undersegmentation_error(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])))
    0.25
    """
    return float((table.sizes - _largest_per_label(table)).sum() / table.pixels)


def undersegmentation_error(table: Overlap) -> float:
    """Pixels leaking over true borders, counted on both sides, 0 to 1; lower is better.

    (1/N) sum_ij min(n_ij, |S_j| - n_ij), Neubert and Protzel (2012); UE_NP of the benchmark of Stutz et al.

    >>> undersegmentation_error(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])))
    0.5
    """
    return float(np.minimum(table.count, table.pair_sizes - table.count).sum() / table.pixels)


def undersegmentation_error_levin(table: Overlap) -> float:
    """Mean relative area by which the superpixels touching a true segment exceed it, from 0; lower is better.

    mean_i [(sum_{j: n_ij > 0} |S_j|) - |G_i|] / |G_i|, Levinshtein et al. (TPAMI 2009). Unbounded: a tiny segment in a
    large superpixel gives hundreds. The mean is over segments with pixels (the benchmark divides by largest id + 1).

    >>> undersegmentation_error_levin(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])))
    0.6666666666666666
    """
    touching = np.bincount(table.segment, table.pair_sizes, len(table.segment_sizes))
    return float(np.mean((touching - table.segment_sizes) / table.segment_sizes))


def undersegmentation_error_slic(table: Overlap) -> float:
    """Area counted more than once when superpixels go to every segment with over 5 % of them, from 0; lower is better.

    (1/N) sum_{i,j: n_ij > 0.05 |S_j|} |S_j| - 1, Achanta et al. (TPAMI 2012).

    >>> undersegmentation_error_slic(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])))
    0.5
    """
    sizes = table.pair_sizes
    # 20 n > |S| is n > 0.05 |S| without the rounding of 0.05.
    return float(sizes[20 * table.count > sizes].sum() / table.pixels - 1)


def oversegmentation_error(table: Overlap) -> float:
    """Share of pixels outside the largest superpixel part of their true segment, 0 to 1; lower is better.

    (1/N) sum_i (|G_i| - max_j n_ij), Stutz et al. (CVIU 2018).

    >>> oversegmentation_error(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])))
    0.25
    """
    return float((table.segment_sizes - _largest_per_segment(table.count, table)).sum() / table.pixels)


def rand_index(table: Overlap) -> float:
    """Share of pixel pairs on which both maps agree (together or apart), 0 to 1; higher is better. 1 for one pixel.

    Rand (1971), as in the BSDS region benchmark (Arbelaez et al., TPAMI 2011).

    >>> rand_index(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])))
    0.5
    """
    squares = [float(np.square(n, dtype=np.float64).sum()) for n in (table.sizes, table.segment_sizes, table.count)]
    pairs = table.pixels * (table.pixels - 1) / 2
    return 1 - ((squares[0] + squares[1]) / 2 - squares[2]) / pairs if pairs else 1.0


def variation_of_information(table: Overlap) -> float:
    """H(labels) + H(truth) - 2 I in bits, from 0; lower is better. Meila (2007), as in the BSDS region benchmark.

    >>> variation_of_information(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 1, 1]])))
    0.0
    """
    joint = table.count / table.pixels
    # H(S|G) + H(G|S), each a sum of terms that are never negative.
    given_label, given_segment = table.count / table.pair_sizes, table.count / table.segment_sizes[table.segment]
    return float(np.abs((joint * (np.log2(given_label) + np.log2(given_segment))).sum()))


def covering(table: Overlap) -> float:
    """Mean over pixels of the best intersection over union that a superpixel reaches with their true segment; 0 to 1.

    (1/N) sum_i |G_i| max_j n_ij / |S_j or G_i|, Arbelaez et al. (TPAMI 2011); higher is better. Their benchmark weighs
    images by their pixels, a mean of ours does not.

    >>> covering(overlap(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])))
    0.625
    """
    return float(covering_parts(table).sum() / table.pixels)


def covering_parts(table: Overlap) -> NDArray[np.float64]:
    """Return for each true segment its pixels times its best intersection over union with a superpixel, (G,)."""
    iou = table.count / (table.pair_sizes + table.segment_sizes[table.segment] - table.count)
    return np.asarray(table.segment_sizes * _largest_per_segment(iou, table))
