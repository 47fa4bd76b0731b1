"""Scores of superpixels on a data set: one pass over the images, each decoded once, one row for each annotation.

Rows go to a `Ledger` as they come, so memory does not grow with the number of images and an interrupted run can go on.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from spx_cli import metrics as measures
from spx_cli._version import __version__
from spx_cli.datasets import DATASETS, Dataset, Entry, Sample, open_dataset
from spx_cli.errors import DataError, DeviceError, MissingExtra, ParameterError, SpxError, WeightsError
from spx_cli.evaluation.ledger import Ledger
from spx_cli.evaluation.sources import LabelFolder, Segmenter, Source, read_map
from spx_cli.metrics import METRICS, Policy
from spx_cli.pool import spread
from spx_cli.registry import lookup, unknown
from spx_cli.types import Labels

SCHEMA = 1
POLICIES: tuple[Policy, ...] = ("each", "mean", "best", "worst")
# Reported unless metrics are named, beside those of the protocol: whether the maps are connected.
ALWAYS = ("components",)

Row = dict[str, Any]


class Failure(NamedTuple):
    """What could not be scored. `method` and `k_requested` are None where the image or its annotations are at fault."""

    image: str
    method: str | None
    k_requested: int | None
    error: str


class Task(NamedTuple):
    """One image to score. `maps` names every label map wanted; a Segmenter's are made, a LabelFolder's have files."""

    entry: Entry
    maps: tuple[tuple[str, int | None, tuple[Path, ...]], ...]

    def digest(self) -> str:
        """Return a digest of the files that the image's scores depend on, '' where one cannot be read."""
        total = hashlib.blake2b(digest_size=16)
        try:
            for path in (self.entry.image, *self.entry.truths, *(path for _, _, files in self.maps for path in files)):
                total.update(hashlib.blake2b(path.read_bytes()).digest())
        except OSError:
            return ""
        return total.hexdigest()


@dataclass
class Document:
    """The outcome of an evaluation. `rows()` reads them one by one; everything else is small.

    header : schema, version, protocol, data and the other settings.
    summary : for each method and count asked for, the mean of each metric over all rows (NaN where undefined).
    at : for each method and count in `evaluate(at=...)`, the summary interpolated along the achieved counts.
    pairs : the number of rows.
    """

    header: dict[str, Any]
    summary: list[Row]
    at: list[Row]
    failures: list[Failure]
    pairs: int
    dataset: Dataset
    sources: tuple[Source, ...]
    records: Callable[[], Iterator[list[Row]]]

    def rows(self) -> Iterator[Row]:
        """Yield a row for each method, count, image and annotation, images in the order of the data set."""
        for rows in self.records():
            yield from rows

    def label_map(self, image: str, method: str, count: int | None) -> tuple[Sample, Labels]:
        """Return an image by its id and the label map that was scored, both read or made anew."""
        entry = next(entry for entry in self.dataset.entries if entry.id == image)
        source = next(source for source in self.sources if source.name == method)
        sample = self.dataset.load(entry)
        if isinstance(source, Segmenter) and count is not None:
            return sample, source.label_map(sample.image, count)
        return sample, read_map(entry, sample.image, source.files(entry, count))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics in every row."""
        return tuple(self.header["metrics"])


def open_data(layout: str, root: str | Path, split: str | None = None) -> Dataset:
    """Return the data set to score on: the split asked for, by default the one the field reports on; 'all' takes all.

    Raises as `open_dataset` does; for images without annotations the message says which layout the folder looks like.
    """
    cls: type[Dataset] = lookup(DATASETS, "layout", layout.lower())
    dataset = open_dataset(layout, root, None if split == "all" else split or cls.default_split)
    if dataset.annotation is None:
        for other in DATASETS:
            with suppress(SpxError):
                if other != layout.lower() and len(open_dataset(other, root)):
                    break
        else:
            return dataset
        raise DataError(f"{root} holds no label maps in layout {layout}, but looks like --layout {other}")
    return dataset


@dataclass(frozen=True)
class Scoring:
    """What to score, and how: all that decides on the numbers. `run` scores."""

    dataset: Dataset
    sources: tuple[Source, ...]
    protocol: str
    metrics: tuple[str, ...]
    annotations: Policy
    ignore_label: int | None
    tolerance: int | None

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        sources: Sequence[Source],
        *,
        protocol: str = "stutz",
        metrics: Sequence[str] | None = None,
        also: Sequence[str] = (),
        annotations: str | None = None,
        ignore_label: int | str | None = "dataset",
        tolerance: int | None = None,
    ) -> "Scoring":
        """Return the scoring of the sources' label maps on a data set; see `evaluate` for what the settings mean.

        also : metrics to report beside those.
        """
        if not sources:
            raise ParameterError("nothing to score: name a method or a folder of label maps")
        names = [source.name for source in sources]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ParameterError(f"{', '.join(sorted(repeated))} given twice; results are told apart by these names")
        rule = measures.protocol(protocol)
        policy = rule.annotations
        if annotations is not None:
            if annotations not in POLICIES:
                raise unknown("annotation policy", annotations, POLICIES)
            policy = next(known for known in POLICIES if known == annotations)
        return cls(
            dataset=dataset,
            sources=tuple(sources),
            protocol=rule.name,
            metrics=_choose(metrics, also, rule.metrics, dataset),
            annotations=policy,
            ignore_label=dataset.ignore_label if isinstance(ignore_label, str) else ignore_label,
            tolerance=tolerance,
        )

    def settings(self) -> dict[str, Any]:
        """Return what decides on the numbers, as it stands in results."""
        data = self.dataset
        return {
            "schema": SCHEMA,
            "spx": __version__,
            "protocol": self.protocol,
            "data": {"set": type(data).__name__, "root": str(data.root), "split": data.split},
            "methods": {source.name: str(source) for source in self.sources},
            "metrics": list(self.metrics),
            "annotations": self.annotations,
            "ignore_label": self.ignore_label,
            "tolerance": self.tolerance,
        }

    def key(self) -> str:
        """Return a short name that only this scoring has, whatever the working folder."""
        places = [
            str(self.dataset.root.resolve()),
            *(str(s.root.resolve()) for s in self.sources if isinstance(s, LabelFolder)),
        ]
        text = json.dumps([self.settings(), places, [source.counts for source in self.sources]])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def run(
        self,
        *,
        at: Sequence[float] = (),
        limit: int | None = None,
        jobs: int = 1,
        keep: Path | None = None,
        resume: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> Document:
        """Return the scores; see `evaluate`."""
        entries = self.dataset.entries[:limit]
        settings = self.settings()
        ledger = Ledger({**settings, "counts": {s.name: s.counts for s in self.sources}}, keep, resume=resume)
        todo = []
        for entry in entries:
            if entry.id in ledger and ledger[entry.id]["digest"] == _task(entry, self.sources).digest() != "":
                progress()
            else:
                todo.append(entry)
        tasks = (_task(entry, self.sources) for entry in todo)
        for task, record in self._results(tasks, min(jobs, len(todo))):
            lost = Failure(task.entry.id, None, None, f"the worker that scored {task.entry.id} died: out of memory?")
            ledger.add(task.entry.id, record or {"digest": "", "rows": [], "failures": [lost]})
            progress()

        def records() -> Iterator[list[Row]]:
            for entry in entries:
                yield ledger[entry.id]["rows"]

        failures = [Failure("", None, None, line) for line in self.dataset.unpaired if limit is None]
        for entry in entries:
            failures += (Failure(*failure) for failure in ledger[entry.id]["failures"])
        summary, pairs = _summarise(records(), self.sources, self.metrics)
        interpolated = [_at(summary, source.name, count, failures) for source in self.sources for count in at]
        settings["data"]["images"] = len(entries)
        return Document(settings, summary, interpolated, failures, pairs, self.dataset, self.sources, records)

    def _results(self, tasks: Iterator[Task], jobs: int) -> Iterator[tuple[Task, dict[str, Any] | None]]:
        if jobs <= 1:
            return ((task, self.score(task)) for task in tasks)
        # Lists of files stay here; what a task needs of them goes with it.
        segmenters = tuple(source for source in self.sources if isinstance(source, Segmenter))
        lean = replace(self, dataset=self.dataset.reader(), sources=segmenters)
        return spread(lean.score, tasks, jobs=jobs)

    def score(self, task: Task) -> dict[str, Any]:
        """Return the record of an image: a digest of its files, its rows, and what failed."""
        rows: list[Row] = []
        failures: list[Failure] = []
        record = {"digest": task.digest(), "rows": rows, "failures": failures}
        name = task.entry.id
        try:
            sample = self.dataset.load(task.entry)
        except (SpxError, OSError) as error:
            failures.append(Failure(name, None, None, str(error)))
            return record
        ignored = self.ignore_label
        blank = {i for i, truth in enumerate(sample.truths) if ignored is not None and (truth == ignored).all()}
        failures += (
            Failure(name, None, None, f"annotation {i} of {name} has no labelled pixel") for i in sorted(blank)
        )
        if sample.truths and len(blank) == len(sample.truths):
            return record
        indices = [i for i in range(len(sample.truths)) if i not in blank]
        for method, count, files in task.maps:
            try:
                labels = self._label_map(task.entry, sample, method, count, files)
                scored = self._scores(sample, labels, indices)
            except (DeviceError, MissingExtra, WeightsError):
                raise  # no image would fare better
            except (SpxError, OSError) as error:
                failures.append(Failure(name, method, count, str(error)))
                continue
            which = indices or [0] if self.annotations == "each" else [self.annotations]
            for annotation, values in zip(which, scored, strict=True):
                head = {"method": method, "k_requested": count, "k": int(values.pop("k"))}
                rows.append({**head, "image": name, "annotation": annotation, **values})
                failures += (
                    Failure(name, method, count, f"{metric} of {name} (annotation {annotation}) is {value}")
                    for metric, value in values.items()
                    if not math.isfinite(value)
                )
        return record

    def _label_map(self, entry: Entry, sample: Sample, method: str, count: int | None, files: Sequence[Path]) -> Labels:
        for source in self.sources:
            if isinstance(source, Segmenter) and source.name == method and count is not None:
                return source.label_map(sample.image, count)
        return read_map(entry, sample.image, files)

    def _scores(self, sample: Sample, labels: Labels, indices: Sequence[int]) -> list[dict[str, float]]:
        scores = measures.score(
            labels,
            [sample.truths[i] for i in indices],
            sample.image,
            protocol=self.protocol,
            metrics=["k", *self.metrics],
            ignore_label=self.ignore_label,
            tolerance=self.tolerance,
            flow=sample.flow,
            valid=sample.valid,
        )
        return measures.combine(scores, self.annotations)


def evaluate(
    dataset: Dataset,
    sources: Sequence[Source],
    *,
    protocol: str = "stutz",
    metrics: Sequence[str] | None = None,
    annotations: str | None = None,
    ignore_label: int | str | None = "dataset",
    tolerance: int | None = None,
    at: Sequence[float] = (),
    limit: int | None = None,
    jobs: int = 1,
    keep: Path | None = None,
    resume: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Document:
    """Return the scores of the sources' label maps on a data set.

    metrics : names from METRICS; by default those of the protocol and the number of connected components.
    annotations : each, mean, best or worst; by default the protocol's.
    ignore_label : the id of true pixels that count nowhere; None for none, "dataset" for what the data set says.
    tolerance : half side of the boundary window in pixels, instead of the protocol's.
    at : counts at which to give scores interpolated along the achieved counts.
    limit : score the first so many images only.
    jobs : worker processes; 1 scores in this one.
    keep, resume : a file that keeps the results as they come, and whether to go on from what it holds: images whose
        files have not changed since are not scored again.
    progress : called after each image.

    Raises UnknownName or ParameterError for settings that make no sense, before any image is read. What goes wrong
    with single images is told in the document's `failures`.
    """
    scoring = Scoring.of(
        dataset,
        sources,
        protocol=protocol,
        metrics=metrics,
        annotations=annotations,
        ignore_label=ignore_label,
        tolerance=tolerance,
    )
    return scoring.run(at=at, limit=limit, jobs=jobs, keep=keep, resume=resume, progress=progress)


def _choose(
    wanted: Sequence[str] | None, also: Sequence[str], usual: Sequence[str], dataset: Dataset
) -> tuple[str, ...]:
    """Return the metrics to report; raises UnknownName, or ParameterError for one that the data set cannot give."""
    has = {"labels", "image", dataset.annotation}
    if wanted is None:
        wanted = [name for name in ("epe", *usual, *ALWAYS) if METRICS[name].needs in has]
        if dataset.annotation is None:
            raise DataError(f"{dataset.root} holds images without annotations; name metrics that need none, such as ev")
    for name in (*wanted, *also):
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
        if METRICS[name].needs not in has:
            raise ParameterError(f"metric {name} needs {METRICS[name].needs}, and {type(dataset).__name__} has none")
    return tuple(dict.fromkeys(name for name in (*wanted, *also) if name != "k"))


def _task(entry: Entry, sources: Sequence[Source]) -> Task:
    maps = [(source.name, count, source.files(entry, count)) for source in sources for count in source.counts]
    return Task(entry, tuple(maps))


def _summarise(
    records: Iterator[list[Row]], sources: Sequence[Source], metrics: Sequence[str]
) -> tuple[list[Row], int]:
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


def _at(summary: Sequence[Row], method: str, count: float, failures: list[Failure]) -> Row:
    """Return the scores of a method interpolated at `count`; NaN, and a failure, outside the achieved counts."""
    mine = [
        {name: v for name, v in row.items() if name not in ("method", "k_requested")}
        for row in summary
        if row["method"] == method
    ]
    try:
        values = measures.at([row for row in mine if not math.isnan(row["k"])], count)
    except ParameterError as error:
        failures.append(Failure("", method, None, f"{method}: {error}"))
        values = dict.fromkeys(mine[0], math.nan) | {"k": float(count)}
    return {"method": method, **values}
