"""Label-map algebra: is it valid, its connected components, its boundaries, its overlap with another map."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.errors import LabelError, ParameterError
from spx_cli.regions.runs import find_runs, paint
from spx_cli.types import Labels


def check(labels: Labels) -> None:
    """Raise LabelError unless `labels` keeps the contract of `types`.

    A map keeps it exactly when it equals its own numbering by connected components.
    """
    if labels.ndim != 2 or labels.size == 0 or labels.dtype != np.int32:
        raise LabelError(f"a label map must be int32 (H, W) and not empty, not {labels.dtype} {labels.shape}")
    numbered, count = components(labels)
    if not np.array_equal(numbered, labels):
        y, x = np.argwhere(numbered != labels)[0]
        raise LabelError(
            f"pixel ({y}, {x}) has id {labels[y, x]}, but the {count} 4-connected regions in raster order make it "
            f"{numbered[y, x]}: ids must be 0..K-1 in raster order of their first pixel, each one connected region"
        )


def components(labels: NDArray[Any]) -> tuple[Labels, int]:
    """Return the 4-connected components of equal labels, in raster order of their first pixel, and their count.

    labels : (H, W) integers of any kind.

    >>> components(np.array([[7, 7, 2], [2, 7, 2]]))[0]
    array([[0, 0, 1],
           [2, 0, 1]], dtype=int32)
    """
    runs = find_runs(labels)
    return paint(runs, np.arange(runs.regions, dtype=np.int32)), runs.regions


def compact(ids: NDArray[Any], *, ignore_label: int | Sequence[int] | None = None, what: str = "label map") -> Labels:
    """Return `ids` numbered 0..K-1 without gaps, in raster order of their first pixel; -1 where they are ignored.

    ids : (H, W) integers or booleans, not negative; gaps and huge ids cost no memory.
    ignore_label : the id or ids of pixels that do not count; these may be negative.
    Raises LabelError, which speaks of `what`, for floats, negative ids, no pixel, or no pixel that counts.

    >>> compact(np.array([[900, 900, 7], [255, 7, 7]]), ignore_label=255)
    array([[ 0,  0,  1],
           [-1,  1,  1]], dtype=int32)
    """
    if isinstance(ids, np.ma.MaskedArray):
        raise LabelError(f"{what}: must not be masked; ids.filled(ID) and ignore_label=ID leave out what is")
    ids = np.asarray(ids)
    if ids.ndim != 2 or ids.size == 0:
        raise LabelError(f"{what}: expected (H, W) with at least one pixel, not shape {ids.shape}")
    if ids.dtype.kind not in "iub":
        raise LabelError(f"{what}: ids must be integers, not {ids.dtype}; round and convert them first")
    ignored = [] if ignore_label is None else np.atleast_1d(ignore_label).tolist()
    low, high = int(ids.min()), int(ids.max())
    # A look-up table as long as the largest id is only built when that is no more than a few times the pixels.
    if low >= 0 and high < 4 * ids.size:
        known, number = ids.ravel(), np.full(high + 1, -2, np.int32)
        number[[i for i in ignored if 0 <= i <= high]] = -1
    else:
        values, known = np.unique(ids, return_inverse=True)
        number = np.where(np.isin(values, ignored), np.int32(-1), np.int32(-2))
        if low < 0 and (values[number == -2] < 0).any():
            raise LabelError(f"{what}: ids must not be negative, met {low}; give unlabelled pixels an id to ignore")
    out = np.empty(ids.size, np.int32)
    if _compact(known.ravel().astype(np.int32), number, out) == 0:
        raise LabelError(f"{what}: no labelled pixel, every id is one to ignore ({', '.join(map(str, ignored))})")
    return out.reshape(ids.shape)


@njit(cache=True, nogil=True)
def _compact(ids, number, out):
    """ids (N,) int32 below len(number); number (M,) int32, -2 new, -1 ignored; out (N,) int32. Returns the count."""
    count = 0
    for i in range(ids.size):
        n = number[ids[i]]
        if n == -2:
            n = number[ids[i]] = count
            count += 1
        out[i] = n
    return count


class Groups(NamedTuple):
    """The pixels of each label, gathered once so that one map can meet several others.

    ids : int32 (H, W), compact ids 0..K-1.
    start : int64 (K+1,); the pixels of label j are pixels[start[j]:start[j + 1]], flat indices in raster order.
    """

    ids: Labels
    start: NDArray[np.int64]
    pixels: NDArray[np.int32]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Pixels of each label; int64 (K,)."""
        return np.diff(self.start)


def group(labels: NDArray[Any]) -> Groups:
    """Return the pixels of each label; see `compact` for what `labels` may be and the errors."""
    ids = compact(labels)
    start = np.zeros(int(ids.max()) + 2, np.int64)
    pixels = np.empty(ids.size, np.int32)
    _group(ids.ravel(), start, pixels)
    return Groups(ids, start, pixels)


@njit(cache=True, nogil=True)
def _group(ids, start, pixels):
    """ids (N,) int32; start (K+1,) int64 zeros; pixels (N,) int32. Counting sort."""
    for i in ids:
        start[i + 1] += 1
    for j in range(1, start.size):
        start[j] += start[j - 1]
    following = start[:-1].copy()
    for p in range(ids.size):
        i = ids[p]
        pixels[following[i]] = p
        following[i] += 1


@dataclass(frozen=True, eq=False)
class Overlap:
    """How many pixels each label shares with each segment of another map: only the P pairs that meet, by label.

    start : int64 (K,), where the pairs of each label begin; a label without a counted pixel has none and is left out.
    segment, count : (P,), the segment 0..G-1 of each pair and its pixels.
    sizes, segment_sizes : int64 (K,) and (G,), pixels of each label and of each segment; both sum to `pixels`.
    """

    start: NDArray[np.int64]
    segment: NDArray[np.int32]
    count: NDArray[np.int64]
    sizes: NDArray[np.int64]
    segment_sizes: NDArray[np.int64]

    @cached_property
    def pixels(self) -> int:
        """Pixels that count: all but the ignored ones."""
        return int(self.sizes.sum())

    @cached_property
    def pair_sizes(self) -> NDArray[np.int64]:
        """Pixels of the label of each pair; int64 (P,)."""
        return np.repeat(self.sizes, np.diff(self.start, append=len(self.count)))


def overlap(
    labels: NDArray[Any] | Groups, truth: NDArray[Any], *, ignore_label: int | Sequence[int] | None = None
) -> Overlap:
    """Return the pixel counts of all pairs of a label and a segment of `truth` that meet, in linear time and memory.

    labels, truth : (H, W) of equal shape, else LabelError; ids as `compact` takes them.
    ignore_label : pixels of `truth` with this id, or these ids, count nowhere.

    >>> table = overlap(np.array([[0, 0, 1, 1]]), np.array([[5, 5, 5, 8]]))
    >>> table.start, table.segment, table.count
    (array([0, 1]), array([0, 0, 1], dtype=int32), array([2, 1, 1]))
    """
    groups = labels if isinstance(labels, Groups) else group(labels)
    truth = np.asanyarray(truth)  # a mask is for `compact` to refuse
    if truth.shape != groups.ids.shape:
        raise LabelError(f"sizes differ: the label map is {groups.ids.shape}, the annotation {truth.shape}")
    return overlap_compact(groups, compact(truth, ignore_label=ignore_label, what="annotation"))


def overlap_compact(groups: Groups, segments: Labels) -> Overlap:
    """Return the table of `overlap` for maps that are compact already; -1 in `segments` is ignored."""
    n_segments = int(segments.max()) + 1
    room = min(segments.size, (len(groups.start) - 1) * n_segments)
    start, sizes = np.empty(len(groups.start) - 1, np.int64), np.zeros(len(groups.start) - 1, np.int64)
    segment, count = np.empty(room, np.int32), np.empty(room, np.int64)
    pairs = _overlap(
        groups.start, groups.pixels, segments.ravel(), np.full(n_segments, -1), start, sizes, segment, count
    )
    segment, count = segment[:pairs].copy(), count[:pairs].copy()
    segment_sizes = np.bincount(segment, count, n_segments).astype(np.int64)
    return Overlap(start[sizes > 0], segment, count, sizes[sizes > 0], segment_sizes)


@njit(cache=True, nogil=True)
def _overlap(start, pixels, segments, slot, pair_start, sizes, segment, count):
    """start (K+1,), pixels (N,) as Groups; segments (N,) int32; slot (G,) ints of -1; the rest is filled. Returns P."""
    found = 0
    for j in range(start.size - 1):
        first = found
        pair_start[j] = first
        q, end = start[j], start[j + 1]
        while q < end:
            g, run = segments[pixels[q]], q
            while q < end and segments[pixels[q]] == g:
                q += 1
            if g < 0:
                continue
            # A slot from an earlier label lies before `first`, so the table of slots never needs clearing.
            if slot[g] < first:
                slot[g] = found
                segment[found] = g
                count[found] = 0
                found += 1
            count[slot[g]] += q - run
            sizes[j] += q - run
    return found


def boundaries(labels: NDArray[Any], rule: str = "two-sided") -> NDArray[np.bool_]:
    """Return which pixels lie on a boundary between labels; bool (H, W). The image frame is no boundary.

    labels : (H, W) integers of any kind; a pixel with a negative id is ignored and makes no boundary.
    rule : 'two-sided', both pixels of every 4-neighbour pair that differs (Stutz et al. 2018; 2 pixels thick);
        'one-sided', a pixel that differs from its right or lower neighbour (SEAL, LNS-Net; 1 pixel thick);
        'corner', a pixel where two labels meet at its lower-right corner (seg2bdry of the BSDS benchmark; 1 thick).

    >>> boundaries(np.array([[0, 0, 1, 1]])).astype(int)
    array([[0, 1, 1, 0]])
    >>> boundaries(np.array([[0, 0, 1, 1]]), "one-sided").astype(int)
    array([[0, 1, 0, 0]])
    """
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    counted = labels >= 0
    if not counted.all():
        across &= counted[:, 1:] & counted[:, :-1]
        down &= counted[1:] & counted[:-1]
    out = np.zeros(labels.shape, np.bool_)
    if rule == "corner":
        out[:-1, :-1] = across[:-1] | across[1:] | down[:, :-1] | down[:, 1:]
        out[-1, :-1], out[:-1, -1] = across[-1], down[:, -1]
        return out
    out[:, :-1] = across
    out[:-1] |= down
    if rule == "two-sided":
        out[:, 1:] |= across
        out[1:] |= down
    elif rule != "one-sided":
        raise ParameterError(f"rule must be 'two-sided', 'one-sided' or 'corner', not {rule!r}")
    return out
