"""Time over the size of an image, and over the count; how it grows."""

from collections.abc import Callable, Iterator, Sequence
from math import sqrt

import numpy as np

from spx_cli.bench.stand import Died, Stand
from spx_cli.bench.timing import Heat, combine, race
from spx_cli.datasets import Entry
from spx_cli.evaluation.document import Failure, Row
from spx_cli.types import Image

SIZES = (0.15, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 33.0)  # megapixels
COUNTS = (50, 100, 200, 400, 800, 1600, 3200)


def of_size(image: Image, mpx: float) -> Image:
    """Return an image of about so many megapixels and the same shape: a part of the image, or mirrored copies of it.

    Copies, for an enlarged image would be smoother than photographs are.
    """
    height, width = image.shape[:2]
    factor = sqrt(mpx * 1e6 / (height * width))
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    more = ((0, max(0, tall - height)), (0, max(0, wide - width)), (0, 0))
    return np.ascontiguousarray(np.pad(image, more, mode="symmetric")[:tall, :wide])


def over_sizes(
    stands: Sequence[Stand],
    against: str,
    image: Image,
    entry: Entry,
    count: int,
    heat: Heat,
    *,
    largest: float,
    longest: float,
    failures: list[Failure],
    progress: Callable[[], None],
) -> Iterator[Row]:
    """Yield a row for each contender and size; what would take longer than `longest` seconds is left out."""
    last: dict[str, float] = {}  # seconds for a megapixel
    for mpx in (size for size in SIZES if size <= largest):
        shown = of_size(image, mpx)
        able = [stand for stand in stands if last.get(stand.name, 0.0) * mpx <= longest]
        for row in _rows(able, against, shown, entry, count, heat, failures):
            last[row["method"]] = row["ms_min"] / 1e3 / row["mpx"]
            yield row
        progress()


def over_counts(
    stands: Sequence[Stand],
    against: str,
    image: Image,
    entry: Entry,
    heat: Heat,
    *,
    failures: list[Failure],
    progress: Callable[[], None],
) -> Iterator[Row]:
    """Yield a row for each contender and count."""
    for count in COUNTS:
        if count <= image.shape[0] * image.shape[1]:
            yield from _rows(stands, against, image, entry, count, heat, failures)
        progress()


def _rows(
    stands: Sequence[Stand], against: str, image: Image, entry: Entry, count: int, heat: Heat, failures: list[Failure]
) -> Iterator[Row]:
    trials, faults = race(show(stands, image, entry, failures), against, image, entry, count, heat)
    failures += faults
    height, width = image.shape[:2]
    for name, trial in trials.items():
        size = {"method": name, "k_requested": count, "size": f"{width}x{height}", "mpx": trial.mpx, "k": trial.k}
        yield {**size, **combine([trial])}


def show(stands: Sequence[Stand], image: Image, entry: Entry, failures: list[Failure]) -> list[Stand]:
    """Send an image to all stands; return those that are still there."""
    there = []
    for stand in (stand for stand in stands if stand.alive):
        try:
            stand.show(image, entry)
            there.append(stand)
        except Died as error:
            failures.append(Failure(entry.id, stand.name, None, str(error)))
    return there


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return p of the time ~ size^p that fits points (size, time) best on logarithmic scales; NaN for fewer than 3.

    >>> round(exponent([(1, 3), (2, 6), (8, 24)]), 6)
    1.0
    """
    if len(points) < 3:
        return float("nan")
    x, y = np.log(np.array(points, float)).T
    return float(np.polyfit(x, y, 1)[0])
