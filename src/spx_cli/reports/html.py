"""One HTML page that needs nothing else: gates, scores, curves over the achieved count, best and worst images."""

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from heapq import nlargest, nsmallest
from html import escape
from io import BytesIO
from itertools import groupby
from statistics import fmean
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from spx_cli.datasets import Sample
from spx_cli.errors import SpxError
from spx_cli.evaluation.document import Document, Row
from spx_cli.evaluation.gates import Report
from spx_cli.metrics import METRICS
from spx_cli.regions.maps import compact
from spx_cli.regions.overlays import render
from spx_cli.reports.curves import COLOURS, Curve, chart
from spx_cli.reports.tables import cells, columns, footnote, rounded, title
from spx_cli.types import Image, Labels

SHOWN = 3  # best and worst images of each method
LONG_SIDE = 480  # pixels of a picture in the page
LEAK = np.array([255, 0, 110])  # of what lies outside the segment that a superpixel belongs to


def write_html(report: Report[Document], file: TextIO) -> None:
    """Write the page. Pictures are made anew from the images, so the data set must still be there."""
    document = report.document
    file.write(opening(report, title(document)))
    file.write(section("Means", table(columns(document, arrows=True), list(cells(document, document.summary)))))
    if document.at:
        note = "<p>Interpolated linearly along the achieved counts.</p>"
        rows = table(columns(document, arrows=True), list(cells(document, document.at)))
        file.write(section("At equal count", note + rows))
    file.write(section("Curves", _legend(document) + _charts(document)))
    file.write(section("Worst and best images", "".join(_gallery(document))))
    if document.failures:
        lines = "".join(f"<li>{escape(failure.error)}</li>" for failure in document.failures)
        file.write(section(f"Not scored: {len(document.failures)}", f"<ul>{lines}</ul>"))
    file.write(f"<footer>{escape(footnote(document))}</footer>\n</main></body></html>\n")


def opening(report: Report[Any], about: str) -> str:
    """Return the page up to its first section: what it is about, whether the run passed, and what the gates say."""
    outcome = _class(report.passed)
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>spx eval: {escape(about)}</title>',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>',
        "<body><main>\n",
        f'<header><h1>spx eval <span class="{outcome}">{outcome}</span></h1><p>{escape(about)}</p></header>\n',
    ]
    if report.verdicts:
        lines = "".join(
            f'<li class="{_class(verdict.passed)}">{escape(str(verdict))}</li>' for verdict in report.verdicts
        )
        parts.append(section("Gates", f'<ul class="gates">{lines}</ul>'))
    return "".join(parts)


def _class(passed: bool) -> str:
    return "passed" if passed else "failed"


def section(head: str, body: str) -> str:
    """Return a section of the page."""
    return f"<section><h2>{escape(head)}</h2>{body}</section>\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _legend(document: Document) -> str:
    names = "".join(
        f'<li><svg viewBox="0 0 10 10"><circle class="c{i % COLOURS}" cx="5" cy="5" r="5"/></svg>{escape(name)}</li>'
        for i, name in enumerate(document.header["methods"])
    )
    return f'<ul class="legend">{names}</ul>'


def _charts(document: Document) -> str:
    figures = []
    for metric in (name for name in document.metrics if METRICS[name].sign):
        curves = []
        for name in document.header["methods"]:
            rows = [row for row in document.summary if row["method"] == name]
            curves.append(Curve(name, sorted((row["k"], row[metric]) for row in rows)))
        if drawn := chart(metric, curves):
            caption = f"<b>{escape(metric)}</b> {escape(METRICS[metric].summary)}; {METRICS[metric].better} is better"
            figures.append(f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="charts">{"".join(figures)}</div>'


class _Scored(NamedTuple):
    """One image under one method and count: the mean of the metric over its annotations."""

    score: float
    image: str


def _gallery(document: Document) -> Iterator[str]:
    """Yield, for each method at its middle count, the images that score worst and best."""
    metric = next(
        (name for name in ("asa", *document.metrics) if name in document.metrics and METRICS[name].sign), None
    )
    if metric is None:
        return
    sign = METRICS[metric].sign
    yield (
        f"<p>By {escape(metric)}, mean over annotations, worst first. Tinted: pixels outside the true segment that "
        "most of their superpixel lies in, for the annotation with the fewest such pixels.</p>"
    )
    for name in document.header["methods"]:
        rows = sorted((row for row in document.summary if row["method"] == name), key=lambda row: row["k"])
        count = rows[(len(rows) - 1) // 2]["k_requested"]
        worst = nsmallest(SHOWN, _ranked(document, metric, name, count), key=lambda s: sign * s.score)
        best = nlargest(SHOWN, _ranked(document, metric, name, count), key=lambda s: sign * s.score)
        chosen = worst + [scored for scored in reversed(best) if scored not in worst]
        if chosen:
            asked = "" if count is None else f" at {count}"
            figures = "".join(_figure(document, metric, name, count, scored) for scored in chosen)
            yield f'<h3>{escape(name)}{asked}</h3><div class="pictures">{figures}</div>'


def _ranked(document: Document, metric: str, method: str, count: int | None) -> Iterator[_Scored]:
    mine = (row for row in document.rows() if row["method"] == method and row["k_requested"] == count)
    for image, rows in groupby(mine, key=_image):
        values = [row[metric] for row in rows if math.isfinite(row[metric])]
        if values:
            yield _Scored(fmean(values), image)


def _image(row: Row) -> str:
    return str(row["image"])


def _figure(document: Document, metric: str, method: str, count: int | None, scored: _Scored) -> str:
    try:
        sample, labels = document.label_map(scored.image, method, count)
    except (SpxError, OSError) as error:
        return f"<figure><figcaption>{escape(str(error))}</figcaption></figure>"
    picture = render(_tint(sample, labels, document.header["ignore_label"]), labels)
    caption = f"{escape(scored.image)} <b>{rounded(metric, scored.score)}</b>"
    image = f'<img alt="{escape(scored.image)}" src="{data_uri(picture)}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _tint(sample: Sample, labels: Labels, ignore_label: int | None) -> Image:
    """Return the image with the pixels marked that leak, for the annotation that the map fits best."""
    leaks = [_leak(labels, truth, ignore_label) for truth in sample.truths]
    if not leaks:
        return sample.image
    leak = min(leaks, key=np.count_nonzero)
    tinted = sample.image.copy()
    tinted[leak] = (0.35 * tinted[leak] + 0.65 * LEAK).astype(np.uint8)
    return tinted


def _leak(labels: Labels, truth: Labels, ignore_label: int | None) -> NDArray[np.bool_]:
    """Return the labelled pixels outside the true segment that most of their superpixel lies in; bool (H, W)."""
    ids, segments = compact(labels).astype(np.int64), compact(truth, ignore_label=ignore_label).astype(np.int64)
    width = segments.max() + 1
    codes, counts = np.unique((ids * width + segments)[segments >= 0], return_counts=True)
    main = np.full(ids.max() + 1, -1)
    order = np.argsort(counts, kind="stable")
    main[codes[order] // width] = codes[order] % width
    return np.asarray((segments >= 0) & (segments != main[ids]))


def data_uri(image: Image) -> str:
    """Return a picture, made small, as the address of an <img>."""
    picture = Pillow.fromarray(image)
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    data = BytesIO()
    picture.save(data, "JPEG", quality=82)
    return "data:image/jpeg;base64," + b64encode(data.getvalue()).decode()


PALETTE = ("#0b6bcb", "#d9600f", "#148a6c", "#c2418c", "#7a5cc4", "#a8790a", "#2b9fb8", "#7d4a32")
STYLE = (
    """
:root { color-scheme: light dark; --page: #fbfaf8; --card: #fff; --ink: #1d1f24; --soft: #6a6e78; --line: #e4e2dd;
  --good: #1a7f4b; --bad: #c22f3d; """
    + " ".join(f"--c{i}: {colour};" for i, colour in enumerate(PALETTE))
    + """ }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --card: #1c1f25; --ink: #e8e8e6; --soft: #9aa0ab;
  --line: #31353d; --good: #4cc38a; --bad: #ff7b7b; --c0: #62adff; --c1: #ff9a55; --c2: #3ecfa6; --c3: #f283bd;
  --c4: #b39bf5; --c5: #e2b53e; --c6: #67d2e8; --c7: #cf9c83; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -.01em; } h2 { font-size: 17px; margin: 0 0 14px; }
h3 { font-size: 15px; margin: 22px 0 8px; } header p, footer, section p { color: var(--soft); margin: 4px 0 12px; }
h1 span { font-size: 13px; font-weight: 600; padding: 3px 10px; border-radius: 99px; color: var(--card);
  vertical-align: 4px; margin-left: 8px; }
span.passed { background: var(--good); } span.failed { background: var(--bad); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 20px 22px; margin: 18px 0; }
footer { font-size: 13px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: 6px 12px; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: 13px; } th:first-child, td:first-child { text-align: left; }
tbody tr:last-child td { border-bottom: 0; }
ul { margin: 0; padding-left: 20px; } ul.gates, ul.legend { list-style: none; padding: 0; }
.gates li::before { display: inline-block; width: 22px; font-weight: 700; }
.gates .passed::before { content: "✓"; color: var(--good); } .gates .failed { color: var(--bad); }
.gates .failed::before { content: "✗"; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-bottom: 12px; }
.legend svg { width: 10px; height: 10px; margin-right: 6px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 18px 22px; }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; } .pictures figure { max-width: 100%; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: 13px; } figcaption b { color: var(--ink); }
img { height: 246px; max-width: 100%; object-fit: contain; display: block; border-radius: 6px; margin-bottom: 4px; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg .tick { fill: var(--soft); font: 11px system-ui, sans-serif; }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
figure circle { stroke: var(--card); stroke-width: 1.5; }
"""
    + "".join(f"polyline.c{i} {{ stroke: var(--c{i}) }} circle.c{i} {{ fill: var(--c{i}) }}\n" for i in range(COLOURS))
)
