"""Scores of superpixels on a data set: one pass over the images, each decoded once, one row for each annotation.

Rows go to a `Ledger` as they come (`work`), so memory does not grow with the number of images.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from spx_cli import metrics as measures
from spx_cli._version import __version__
from spx_cli.contours.guide import taking_part
from spx_cli.datasets import DATASETS, READ_OPTIONS, Dataset, Entry, Sample, open_dataset
from spx_cli.device import processes
from spx_cli.errors import DataError, DeviceError, MissingExtra, ParameterError, SpxError, WeightsError
from spx_cli.evaluation.document import SCHEMA, Document, Failure, Row, at_count, summarise
from spx_cli.evaluation.sources import Map, Segmenter, Source
from spx_cli.evaluation.work import Progress, digest, score_all
from spx_cli.metrics import METRICS, Policy
from spx_cli.options import EvaluateOptions, ReadOptions
from spx_cli.registry import lookup, unknown
from spx_cli.types import Labels

POLICIES: tuple[Policy, ...] = ("each", "mean", "best", "worst")
# Reported unless metrics are named, beside those of the protocol: whether the maps are connected.
ALWAYS = ("components",)


class Subject(NamedTuple):
    """One image to score, and every label map of it that is wanted."""

    entry: Entry
    maps: tuple[Map, ...]

    def digest(self) -> str:
        """Return a digest of the files that the image's scores depend on, '' where one cannot be read."""
        files = (file for wanted in self.maps for file in (wanted.file, wanted.contours) if file)
        return digest(self.entry, files)


def open_data(layout: str, root: str | Path, split: str | None = None, reading: ReadOptions = READ_OPTIONS) -> Dataset:
    """Return the data set to score on: the split asked for, by default the one the field reports on; 'all' takes all.

    Raises as `open_dataset` does; for images without annotations the message says which layout the folder looks like.
    """
    cls: type[Dataset] = lookup(DATASETS, "layout", layout.lower())
    dataset = open_dataset(layout, root, None if split == "all" else split or cls.default_split, reading)
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
    """What to score, and how: all that decides on the numbers. `run` scores.

    metrics, annotations, ignore_label : what the options ask for, the protocol or the data set where they do not say.
    """

    dataset: Dataset
    sources: tuple[Source, ...]
    options: EvaluateOptions
    metrics: tuple[str, ...]
    annotations: Policy
    ignore_label: int | None

    @classmethod
    def of(cls, dataset: Dataset, sources: Sequence[Source], options: EvaluateOptions) -> "Scoring":
        """Return the scoring of the sources' label maps on a data set.

        Raises UnknownName or ParameterError for options that make no sense here.
        """
        if not sources:
            raise ParameterError("nothing to score: name a method or a folder of label maps")
        if empty := [source.name for source in sources if not source.counts]:
            raise ParameterError(f"nothing to score: no number of superpixels for {', '.join(empty)}")
        names = [source.name for source in sources]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ParameterError(f"{', '.join(sorted(repeated))} given twice; results are told apart by these names")
        rule = measures.protocol(options.protocol)
        policy = rule.annotations
        if options.annotations is not None:
            if options.annotations not in POLICIES:
                raise unknown("annotation policy", options.annotations, POLICIES)
            policy = next(known for known in POLICIES if known == options.annotations)
        ignored = options.ignore_label
        return cls(
            dataset=dataset,
            sources=tuple(source.on(dataset) for source in sources),
            options=options,
            metrics=_choose(options.metrics, options.also, rule.metrics, dataset),
            annotations=policy,
            ignore_label=dataset.ignore_label if isinstance(ignored, str) else ignored,
        )

    def settings(self) -> dict[str, Any]:
        """Return what decides on the numbers, as it stands in results."""
        data = self.dataset
        return {
            "schema": SCHEMA,
            "spx": __version__,
            "protocol": self.options.protocol,
            "data": {"set": type(data).__name__, "root": str(data.root), "split": data.split, **data.reading_said()},
            "methods": {source.name: str(source) for source in self.sources},
            "metrics": list(self.metrics),
            "annotations": self.annotations,
            "ignore_label": self.ignore_label,
            "tolerance": self.options.tolerance,
        }

    def _made(self) -> dict[str, Any]:
        """Return what else decides on the numbers: which maps are made or read, and by what."""
        return {
            "counts": {source.name: source.counts for source in self.sources},
            "identity": {source.name: source.identity for source in self.sources},
            "contours": {s.name: s.guide.identity for s in self.sources if isinstance(s, Segmenter) and s.guide},
        }

    def key(self) -> str:
        """Return a short name that only this scoring has, whatever the working folder."""
        text = json.dumps([self.settings(), str(self.dataset.root.resolve()), self._made()])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def run(self, progress: Progress = lambda done, total: None) -> Document:
        """Return the scores. What goes wrong with single images is told in the document's `failures`.

        progress : called with the number of images done and that of all, at the start and after each.
        """
        options = self.options
        entries = self.dataset.entries[: options.limit]
        settings = self.settings()
        # Lists of files stay here; what a subject needs of them goes with it.
        segmenters = tuple(source for source in self.sources if isinstance(source, Segmenter))
        lean = replace(self, dataset=self.dataset.reader(), sources=segmenters)
        ledger = score_all(
            entries,
            partial(_subject, sources=self.sources),
            lean.score,
            options,
            jobs=processes(options.jobs, [method for s in segmenters for method in taking_part(s.method, s.guide)]),
            settings={**settings, **self._made()},
            key=self.key(),
            progress=progress,
        )

        def records() -> Iterator[list[Row]]:
            for entry in entries:
                yield ledger[entry.id]["rows"]

        failures = [Failure("", None, None, line) for line in self.dataset.unpaired if options.limit is None]
        for entry in entries:
            failures += (Failure(*failure) for failure in ledger[entry.id]["failures"])
        summary, pairs = summarise(records(), self.sources, self.metrics)
        interpolated = [
            at_count(summary, source.name, count, failures) for source in self.sources for count in options.at
        ]
        settings["data"]["images"] = len(entries)
        return Document(
            header=settings,
            summary=summary,
            at=interpolated,
            failures=failures,
            pairs=pairs,
            dataset=self.dataset,
            records=records,
            sources=self.sources,
        )

    def score(self, subject: Subject) -> dict[str, Any]:
        """Return the record of an image: a digest of its files, its rows, and what failed."""
        rows: list[Row] = []
        failures: list[Failure] = []
        record: dict[str, Any] = {"digest": subject.digest(), "rows": rows, "failures": failures}
        name = subject.entry.id
        try:
            sample = self.dataset.load(subject.entry)
        except (SpxError, OSError) as error:
            failures.append(Failure(name, None, None, str(error)))
            return record
        sample = sample._replace(truths=sample.truths[: measures.protocol(self.options.protocol).annotators])
        record["traits"] = sample.traits
        ignored = self.ignore_label
        blank = {i for i, truth in enumerate(sample.truths) if ignored is not None and (truth == ignored).all()}
        failures += (
            Failure(name, None, None, f"annotation {i} of {name} has no labelled pixel") for i in sorted(blank)
        )
        if sample.truths and len(blank) == len(sample.truths):
            return record
        indices = [i for i in range(len(sample.truths)) if i not in blank]
        for wanted in subject.maps:
            method, count = wanted.method, wanted.count
            try:
                labels = self._label_map(wanted, subject.entry, sample)
                scored = self._scores(sample, labels, indices)
            except (DeviceError, MissingExtra, WeightsError):
                raise  # no image would fare better
            except (SpxError, OSError) as error:
                said = f"{name}: {error}" if isinstance(error, ParameterError) else str(error)
                failures.append(Failure(name, method, count, said))
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

    def _label_map(self, wanted: Map, entry: Entry, sample: Sample) -> Labels:
        for source in self.sources:
            if isinstance(source, Segmenter) and source.name == wanted.method and not wanted.lacking and wanted.count:
                return source.label_map(sample.image, entry, wanted.count)
        return wanted.read(sample.image)

    def _scores(self, sample: Sample, labels: Labels, indices: Sequence[int]) -> list[dict[str, float]]:
        options = self.options
        scores = measures.score(
            labels,
            [sample.truths[i] for i in indices],
            sample.image,
            protocol=options.protocol,
            metrics=["k", *self.metrics],
            ignore_label=self.ignore_label,
            tolerance=options.tolerance,
            flow=sample.flow,
            valid=sample.valid,
        )
        return measures.combine(scores, self.annotations)


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


def _subject(entry: Entry, sources: Sequence[Source]) -> Subject:
    return Subject(entry, tuple(source.find(entry, count) for source in sources for count in source.counts))
