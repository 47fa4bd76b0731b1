"""Reports on contour maps: the precision-recall curve as CSV, as a picture, and in a page that needs nothing else."""

import csv
import math
from collections.abc import Iterator
from heapq import nlargest, nsmallest
from typing import TextIO

import numpy as np

from spx_cli.contours.benchmark import Scores
from spx_cli.contours.picture import draw as draw_contours
from spx_cli.errors import SpxError
from spx_cli.evaluation.boundaries import BoundaryDocument
from spx_cli.evaluation.document import Row
from spx_cli.evaluation.gates import Report
from spx_cli.reports.charts import Chart, Guide, Line, Mark, draw
from spx_cli.reports.evaluation import SHOWN, means, page
from spx_cli.reports.page import Block, Charts, Figure, Gallery, Note, Picture, Section, write_page

# ODS on BSDS500 test as published, to compare with: each is a curve of equal F in the chart.
PUBLISHED = {"Canny": 0.60, "SEN": 0.61, "gPb-owt-ucm": 0.73, "HED": 0.79, "human": 0.80}


def write_curve(report: Report[BoundaryDocument], file: TextIO) -> None:
    """Write the curves as CSV, a row for each source and threshold."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("method", "threshold", "recall", "precision", "f"))
    for name, scores in report.document.scores.items():
        rows.writerows((name, *point) for point in scores.curve)


def write_curve_svg(report: Report[BoundaryDocument], file: TextIO) -> None:
    """Write the curves as a picture of its own."""
    file.write(draw(chart(report.document.scores), alone=True))


def write_html(report: Report[BoundaryDocument], file: TextIO) -> None:
    """Write the page. Contours are made or read anew, so the data set and the maps must still be there."""
    document = report.document

    def sections() -> Iterator[Section]:
        yield Section("Boundary benchmark", [means(document, document.summary)])
        yield Section("Precision and recall", [Charts([Figure(chart(document.scores), wide=True)])])
        yield Section("Worst and best images", _galleries(document))

    write_page(page(report, sections()), file)


def chart(scores: dict[str, Scores]) -> Chart:
    """Return precision over recall for each source, a dot at its ODS, and curves of equal F."""
    lines, legend = [], []
    for name, score in scores.items():
        label = f"{name}: ODS {score.ods.f:.3f}, OIS {score.ois.f:.3f}, AP {score.ap:.3f}"
        points = [(p.recall, p.precision) for p in score.curve if p.recall or p.precision]
        lines.append(Line(points, [Mark(score.ods.recall, score.ods.precision, label)]))
        legend.append(f"{score.ods.f:.3f} {name}")
    guides = [Guide("even", _equal(f)) for f in np.arange(1, 10) / 10]
    guides += [Guide("known", _equal(f), f"{name}, ODS {f:.2f} as published") for name, f in PUBLISHED.items()]
    known = sorted(PUBLISHED.items(), key=lambda item: -item[1])
    return Chart(
        "precision over recall",
        lines,
        "recall",
        "precision",
        guides,
        [*legend, *(f"{f:.2f} {name}, published" for name, f in known)],
        limits=((0, 1), (0, 1)),
        size=(440, 420),
    )


def _equal(f: float) -> list[tuple[float, float]]:
    """Return points (recall, precision) of one F, from precision 1 to recall 1."""
    least = f / (2 - f)
    return [(float(r), float(f * r / (2 * r - f))) for r in np.linspace(least, 1, 60)]


def _galleries(document: BoundaryDocument) -> Iterator[Block]:
    """Yield, for each source, the images that score worst and best."""
    yield Note("By F at the best threshold of the image, worst first. Drawn: the contour map over the image.")
    for name in document.scores:
        worst = nsmallest(SHOWN, (row for row in document.rows() if row["method"] == name), key=_f)
        best = nlargest(SHOWN, (row for row in document.rows() if row["method"] == name), key=_f)
        chosen = worst + [row for row in reversed(best) if row not in worst]
        yield Gallery(name, (_picture(document, name, row) for row in chosen))


def _f(row: Row) -> float:
    return float(row["f"]) if math.isfinite(row["f"]) else 0.0


def _picture(document: BoundaryDocument, method: str, row: Row) -> Picture:
    try:
        sample, contours = document.contours(row["image"], method)
    except (SpxError, OSError) as error:
        return Picture(row["image"], None, text=str(error))
    drawn = draw_contours(sample.image, contours)
    return Picture(row["image"], drawn, f"{row['f']:.4f}", f" at {row['threshold']:.3f}")
