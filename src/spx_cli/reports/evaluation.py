"""Reports on an evaluation: JSON, CSV, Markdown, JUnit, the cells of the table on a terminal, and an HTML page."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest, nsmallest
from itertools import groupby
from statistics import fmean
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from spx_cli.datasets import Sample
from spx_cli.errors import SpxError
from spx_cli.evaluation.document import Document, Outcome, Row
from spx_cli.evaluation.gates import KNOWN, Report
from spx_cli.metrics import METRICS, SPEED_METRICS
from spx_cli.regions.maps import compact
from spx_cli.regions.overlays import render
from spx_cli.reports import junit, tables
from spx_cli.reports.charts import Chart, Line, Mark
from spx_cli.reports.page import (
    Block,
    Charts,
    Checks,
    Figure,
    Gallery,
    Listing,
    Note,
    Page,
    Picture,
    Section,
    write_page,
)
from spx_cli.reports.tables import Table
from spx_cli.types import Image, Labels

SHOWN = 3  # best and worst images of each method
LEAK = np.array([255, 0, 110])  # of what lies outside the segment that a superpixel belongs to


def write_json(report: Report[Any], file: TextIO) -> None:
    """Write one document: the settings, `rows`, `summary`, `at`, `failures`, `gates`. What is undefined is null."""
    document = report.document
    head = json.dumps(tables.finite(document.header), indent=1)
    file.write(head.removesuffix("\n}") + ',\n "rows": [')
    for index, row in enumerate(document.rows()):
        file.write(("," if index else "") + "\n  " + tables.json_line(row))
    file.write("\n ]")
    parts: dict[str, Sequence[Mapping[str, Any]]] = {
        **dict(document.more()),
        "summary": document.summary,
        "at": document.at,
        "failures": [failure._asdict() for failure in document.failures],
        "gates": [verdict._asdict() for verdict in report.verdicts],
    }
    for name, rows in parts.items():
        lines = "".join(("," if i else "") + "\n  " + tables.json_line(row) for i, row in enumerate(rows))
        file.write(f',\n "{name}": [{lines}\n ]')
    file.write(f',\n "passed": {json.dumps(report.passed)}\n}}\n')


def write_csv(report: Report[Any], file: TextIO) -> None:
    """Write the rows; numbers unrounded, empty where undefined."""
    tables.write_csv(file, report.document.row_columns, report.document.rows())


def write_markdown(report: Report[Any], file: TextIO) -> None:
    """Write the summary, the gates and what failed, for a pull request or $GITHUB_STEP_SUMMARY."""
    document = report.document
    file.write(f"### {document.command}: {title(document)}\n\n")
    tables.write_markdown(file, means(document, document.summary))
    if document.at:
        file.write("\nInterpolated linearly along the achieved counts:\n\n")
        tables.write_markdown(file, means(document, document.at))
    if report.verdicts:
        file.write("\n")
        marks = [("pass" if verdict.passed else "**FAIL**", str(verdict)) for verdict in report.verdicts]
        tables.write_markdown(file, Table(("gate", "condition"), marks))
    if document.failures:
        file.write(f"\n{len(document.failures)} not scored:\n\n")
        file.writelines(f"- {failure.error}\n" for failure in document.failures)
    file.write(f"\n{footnote(document)}\n")


def write_junit(report: Report[Any], file: TextIO) -> None:
    """Write a test case for each method and count, each gate, and each pair that could not be scored."""
    document, cases = report.document, []
    for row in document.summary:
        names = (name for name in document.columns if name not in ("method", "k_requested"))
        scores = ", ".join(f"{name} {rounded(name, row[name])}" for name in names)
        asked = "" if row.get("k_requested") is None else f" at {row['k_requested']}"
        cases.append(junit.Case(row["method"], f"scores{asked}: {scores}"))
    for verdict in report.verdicts:
        cases.append(junit.Case(verdict.method, str(verdict), "passed" if verdict.passed else "failure", str(verdict)))
    for failure in document.failures:
        where = failure.method or document.header["data"]["set"]
        outcome: Literal["skipped", "error"] = "skipped" if report.forgiven else "error"
        cases.append(junit.Case(where, failure.image or "files", outcome, failure.error))
    junit.write_suite(file, f"{document.command}: {title(document)}", cases)


def write_html(report: Report[Document], file: TextIO) -> None:
    """Write the page. Pictures are made anew from the images, so the data set must still be there."""
    document = report.document

    def sections() -> Iterator[Section]:
        yield Section("Means", [means(document, document.summary)])
        if document.at:
            note = Note("Interpolated linearly along the achieved counts.")
            yield Section("At equal count", [note, means(document, document.at)])
        yield Section("Curves", [Charts(list(figures(document, document.metrics)), list(document.header["methods"]))])
        yield Section("Worst and best images", _galleries(document))

    write_page(page(report, sections()), file)


def page(report: Report[Any], sections: Iterator[Section], *, live: bool = False) -> Page:
    """Return the page on a report: gates first, then `sections`, then what could not be scored."""
    document = report.document

    def every() -> Iterator[Section]:
        if report.verdicts:
            yield Section("Gates", [Checks([(verdict.passed, str(verdict)) for verdict in report.verdicts])])
        yield from sections
        if document.failures:
            lines = [failure.error for failure in document.failures]
            yield Section(f"Not scored: {len(lines)}", [Listing(lines)])

    return Page(document.command, title(document), report.passed, every(), footnote(document), live)


def means(document: Outcome, rows: Sequence[Row], *, arrows: bool = True) -> Table:
    """Return rows of the summary, rounded for people; arrows tell which way is better."""
    marks = {1: " ↑", -1: " ↓"} if arrows else {}
    timed = any("ms" in row for row in rows)
    columns = [name for name in document.columns if timed or name not in SPEED_METRICS]
    told = {*document.metrics, *SPEED_METRICS}
    shown = ("asked" if name == "k_requested" else name for name in columns)
    head = [name + (marks.get(KNOWN[name].sign, "") if name in told else "") for name in shown]
    return Table(head, [[_cell(name, row.get(name)) for name in columns] for row in rows])


def _cell(name: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:g}" if name == "k_requested" else rounded(name, value)


def rounded(name: str, value: float) -> str:
    """Return a score as people read it, - where undefined."""
    if math.isnan(value):
        return "-"
    if isinstance(value, int):
        return str(value)
    if name in SPEED_METRICS:
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if name in METRICS and not METRICS[name].sign:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def title(document: Outcome) -> str:
    """Return what was evaluated, in a few words."""
    data = document.header["data"]
    split = f" {data['split']}" if data["split"] else ""
    return (
        f"{data['set']}{split}, {data['images']} images, {document.pairs} rows, protocol {document.header['protocol']}"
    )


def footnote(document: Outcome) -> str:
    """Return the settings that the scores depend on."""
    header = document.header
    parts = [f"spx {header['spx']}", f"annotations: {header['annotations']}"]
    if header["tolerance"] is not None:
        unit = "of the diagonal" if "thresholds" in header else "px"
        parts.append(f"boundary tolerance: {header['tolerance']} {unit}")
    if header["ignore_label"] is not None:
        parts.append(f"ignored label: {header['ignore_label']}")
    parts += document.remarks
    parts += [f"{name}: {described}" for name, described in header["methods"].items()]
    return "; ".join(parts)


def figures(document: Outcome, metrics: Sequence[str]) -> Iterator[Figure]:
    """Yield a chart for each metric that has a better and a worse: it over the achieved count."""
    for metric in (name for name in metrics if METRICS[name].sign):
        lines = []
        for method in document.header["methods"]:
            points = sorted((row["k"], row[metric]) for row in document.summary if row["method"] == method)
            marks = [Mark(k, v, f"{method}: {metric} {rounded(metric, v)} at {rounded('k', k)}") for k, v in points]
            lines.append(Line(points, marks, method))
        if chart := Chart(f"{metric} over the achieved count", lines, "superpixels achieved"):
            text = f"{METRICS[metric].summary}; {METRICS[metric].better} is better"
            yield Figure(chart, metric, text)


class _Scored(NamedTuple):
    """One image under one method and count: the mean of the metric over its annotations."""

    score: float
    image: str


def _galleries(document: Document) -> Iterator[Block]:
    """Yield, for each method at its middle count, the images that score worst and best."""
    metric = next(
        (name for name in ("asa", *document.metrics) if name in document.metrics and METRICS[name].sign), None
    )
    if metric is None:
        return
    sign = METRICS[metric].sign
    yield Note(
        f"By {metric}, mean over annotations, worst first. Tinted: pixels outside the true segment that most of their "
        "superpixel lies in, for the annotation with the fewest such pixels."
    )
    for name in document.header["methods"]:
        rows = sorted((row for row in document.summary if row["method"] == name), key=lambda row: row["k"])
        count = rows[(len(rows) - 1) // 2]["k_requested"]
        worst = nsmallest(SHOWN, _ranked(document, metric, name, count), key=lambda s: sign * s.score)
        best = nlargest(SHOWN, _ranked(document, metric, name, count), key=lambda s: sign * s.score)
        chosen = worst + [scored for scored in reversed(best) if scored not in worst]
        if chosen:
            asked = "" if count is None else f" at {count}"
            yield Gallery(name + asked, (_picture(document, metric, name, count, scored) for scored in chosen))


def _ranked(document: Document, metric: str, method: str, count: int | None) -> Iterator[_Scored]:
    mine = (row for row in document.rows() if row["method"] == method and row["k_requested"] == count)
    for image, rows in groupby(mine, key=_image):
        values = [row[metric] for row in rows if math.isfinite(row[metric])]
        if values:
            yield _Scored(fmean(values), image)


def _image(row: Row) -> str:
    return str(row["image"])


def _picture(document: Document, metric: str, method: str, count: int | None, scored: _Scored) -> Picture:
    try:
        sample, labels = document.label_map(scored.image, method, count)
    except (SpxError, OSError) as error:
        return Picture(scored.image, None, text=str(error))
    picture = render(_tint(sample, labels, document.header["ignore_label"]), labels)
    return Picture(scored.image, picture, rounded(metric, scored.score))


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
