"""One run: contenders are scored as `spx eval` scores, then timed beside each other on some of the images."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from spx_cli.bench import machine
from spx_cli.bench.papers import PaperTable, reproduce
from spx_cli.bench.stand import Stand, stand
from spx_cli.bench.sweep import COUNTS, SIZES, exponent, over_counts, over_sizes, show
from spx_cli.bench.timing import LEAST, Heat, Trial, combine, is_busy, race
from spx_cli.datasets import Entry
from spx_cli.device import pick
from spx_cli.errors import SpxError
from spx_cli.evaluation.document import Document, Failure, Outcome, Row, at_count
from spx_cli.evaluation.scoring import Scoring
from spx_cli.evaluation.sources import Segmenter
from spx_cli.metrics import SPEED_METRICS
from spx_cli.options import BenchOptions
from spx_cli.pool import cores
from spx_cli.registry import unknown
from spx_cli.types import Image, Labels

EXCLUDED = "reading and decoding of images, the start of the process, the first call, and scoring"
SPEED = tuple(SPEED_METRICS)
Progress = Callable[[int, int], None]


@dataclass(kw_only=True)
class BenchDocument(Outcome):
    """What a benchmark says: the scores of an evaluation, with the times of each method and count beside them.

    summary : as in an evaluation, and the speed. NaN for a contender that could not be timed.
    at : scores at equal count, interpolated along the achieved ones; with peers these are at the counts asked for.
    speed : times for each method, count and image size. sizes, counts : of a scaling run. exponents : of those.
    busy : whose times vary too much to be trusted. papers : tables of papers, where they are asked for.
    """

    command: ClassVar[str] = "spx bench"

    scores: Document
    speed: list[Row]
    sizes: list[Row]
    counts: list[Row]
    exponents: list[Row]
    busy: list[str]
    papers: Sequence[PaperTable] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Where the times were taken, and how."""
        ran = self.header["bench"]
        before, after = ran["load"]
        libraries = ", ".join(f"{name} {version}" for name, version in ran["libraries"].items())
        return (
            f"{ran['date']}" + (f", commit {ran['commit']}" if ran["commit"] else ""),
            f"{ran['cpu']}, {ran['cores']} cores, load {before:.1f} before and {after:.1f} after, {ran['system']}",
            libraries,
            f"each contender in a process of its own with {self.header['threads']} thread(s)",
            f"{len(ran['timed'])} image(s) timed, {ran['repeats']} times each; left out: {ran['excluded']}",
            *([f"too busy to trust the times of {', '.join(self.busy)}"] if self.busy else []),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what a row of the summary holds, in order."""
        return (*self.scores.columns, *SPEED)

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The names of what a row holds, in order."""
        return self.scores.row_columns

    @property
    def judged(self) -> tuple[str, Sequence[Row]]:
        """The rows that gates are about: those of the counts asked for, whether also interpolated or not."""
        return "summary", self.summary

    def more(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield what a report as JSON holds besides."""
        yield from (("speed", self.speed), ("sizes", self.sizes), ("counts", self.counts))
        yield "exponents", self.exponents
        yield (
            "papers",
            [dict(zip(t.head, row, strict=True)) | {"table": t.title} for t in self.papers for row in t.rows],
        )

    def label_map(self, entry: Entry, method: str, count: int) -> tuple[Image, Labels]:
        """Return the image of an entry and a contender's map of it, made anew."""
        segmenter = next(s for s in self.scores.sources if isinstance(s, Segmenter) and s.name == method)
        image = self.dataset.load(entry).image
        return image, segmenter.label_map(image, entry, count)


def threads_of(options: BenchOptions) -> int:
    """Return how many threads each contender has."""
    return options.threads or cores()


def settings(scoring: Scoring, options: BenchOptions, peers: Sequence[str]) -> dict[str, Any]:
    """Return what decides on scores and ratios, as it stands in results; UnknownName for a reference that runs not.

    peers : the names of the contenders that are not ours.
    """
    names = [source.name for source in scoring.sources]
    against = options.against or names[0]
    if against not in names:
        raise unknown("contender of this run", against, names)
    return {**scoring.settings(), "against": against, "threads": threads_of(options), "peers": list(peers)}


def run(scoring: Scoring, options: BenchOptions, peers: Sequence[str], progress: Progress) -> BenchDocument:
    """Return the scores and times of all sources of `scoring`, which are Segmenters.

    peers : the names of those that are not ours.
    progress : called with the number of steps done, images scored or settings timed, and that of all.

    Raises UnknownName for a reference that does not run.
    """
    segmenters = [source for source in scoring.sources if isinstance(source, Segmenter)]
    names = [segmenter.name for segmenter in segmenters]
    against = settings(scoring, options, peers)["against"]
    entries = scoring.dataset.entries[: options.limit]
    wanted = segmenters[0].counts
    scoring = replace(scoring, sources=tuple(_bracketed(source) for source in segmenters))
    steps = min(options.timed, len(entries)) * len(wanted) + options.scaling * (
        sum(s <= options.largest for s in SIZES) + len(COUNTS)
    )
    done = len(entries)

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, len(entries) + steps)

    place, before = machine.describe(), machine.load()
    scores = scoring.run(lambda some, every: progress(some, every + steps))
    curve = scores.summary
    scores = replace(scores, summary=[row for row in curve if row["k_requested"] in wanted])
    failures = [one for one in scores.failures if one.k_requested in (None, *wanted)]
    readable = {row["image"] for row in scores.rows()}
    timed = spaced([entry for entry in entries if entry.id in readable], options.timed)
    speed = _Speed(against, failures)
    with ExitStack() as stack:
        stands = (
            [stack.enter_context(stand(segmenter, threads_of(options))) for segmenter in segmenters] if timed else []
        )
        heat = Heat(options.repeats, options.seconds)
        for entry in timed:
            speed.take(stands, scoring, entry, wanted, heat, step)
        if options.scaling and timed:
            speed.scale(stands, scoring, timed[0], wanted[0], heat, options, step)
    summary = [row | speed.of(row["method"], row["k_requested"]) for row in scores.summary]
    at = scores.at
    if not at and not all(_exact(segmenter) for segmenter in segmenters):
        spare: list[Failure] = []  # a count that is beyond what a peer gives is no fault of the run
        at = [at_count(curve, name, count, spare) for name in names for count in wanted]
    header = (
        settings(scoring, options, peers)
        | scores.header
        | {
            "bench": {
                **place,
                "devices": {s.name: _device(s) for s in segmenters},
                "excluded": EXCLUDED,
                "timed": [entry.id for entry in timed],
                "repeats": options.repeats,
                "load": [before, machine.load()],
            },
        }
    )
    busy = [f"{row['method']} at {row['k_requested']}" for row in summary if is_busy(row)]
    return BenchDocument(
        header=header | {"busy": busy},
        summary=summary,
        at=at,
        failures=failures,
        pairs=scores.pairs,
        dataset=scores.dataset,
        records=scores.records,
        scores=scores,
        speed=speed.rows(),
        sizes=speed.sizes,
        counts=speed.counts,
        exponents=speed.exponents(),
        busy=busy,
    )


def with_papers(
    document: BenchDocument, scoring: Scoring, options: BenchOptions, flows: Sequence[Path], progress: Progress
) -> BenchDocument:
    """Return the document with the tables of the papers, for the methods that it is about."""
    methods = [s.method for s in scoring.sources if isinstance(s, Segmenter) and s.name not in document.header["peers"]]
    found = reproduce(methods, scoring.dataset, document.summary, options, threads_of(options), flows, progress)
    return replace(document, papers=found.tables, failures=[*document.failures, *found.failures])


def spaced(entries: Sequence[Entry], number: int) -> list[Entry]:
    """Return so many entries, evenly spread.

    >>> spaced("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if number >= len(entries) or number == 1:
        return list(entries[:number])
    return [entries[round(i * (len(entries) - 1) / (number - 1))] for i in range(number)]


def _exact(segmenter: Segmenter) -> bool:
    """Return whether a contender gives the count that it is asked for."""
    return not segmenter.native_count


def _bracketed(segmenter: Segmenter) -> Segmenter:
    """Return a contender that is also scored at half and at twice its counts where it does not meet them exactly.

    Its curve then reaches them, and it can be compared at equal count.
    """
    if _exact(segmenter):
        return segmenter
    counts = segmenter.counts
    return replace(segmenter, counts=tuple(dict.fromkeys((max(1, min(counts) // 2), *counts, 2 * max(counts)))))


class _Speed:
    """The trials of a run as they come, and the rows that they make."""

    def __init__(self, against: str, failures: list[Failure]) -> None:
        self.against, self.failures = against, failures
        self.trials: dict[tuple[str, int, str], list[Trial]] = {}  # by method, count and size
        self.sizes: list[Row] = []
        self.counts: list[Row] = []

    def take(
        self,
        stands: Sequence[Stand],
        scoring: Scoring,
        entry: Entry,
        counts: Sequence[int],
        heat: Heat,
        step: Callable[[], None],
    ) -> None:
        """Time all contenders on one image at all counts."""
        image = self._read(scoring, entry)
        there = [] if image is None else show(stands, image, entry, self.failures)
        for count in counts:
            if image is not None:
                trials, faults = race([s for s in there if s.alive], self.against, image, entry, count, heat)
                self.failures += faults
                size = "x".join(map(str, sorted(image.shape[:2], reverse=True)))  # upright or not is all one
                for name, trial in trials.items():
                    self.trials.setdefault((name, count, size), []).append(trial)
            step()

    def scale(
        self,
        stands: Sequence[Stand],
        scoring: Scoring,
        entry: Entry,
        count: int,
        heat: Heat,
        options: BenchOptions,
        step: Callable[[], None],
    ) -> None:
        """Time all contenders over the size of one image, and over the count."""
        image = self._read(scoring, entry)
        if image is None:
            return
        few = heat._replace(repeats=LEAST, least=1)
        self.sizes += over_sizes(
            stands,
            self.against,
            image,
            entry,
            count,
            few,
            largest=options.largest,
            longest=options.longest,
            failures=self.failures,
            progress=step,
        )
        self.counts += over_counts(stands, self.against, image, entry, few, failures=self.failures, progress=step)

    def _read(self, scoring: Scoring, entry: Entry) -> Image | None:
        try:
            return scoring.dataset.load(entry).image
        except (SpxError, OSError):
            return None  # as the evaluation has said already

    def of(self, method: str, count: int) -> Row:
        """Return the times of a contender at a count, over all sizes."""
        trials = [t for (name, k, _), some in self.trials.items() if (name, k) == (method, count) for t in some]
        return combine(trials) if trials else dict.fromkeys(SPEED, math.nan)

    def rows(self) -> list[Row]:
        """Return the times for each method, count and size."""
        names = list(dict.fromkeys(method for method, _, _ in self.trials))
        return [
            {"method": method, "k_requested": count, "size": size, "images": len(trials)}
            | {"k": sum(trial.k for trial in trials) / len(trials), "calls": sum(len(t.seconds) for t in trials)}
            | combine(trials)
            for (method, count, size), trials in sorted(self.trials.items(), key=lambda item: names.index(item[0][0]))
        ]

    def exponents(self) -> list[Row]:
        """Return, for each contender, p of the time ~ size^p and of time ~ count^p."""
        names = dict.fromkeys(row["method"] for row in (*self.sizes, *self.counts))
        return [
            {
                "method": name,
                "over_pixels": exponent([(r["mpx"], r["ms_min"]) for r in self.sizes if r["method"] == name]),
                "over_count": exponent([(r["k"], r["ms_min"]) for r in self.counts if r["method"] == name]),
            }
            for name in names
        ]


def _device(segmenter: Segmenter) -> str:
    """Return where a contender computes."""
    asked = getattr(segmenter.method, "device", "cpu")
    return str(pick(asked))
