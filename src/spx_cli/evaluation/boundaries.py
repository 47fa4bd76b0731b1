"""Soft contour maps on a data set, by the BSDS boundary benchmark: made on the fly, or found in folders."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spx_cli._version import __version__
from spx_cli.contours.benchmark import Scores, best_point, boundary_counts, summarise, thresholds
from spx_cli.contours.folder import ContourFolder
from spx_cli.contours.hierarchy import RegionCounts, RegionScores, region_counts, summarise_regions
from spx_cli.contours.maps import Maker
from spx_cli.contours.thinning import segment_boundary
from spx_cli.datasets import Dataset, Entry, Sample
from spx_cli.device import processes
from spx_cli.errors import DataError, DeviceError, MissingExtra, ParameterError, SpxError, WeightsError
from spx_cli.evaluation.document import SCHEMA, Failure, Outcome, Row
from spx_cli.evaluation.work import Progress, Scored, digest, score_all
from spx_cli.io import read_contours
from spx_cli.options import BoundaryOptions
from spx_cli.regions.maps import compact
from spx_cli.types import Contours

ContourSource = Maker | ContourFolder

METRICS = ("ods", "ois", "ap")
REGION_METRICS = RegionScores._fields
ROW = ("recall", "precision", "f", "threshold")


class Wanted(NamedTuple):
    """A contour map to be scored, and its file where it has one; `lacking` says why there is none that should be."""

    method: str
    file: Path | None = None
    lacking: str = ""


class Subject(NamedTuple):
    """One image to score, and every contour map of it that is wanted."""

    entry: Entry
    maps: tuple[Wanted, ...]

    def digest(self) -> str:
        """Return a digest of the files that the image's scores depend on, '' where one cannot be read."""
        return digest(self.entry, (wanted.file for wanted in self.maps if wanted.file))


@dataclass(kw_only=True)
class BoundaryDocument(Outcome):
    """The outcome of the benchmark: a row for each image and source with the best point of the image's own curve.

    summary : for each source its ods, ois and ap; recall, precision and threshold at its best point; images scored.
    scores : the same with the whole curve, by source.
    """

    scores: dict[str, Scores]
    sources: tuple[ContourSource, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what a row of the summary holds, in order."""
        return ("method", *self.metrics, "recall", "precision", "threshold", "images")

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The names of what a row holds, in order."""
        return ("method", "image", *ROW)

    def more(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield the curves, a row for each source and threshold."""
        curves = ((name, point) for name, scores in self.scores.items() for point in scores.curve)
        yield "curves", [{"method": name, **point._asdict()} for name, point in curves]

    def contours(self, image: str, method: str) -> tuple[Sample, Contours]:
        """Return an image by its id and the contour map that was scored, both read or made anew."""
        entry = next(entry for entry in self.dataset.entries if entry.id == image)
        source = next(source for source in self.sources if source.name == method)
        sample = self.dataset.load(entry)
        return sample, _contours(source if isinstance(source, Maker) else _wanted(source, entry), sample)


@dataclass(frozen=True)
class BoundaryScoring:
    """What to score, and how: all that decides on the numbers. `run` scores."""

    dataset: Dataset
    sources: tuple[ContourSource, ...]
    options: BoundaryOptions

    @classmethod
    def of(
        cls, dataset: Dataset, sources: Sequence[ContourSource], options: BoundaryOptions | None = None
    ) -> "BoundaryScoring":
        """Return the scoring of the sources' contour maps; ParameterError or DataError where there is none."""
        if not sources:
            raise ParameterError("nothing to score: name a method or a folder of contour maps")
        names = [source.name for source in sources]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ParameterError(f"{', '.join(sorted(repeated))} given twice; results are told apart by these names")
        if dataset.annotation != "truth":
            raise DataError(f"{dataset.root} has no annotated segments, and so no boundaries to hold contours against")
        if options and options.regions and any(isinstance(source, Maker) for source in sources):
            raise ParameterError("regions are those of ultrametric maps, such as ucm2; contours made here have none")
        placed = (ContourFolder(s.root, dataset.entries) if isinstance(s, ContourFolder) else s for s in sources)
        return cls(dataset, tuple(placed), options or BoundaryOptions())

    def settings(self) -> dict[str, Any]:
        """Return what decides on the numbers, as it stands in results."""
        data = self.dataset
        return {
            "schema": SCHEMA,
            "spx": __version__,
            "protocol": "bsds",
            "data": {"set": type(data).__name__, "root": str(data.root), "split": data.split, **data.reading_said()},
            "methods": {source.name: str(source) for source in self.sources},
            "metrics": [*METRICS, *(REGION_METRICS if self.options.regions else ())],
            "annotations": "pooled",
            "ignore_label": data.ignore_label,
            "tolerance": self.options.max_distance,
            "thresholds": self.options.thresholds,
        }

    def key(self) -> str:
        """Return a short name that only this scoring has, whatever the working folder."""
        folders = [source.root for source in self.sources if isinstance(source, ContourFolder)]
        places = [str(root.resolve()) for root in (self.dataset.root, *folders)]
        return hashlib.blake2b(json.dumps([self.settings(), places]).encode(), digest_size=12).hexdigest()

    def run(self, progress: Progress = lambda done, total: None) -> BoundaryDocument:
        """Return the scores.

        progress : called with the number of images done and that of all, at the start and after each.
        """
        entries = self.dataset.entries[: self.options.limit]
        settings = self.settings()
        # Lists of files stay here; what a subject needs of them goes with it.
        makers = tuple(source for source in self.sources if isinstance(source, Maker))
        lean = replace(self, dataset=self.dataset.reader(), sources=makers)
        ledger = score_all(
            entries,
            partial(_subject, sources=self.sources),
            lean.score,
            self.options,
            jobs=processes(self.options.jobs, [maker.source.method for maker in makers]),
            settings=settings,
            key=self.key(),
            progress=progress,
        )

        def records() -> Iterator[list[Row]]:
            for entry in entries:
                yield ledger[entry.id]["rows"]

        failures = [Failure("", None, None, line) for line in self.dataset.unpaired if self.options.limit is None]
        for entry in entries:
            failures += (Failure(*failure) for failure in ledger[entry.id]["failures"])
        levels = thresholds(self.options.thresholds)
        counts = {
            source.name: [
                np.array(found) for entry in entries if (found := ledger[entry.id].get("counts", {}).get(source.name))
            ]
            for source in self.sources
        }
        scores = {name: summarise(mine, levels) for name, mine in counts.items()}
        summary = [_summary(name, len(counts[name]), score) for name, score in scores.items()]
        for row in summary if self.options.regions else ():
            held = [ledger[entry.id].get("regions", {}).get(row["method"]) for entry in entries]
            row |= summarise_regions(RegionCounts.read(one) for one in held if one)._asdict()
        settings["data"]["images"] = len(entries)
        pairs = sum(map(len, counts.values()))
        return BoundaryDocument(
            header=settings,
            summary=summary,
            at=[],
            failures=failures,
            pairs=pairs,
            dataset=self.dataset,
            records=records,
            scores=scores,
            sources=self.sources,
        )

    def score(self, subject: Subject) -> Scored:
        """Return the record of an image: a digest of its files, its rows, what failed, and its counts by source."""
        rows: list[Row] = []
        failures: list[Failure] = []
        counts: dict[str, list[list[int]]] = {}
        regions: dict[str, dict[str, Any]] = {}
        record: Scored = {"digest": subject.digest(), "rows": rows, "failures": failures}
        record |= {"counts": counts, "regions": regions}
        name = subject.entry.id
        try:
            sample = self.dataset.load(subject.entry)
            segments = [
                compact(truth, ignore_label=self.dataset.ignore_label, what=f"annotation {i} of {name}")
                for i, truth in enumerate(sample.truths)
            ]
        except (SpxError, OSError) as error:
            failures.append(Failure(name, None, None, str(error)))
            return record
        record["traits"] = sample.traits
        truths = [segment_boundary(one) for one in segments]
        bare = [i for i, truth in enumerate(truths) if not truth.any()]
        failures += (Failure(name, None, None, f"annotation {i} of {name} has no boundary") for i in bare)
        if len(bare) == len(truths):
            return record
        unknown = np.logical_and.reduce([one < 0 for one in segments])
        levels = thresholds(self.options.thresholds)
        for wanted in subject.maps:
            method = wanted.method
            try:
                maker = next((s for s in self.sources if isinstance(s, Maker) and s.name == method), None)
                contours = _contours(maker or wanted, sample)
                if self.options.regions and wanted.file:
                    ultrametric = read_contours(wanted.file, size=_doubled(sample))
                    regions[method] = region_counts(ultrametric, segments, levels).kept()
            except (DeviceError, MissingExtra, WeightsError):
                raise  # no image would fare better
            except (SpxError, OSError) as error:
                said = f"{name}: {error}" if isinstance(error, ParameterError) else str(error)
                failures.append(Failure(name, method, None, said))
                continue
            if not contours.any():
                failures.append(Failure(name, method, None, f"{method}: the contour map of {name} is zero everywhere"))
            contours[unknown] = 0
            found = boundary_counts(contours, truths, levels, max_distance=self.options.max_distance)
            counts[method] = found.tolist()
            best = best_point(found, levels)
            rows.append({"method": method, "image": name, **{key: getattr(best, key) for key in ROW}})
        return record


def _contours(source: Maker | Wanted, sample: Sample) -> Contours:
    """Return the contour map of an image, made or read from its file; raises what goes wrong."""
    if isinstance(source, Maker):
        return source.contours(sample.image)
    if source.file is None:
        raise DataError(source.lacking)
    height, width, _ = sample.image.shape
    return read_contours(source.file, size=(height, width))


def _doubled(sample: Sample) -> tuple[int, int]:
    """Return the size of an ultrametric map of an image."""
    return 2 * sample.image.shape[0] + 1, 2 * sample.image.shape[1] + 1


def _subject(entry: Entry, sources: Sequence[ContourSource]) -> Subject:
    return Subject(entry, tuple(_wanted(source, entry) for source in sources))


def _wanted(source: ContourSource, entry: Entry) -> Wanted:
    if isinstance(source, Maker):
        return Wanted(source.name)
    try:
        return Wanted(source.name, source.find(entry))
    except DataError as error:
        return Wanted(source.name, None, str(error))


def _summary(name: str, images: int, scores: Scores) -> Row:
    """Return the row of one source; without an image that was scored, all is undefined."""
    best = scores.ods
    values = {"ods": best.f, "ois": scores.ois.f, "ap": scores.ap}
    values |= {"recall": best.recall, "precision": best.precision, "threshold": best.threshold}
    return {"method": name, **(values if images else dict.fromkeys(values, math.nan)), "images": images}
