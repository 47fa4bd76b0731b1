"""Reports on contour maps: the precision-recall curve as CSV, as a picture, and in a page that needs nothing else."""

import csv
import math
from collections.abc import Iterator, Sequence
from heapq import nlargest, nsmallest
from html import escape
from typing import TextIO

import numpy as np

from spx_cli.contours.benchmark import Scores
from spx_cli.contours.picture import draw
from spx_cli.errors import SpxError
from spx_cli.evaluation.boundaries import BoundaryDocument
from spx_cli.evaluation.document import Row
from spx_cli.evaluation.gates import Report
from spx_cli.reports.curves import COLOURS
from spx_cli.reports.html import PALETTE, SHOWN, data_uri, opening, section, table
from spx_cli.reports.tables import cells, columns, footnote, title

# ODS on BSDS500 test as published, to compare with: each is a curve of equal F in the chart.
PUBLISHED = {"Canny": 0.60, "SEN": 0.61, "gPb-owt-ucm": 0.73, "HED": 0.79, "human": 0.80}

SIDE, LEFT, TOP = 380, 46, 12  # pixels of the chart, and beside and above it


def write_curve(report: Report[BoundaryDocument], file: TextIO) -> None:
    """Write the curves as CSV, a row for each source and threshold."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("method", "threshold", "recall", "precision", "f"))
    for name, scores in report.document.scores.items():
        rows.writerows((name, *point) for point in scores.curve)


def write_curve_svg(report: Report[BoundaryDocument], file: TextIO) -> None:
    """Write the curves as a picture of its own."""
    drawn = chart(report.document.scores)
    file.write(drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{_PLAIN}", 1))


def write_html(report: Report[BoundaryDocument], file: TextIO) -> None:
    """Write the page. Contours are made or read anew, so the data set and the maps must still be there."""
    document = report.document
    file.write(opening(report, title(document)))
    means = table(columns(document, arrows=True), list(cells(document, document.summary)))
    file.write(section("Boundary benchmark", means))
    file.write(
        section("Precision and recall", f'<style>{_CHART}</style><div class="pr">{chart(document.scores)}</div>')
    )
    file.write(section("Worst and best images", "".join(_gallery(document))))
    if document.failures:
        lines = "".join(f"<li>{escape(failure.error)}</li>" for failure in document.failures)
        file.write(section(f"Not scored: {len(document.failures)}", f"<ul>{lines}</ul>"))
    file.write(f"<footer>{escape(footnote(document))}</footer>\n</main></body></html>\n")


def chart(scores: dict[str, Scores]) -> str:
    """Return an SVG element: precision over recall for each source, a dot at its ODS, and curves of equal F."""
    floor, end = TOP + SIDE, LEFT + SIDE
    parts = [
        f'<svg viewBox="0 0 {end + 190} {floor + 36}" role="img" aria-label="precision over recall">',
        f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}"/>',
    ]
    for tenth in range(0, 11, 2):
        x, y = _place(tenth / 10, tenth / 10)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{tenth / 10:g}</text>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{tenth / 10:g}</text>')
    parts.append(f'<text class="tick" x="{end}" y="{floor + 32}" text-anchor="end">recall</text>')
    parts.append(
        f'<text class="tick" x="4" y="{TOP}" transform="rotate(-90 8 {TOP})" text-anchor="end">precision</text>'
    )
    for f in np.arange(1, 10) / 10:
        parts.append(f'<polyline class="even" points="{_line(_equal(f))}"/>')
    for name, f in PUBLISHED.items():
        parts.append(
            f'<polyline class="known" points="{_line(_equal(f))}">'
            f"<title>{name}, ODS {f:.2f} as published</title></polyline>"
        )
    for index, (name, score) in enumerate(scores.items()):
        colour = f"c{index % COLOURS}"
        points = [(p.recall, p.precision) for p in score.curve if p.recall or p.precision]
        x, y = _place(score.ods.recall, score.ods.precision)
        label = f"{name}: ODS {score.ods.f:.3f}, OIS {score.ois.f:.3f}, AP {score.ap:.3f}"
        parts.append(f'<polyline class="{colour}" points="{_line(points)}"/>')
        parts.append(
            f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(label)}</title></circle>'
        )
        parts.append(
            f'<circle class="{colour}" cx="{end + 16}" cy="{TOP + 12 + 18 * index}" r="4"/>'
            f'<text class="tick" x="{end + 26}" y="{TOP + 16 + 18 * index}">{score.ods.f:.3f} {escape(name)}</text>'
        )
    for index, (name, f) in enumerate(sorted(PUBLISHED.items(), key=lambda item: -item[1])):
        y = TOP + 40 + 18 * (len(scores) + index)
        parts.append(f'<text class="tick" x="{end + 26}" y="{y}">{f:.2f} {name}, published</text>')
    return "".join(parts) + "</svg>"


def _place(recall: float, precision: float) -> tuple[float, float]:
    return LEFT + SIDE * recall, TOP + SIDE * (1 - precision)


def _line(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(*point) for point in points))


def _equal(f: float) -> list[tuple[float, float]]:
    """Return points (recall, precision) of one F, from precision 1 to recall 1."""
    least = f / (2 - f)
    return [(float(r), float(f * r / (2 * r - f))) for r in np.linspace(least, 1, 60)]


def _gallery(document: BoundaryDocument) -> Iterator[str]:
    """Yield, for each source, the images that score worst and best."""
    yield "<p>By F at the best threshold of the image, worst first. Drawn: the contour map over the image.</p>"
    for name in document.scores:
        worst = nsmallest(SHOWN, (row for row in document.rows() if row["method"] == name), key=_f)
        best = nlargest(SHOWN, (row for row in document.rows() if row["method"] == name), key=_f)
        chosen = worst + [row for row in reversed(best) if row not in worst]
        figures = "".join(_figure(document, name, row) for row in chosen)
        yield f'<h3>{escape(name)}</h3><div class="pictures">{figures}</div>'


def _f(row: Row) -> float:
    return float(row["f"]) if math.isfinite(row["f"]) else 0.0


def _figure(document: BoundaryDocument, method: str, row: Row) -> str:
    try:
        sample, contours = document.contours(row["image"], method)
    except (SpxError, OSError) as error:
        return f"<figure><figcaption>{escape(str(error))}</figcaption></figure>"
    caption = f"{escape(row['image'])} <b>{row['f']:.4f}</b> at {row['threshold']:.3f}"
    image = f'<img alt="{escape(row["image"])}" src="{data_uri(draw(sample.image, contours))}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


_CHART = """
.pr svg { max-width: 720px; width: 100%; } .pr .frame { fill: none; stroke: var(--line); }
.pr .even { stroke: var(--line); stroke-width: 1; } .pr .known { stroke: var(--soft); stroke-width: 1;
  stroke-dasharray: 3 3; }
"""
# A picture of its own has no page whose colours it could take.
_PLAIN = (
    """<style>svg { background: #fff; font: 11px system-ui, sans-serif; } .tick { fill: #555; }
  .frame { fill: none; stroke: #999; } polyline { fill: none; stroke-width: 2; }
  .even { stroke: #ddd; stroke-width: 1; } .known { stroke: #888; stroke-width: 1; stroke-dasharray: 3 3; }
"""
    + "".join(f"polyline.c{i} {{ stroke: {c} }} circle.c{i} {{ fill: {c} }}\n" for i, c in enumerate(PALETTE))
    + "</style>"
)
