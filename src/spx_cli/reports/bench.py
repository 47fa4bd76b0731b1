"""Reports on a benchmark: Markdown with what a scaling run found, and a live page: tables, charts, pictures."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from spx_cli.bench.papers import Cell, PaperTable
from spx_cli.bench.run import BenchDocument, spaced
from spx_cli.datasets import Entry
from spx_cli.errors import SpxError
from spx_cli.evaluation.document import Row
from spx_cli.evaluation.gates import Report
from spx_cli.metrics import METRICS
from spx_cli.regions.overlays import render
from spx_cli.reports import evaluation, tables
from spx_cli.reports.charts import Chart, Line, Mark
from spx_cli.reports.evaluation import figures, means, page, rounded
from spx_cli.reports.page import (
    Charts,
    Controls,
    Cut,
    Figure,
    Note,
    Section,
    Strip,
    Wall,
    address,
    clear_address,
    write_page,
)
from spx_cli.reports.tables import Table
from spx_cli.types import Image, Labels

CURVES = ("asa", "br", "ue_np", "co", "ev")
SHOWN = 8  # images of the wall
LONG_SIDE = 1000  # pixels of an image in full size
BUDGET = 2_400_000  # bytes of all pictures, so that the page stays below 3 MB


def write_markdown(report: Report[BenchDocument], file: TextIO) -> None:
    """Write what an evaluation says, and how times grow."""
    evaluation.write_markdown(report, file)
    for title, text, table in further(report.document):
        file.write(f"\n#### {title}\n\n{text}\n\n")
        tables.write_markdown(file, table)


def write_csv(report: Report[BenchDocument], file: TextIO) -> None:
    """Write scores and times of each method and count; numbers unrounded, empty where undefined."""
    tables.write_csv(file, report.document.columns, report.document.summary)


def write_html(report: Report[BenchDocument], file: TextIO) -> None:
    """Write the page. Pictures are made anew, so the data set must still be there."""
    document = report.document
    names = list(document.header["methods"])

    def sections() -> Iterator[Section]:
        counts = list(dict.fromkeys(row["k_requested"] for row in document.summary))
        yield Section("Contenders", [Controls(names, counts)])
        notes = [
            Note(f"The times of {', '.join(document.busy)} scatter too much: the machine was busy; ratios hold better.")
        ]
        yield Section("Means", [*notes[: len(document.busy)], means(document, document.summary)])
        if document.at:
            yield Section(
                "At equal count",
                [Note("Interpolated linearly along the achieved counts."), means(document, document.at)],
            )
        curves = list(figures(document, [name for name in CURVES if name in document.metrics]))
        yield Section("Accuracy", [Charts(curves, names)])
        yield Section("Speed", [Charts(list(_speed(document, names)), names)])
        for title, text, table in further(document):
            yield Section(title, [Note(text), table])
        yield Section("Pictures", _wall(document, names))

    write_page(page(report, sections(), live=True), file)


def further(document: BenchDocument) -> Iterator[tuple[str, str, Table]]:
    """Yield what was found besides, each with its title and what is to be known of it."""
    if document.exponents:
        yield "Scaling", "The powers of pixels and of the count with which time grows.", exponents(document)
    for table in document.papers:
        yield table.title, table.text, printed(table)


def printed(table: PaperTable) -> Table:
    """Return a table of a paper for people."""
    return Table(table.head, [[_printed(cell) for cell in row] for row in table.rows])


def _printed(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4f}" if abs(cell) < 1 else f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)


def exponents(document: BenchDocument) -> Table:
    """Return with which powers the times grow, for people."""
    rows = [
        [row["method"], *("-" if math.isnan(row[key]) else f"{row[key]:.2f}" for key in ("over_pixels", "over_count"))]
        for row in document.exponents
    ]
    return Table(("method", "pixels", "count"), rows)


def _speed(document: BenchDocument, names: Sequence[str]) -> Iterator[Figure]:
    """Yield accuracy against time, and time over count and size."""
    measure = next(
        (name for name in ("asa", *document.metrics) if name in document.metrics and METRICS[name].sign), None
    )
    if measure is not None:
        lines = [_line(name, document.summary, "ms", measure) for name in names]
        chart = Chart(f"{measure} against time", lines, "ms", measure, log=(True, False))
        yield from _figure(chart, f"{measure} against time", "median milliseconds for an image; up and left is better")
    over = document.counts or document.summary
    chart = Chart(
        "time over count", [_line(name, over, "k", "ms") for name in names], "superpixels", "ms", log=(True, True)
    )
    yield from _figure(chart, "time over count", "median milliseconds, by the achieved count")
    chart = Chart(
        "time over size",
        [_line(name, document.sizes, "mpx", "ms") for name in names],
        "megapixels",
        "ms",
        log=(True, True),
    )
    yield from _figure(chart, "time over size", "median milliseconds for one image")


def _figure(chart: Chart, name: str, text: str) -> Iterator[Figure]:
    if chart:
        yield Figure(chart, name, text)


def _line(name: str, rows: Sequence[Row], x: str, y: str) -> Line:
    points = sorted((row[x], row[y]) for row in rows if row["method"] == name)
    marks = [Mark(a, b, f"{name}: {y} {rounded(y, b)} at {x} {rounded(x, a)}") for a, b in points]
    return Line(points, marks, name)


def _wall(document: BenchDocument, names: Sequence[str]) -> Iterator[Wall | Note]:
    counts = sorted({row["k_requested"] for row in document.summary})
    if not counts:
        return
    count = counts[(len(counts) - 1) // 2]
    yield Note(
        f"{count} superpixels asked for. A click, or Enter, opens a picture in full size; arrows go on to the next."
    )
    yield Wall(names, _strips(document, names, count))


def _strips(document: BenchDocument, names: Sequence[str], count: int) -> Iterator[Strip]:
    """Yield a row of pictures for each of some images, as long as they fit into the page."""
    scores = _scores(document, count)
    entries = document.dataset.entries[: document.header["data"]["images"]]
    spent = 0
    for entry in spaced(entries, SHOWN):
        try:
            image = _small(document.dataset.load(entry).image)
        except (SpxError, OSError):
            continue  # as is said under what was not scored
        cuts = [_cut(document, entry, name, count, scores.get((name, entry.id), "")) for name in names]
        strip = Strip(entry.id, address(image, quality=78), cuts)
        size = len(strip.address) + sum(len(cut.address) for cut in cuts)
        if spent and spent + size > BUDGET:
            return
        spent += size
        yield strip


def _cut(document: BenchDocument, entry: Entry, name: str, count: int, score: str) -> Cut:
    try:
        image, labels = document.label_map(entry, name, count)
    except (SpxError, OSError) as error:
        return Cut(name, "", str(error))
    said = f"{len(np.unique(labels))} regions{score}"
    small = _small(image)
    if small.shape != image.shape:
        labels = np.asarray(Pillow.fromarray(labels).resize(small.shape[1::-1], Pillow.Resampling.NEAREST))
    return Cut(name, clear_address(lines(labels)), said)


def lines(labels: Labels) -> NDArray[np.uint8]:
    """Return the boundary lines of a map alone, (H, W, 4) with their opacity."""
    grounds = (np.full((*labels.shape, 3), ground, np.uint8) for ground in (0, 255))
    black, white = (render(ground, labels).astype(np.int32) for ground in grounds)
    opacity = 255 - (white - black).max(2)  # of the ground shows all where no line is
    colour = (black * 255 // np.maximum(opacity, 1)[..., None]).clip(0, 255)
    return np.dstack([colour, opacity]).astype(np.uint8)


def _small(image: Image) -> Image:
    """Return an image as it stands in the page."""
    picture = Pillow.fromarray(image)
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    return np.asarray(picture)


def _scores(document: BenchDocument, count: int) -> dict[tuple[str, str], str]:
    """Return what the pictures say of their scores, by method and image: means over the annotations."""
    measure = next((name for name in ("asa", "ev") if name in document.metrics), "")
    found: dict[tuple[str, str], list[float]] = {}
    for row in document.rows() if measure else ():
        if row["k_requested"] == count and math.isfinite(row[measure]):
            found.setdefault((row["method"], row["image"]), []).append(row[measure])
    return {key: f", {measure} {rounded(measure, fmean(values))}" for key, values in found.items()}
