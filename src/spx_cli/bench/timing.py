"""Calls timed in pairs, a contender beside the reference, so that ratios hold where a machine is busy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, geometric_mean, median, quantiles
from typing import NamedTuple

from spx_cli.bench.stand import Stand, Took
from spx_cli.datasets import Entry
from spx_cli.errors import SpxError
from spx_cli.evaluation.document import Failure, Row
from spx_cli.types import Image

LEAST = 3  # calls below which there is no spread
# A machine was too busy for its times to be trusted where the quartiles lie further apart, in medians, or the median
# above the least.
BUSY_SPREAD, BUSY_MEDIAN = 0.2, 1.5


@dataclass
class Trial:
    """The calls of one contender for one image and count. ratios : each to the reference's call beside it."""

    mpx: float
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    k: int = 0
    peak_mb: float = 0.0

    def add(self, took: Took) -> float:
        """Keep a call; return its seconds."""
        self.seconds.append(took.seconds)
        self.peak_mb = max(self.peak_mb, took.peak_mb)
        return took.seconds

    @property
    def spread(self) -> float:
        """The distance between the quartiles, in medians."""
        if len(self.seconds) < LEAST:
            return float("nan")
        low, middle, high = quantiles(self.seconds, method="inclusive")
        return (high - low) / middle


class Heat(NamedTuple):
    """How long each call may be repeated: `repeats` rounds, of which at least `least`, and then to `seconds` in all."""

    repeats: int
    seconds: float
    least: int = LEAST


def race(
    stands: Sequence[Stand], against: str, image: Image, entry: Entry, count: int, heat: Heat
) -> tuple[dict[str, Trial], list[Failure]]:
    """Return the trials of all contenders by name, and why there is none of some. The image has been shown.

    First a call of each that does not count. Then in every round each is called right beside the reference, which goes
    first in every other round.
    """
    mpx = image.shape[0] * image.shape[1] / 1e6
    trials: dict[str, Trial] = {}
    failures: list[Failure] = []
    racing = []
    for stand in stands:
        try:
            k = stand.take(count).k
        except (SpxError, MemoryError) as error:
            failures.append(Failure(entry.id, stand.name, count, f"{entry.id} at {count}: {error or 'out of memory'}"))
            continue
        trials[stand.name] = Trial(mpx, k=k)
        racing.append(stand)
    reference = next((stand for stand in racing if stand.name == against), None)
    for number in range(heat.repeats):
        for stand in tuple(racing):
            if stand.name not in trials:  # the reference, that died beside another
                continue
            if number >= heat.least and sum(trials[stand.name].seconds[-number:]) > heat.seconds:
                continue
            try:
                _pair(stand, reference, trials, count, reference_first=number % 2 == 0)
            except (SpxError, MemoryError) as error:
                gone = reference if reference is not None and not reference.alive else stand
                racing.remove(gone)
                trials.pop(gone.name)
                reference = None if gone is reference else reference
                failures.append(
                    Failure(entry.id, gone.name, count, f"{entry.id} at {count}: {error or 'out of memory'}")
                )
    return trials, failures


def _pair(
    stand: Stand, reference: Stand | None, trials: Mapping[str, Trial], count: int, *, reference_first: bool
) -> None:
    """Call a contender, and the reference before or after it."""
    trial = trials[stand.name]
    if reference is None:
        trial.add(stand.take(count))
        return
    if stand is reference:
        trial.add(stand.take(count))
        trial.ratios.append(1.0)
        return
    if reference_first:
        beside = trials[reference.name].add(reference.take(count))
        own = trial.add(stand.take(count))
    else:
        own = trial.add(stand.take(count))
        beside = trials[reference.name].add(reference.take(count))
    trial.ratios.append(own / beside)


def is_busy(row: Row) -> bool:
    """Return whether the times that `combine` gave scatter too much."""
    return bool(row["spread"] > BUSY_SPREAD or row["ms"] > BUSY_MEDIAN * row["ms_min"])


def combine(trials: Sequence[Trial]) -> Row:
    """Return what the trials of one contender at one count say together: means over images, the ratio geometric.

    >>> combine([Trial(0.5, [0.2, 0.1, 0.3], [2.0, 2.0, 8.0], k=9, peak_mb=50)])["ms"]
    200.0
    """
    medians = [median(trial.seconds) for trial in trials]
    ratios = [median(trial.ratios) for trial in trials if trial.ratios]
    return {
        "ms": 1e3 * fmean(medians),
        "ms_min": 1e3 * fmean(min(trial.seconds) for trial in trials),
        "spread": median(trial.spread for trial in trials),
        "mpx_per_s": sum(trial.mpx for trial in trials) / sum(medians),
        "ratio": geometric_mean(ratios) if ratios else float("nan"),
        "peak_mb": max(trial.peak_mb for trial in trials),
    }
