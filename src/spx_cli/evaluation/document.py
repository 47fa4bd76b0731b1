"""What an evaluation says: its settings, a row for each pair, the means over them, and what could not be scored."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from spx_cli.datasets import Dataset, Sample
from spx_cli.errors import ParameterError
from spx_cli.evaluation.sources import Segmenter, Source
from spx_cli.metrics import at as interpolate
from spx_cli.types import Labels

SCHEMA = 1

Row = dict[str, Any]


class Failure(NamedTuple):
    """What could not be scored. `method` and `k_requested` are None where the image or its annotations are at fault."""

    image: str
    method: str | None
    k_requested: int | None
    error: str


@dataclass(kw_only=True)
class Outcome:
    """What every evaluation gives. `rows()` reads them one by one; everything else is small.

    header : schema, version, protocol, data and the other settings.
    summary : for each method, and count asked for, its scores over the data set (NaN where undefined).
    at : the summary interpolated at other counts, where asked for.
    pairs : the number of rows.
    """

    command: ClassVar[str] = "spx eval"

    header: dict[str, Any]
    summary: list[Row]
    at: list[Row]
    failures: list[Failure]
    pairs: int
    dataset: Dataset
    records: Callable[[], Iterator[list[Row]]]

    def rows(self) -> Iterator[Row]:
        """Yield the rows, images in the order of the data set."""
        for rows in self.records():
            yield from rows

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that the summary is about."""
        return tuple(self.header["metrics"])

    @property
    def remarks(self) -> tuple[str, ...]:
        """What else is to be known of the numbers, for the small print."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what a row of the summary holds, in order."""
        raise NotImplementedError

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The names of what a row holds, in order."""
        raise NotImplementedError

    @property
    def judged(self) -> tuple[str, Sequence[Row]]:
        """The name of the part that gates are about, and its rows."""
        return ("at", self.at) if self.at else ("summary", self.summary)

    def more(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield the name and the rows of what a report as JSON holds besides."""
        return iter(())


@dataclass(kw_only=True)
class Document(Outcome):
    """The outcome of an evaluation of label maps: a row for each method, count, image and annotation.

    summary : the mean of each metric over all rows. at : the same at each count in `evaluate(at=...)`.
    """

    sources: tuple[Source, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what a row of the summary holds, in order."""
        return ("method", "k_requested", "k", *self.metrics)

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The names of what a row holds, in order."""
        return ("method", "k_requested", "k", "image", "annotation", *self.metrics)

    def label_map(self, image: str, method: str, count: int | None) -> tuple[Sample, Labels]:
        """Return an image by its id and the label map that was scored, both read or made anew."""
        entry = next(entry for entry in self.dataset.entries if entry.id == image)
        source = next(source for source in self.sources if source.name == method)
        sample = self.dataset.load(entry)
        if isinstance(source, Segmenter) and count is not None:
            return sample, source.label_map(sample.image, entry, count)
        return sample, source.find(entry, count).read(sample.image)


def summarise(records: Iterator[list[Row]], sources: Sequence[Source], metrics: Sequence[str]) -> tuple[list[Row], int]:
    """Return the means of each method and count, and the number of rows; undefined values (NaN) are left out."""
    sums = {(s.name, count): dict.fromkeys(("k", *metrics), (0.0, 0)) for s in sources for count in s.counts}
    pairs = 0
    for rows in records:
        pairs += len(rows)
        for row in rows:
            mine = sums[row["method"], row["k_requested"]]
            for name, (total, number) in mine.items():
                if not math.isnan(row[name]):
                    mine[name] = (total + row[name], number + 1)
    return [
        {
            "method": method,
            "k_requested": count,
            **{name: total / number if number else math.nan for name, (total, number) in means.items()},
        }
        for (method, count), means in sums.items()
    ], pairs


def at_count(summary: Sequence[Row], method: str, count: float, failures: list[Failure]) -> Row:
    """Return the scores of a method interpolated at `count`; NaN, and a failure, outside the achieved counts."""
    mine = [
        {name: v for name, v in row.items() if name not in ("method", "k_requested")}
        for row in summary
        if row["method"] == method
    ]
    try:
        values = interpolate([row for row in mine if not math.isnan(row["k"])], count)
    except ParameterError as error:
        failures.append(Failure("", method, None, f"{method}: {error}"))
        values = dict.fromkeys(mine[0], math.nan) | {"k": float(count)}
    return {"method": method, **values}
