"""Reports that are tables or data: JSON, CSV, Markdown, and the cells of the table on a terminal."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from spx_cli.evaluation.document import Outcome, Row
from spx_cli.evaluation.gates import KNOWN, Report
from spx_cli.metrics import METRICS


def write_json(report: Report[Any], file: TextIO) -> None:
    """Write one document: the settings, `rows`, `summary`, `at`, `failures`, `gates`. What is undefined is null."""
    document = report.document
    head = json.dumps(finite(document.header), indent=1)
    file.write(head.removesuffix("\n}") + ',\n "rows": [')
    for index, row in enumerate(document.rows()):
        file.write(("," if index else "") + "\n  " + _line(row))
    file.write("\n ]")
    parts: dict[str, Sequence[Mapping[str, Any]]] = {
        **dict(document.more()),
        "summary": document.summary,
        "at": document.at,
        "failures": [failure._asdict() for failure in document.failures],
        "gates": [verdict._asdict() for verdict in report.verdicts],
    }
    for name, rows in parts.items():
        lines = "".join(("," if i else "") + "\n  " + _line(row) for i, row in enumerate(rows))
        file.write(f',\n "{name}": [{lines}\n ]')
    file.write(f',\n "passed": {json.dumps(report.passed)}\n}}\n')


def write_csv(report: Report[Any], file: TextIO) -> None:
    """Write the rows; numbers unrounded, empty where undefined."""
    names = report.document.row_columns
    table = csv.writer(file, lineterminator="\n")
    table.writerow(names)
    for row in report.document.rows():
        values = finite(row)
        table.writerow(["" if values[name] is None else values[name] for name in names])


def write_markdown(report: Report[Any], file: TextIO) -> None:
    """Write the summary, the gates and what failed, for a pull request or $GITHUB_STEP_SUMMARY."""
    document = report.document
    file.write(f"### spx eval: {title(document)}\n\n")
    _markdown_table(file, columns(document, arrows=True), cells(document, document.summary))
    if document.at:
        file.write("\nInterpolated linearly along the achieved counts:\n\n")
        _markdown_table(file, columns(document, arrows=True), cells(document, document.at))
    if report.verdicts:
        file.write("\n")
        marks = [("pass" if verdict.passed else "**FAIL**", str(verdict)) for verdict in report.verdicts]
        _markdown_table(file, ("gate", "condition"), marks)
    if document.failures:
        file.write(f"\n{len(document.failures)} not scored:\n\n")
        file.writelines(f"- {failure.error}\n" for failure in document.failures)
    file.write(f"\n{footnote(document)}\n")


def columns(document: Outcome, *, arrows: bool = False) -> tuple[str, ...]:
    """Return the heads of the summary's columns; arrows tell which way is better."""
    marks = {1: " ↑", -1: " ↓"} if arrows else {}
    shown = ("asked" if name == "k_requested" else name for name in document.columns)
    return tuple(name + (marks.get(KNOWN[name].sign, "") if name in document.metrics else "") for name in shown)


def cells(document: Outcome, rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of rows of the summary, rounded for people."""
    for row in rows:
        yield tuple(_cell(name, row.get(name)) for name in document.columns)


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
        parts.append(f"boundary tolerance: {header['tolerance']} px")
    if header["ignore_label"] is not None:
        parts.append(f"ignored label: {header['ignore_label']}")
    parts += [f"{name}: {described}" for name, described in header["methods"].items()]
    return "; ".join(parts)


def finite(value: Any) -> Any:
    """Return a value for JSON: NaN and infinity, which JSON has no word for, become None; whole floats stay floats."""
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(finite(row), allow_nan=False)


def _markdown_table(file: TextIO, head: Sequence[str], rows: Any) -> None:
    file.write("| " + " | ".join(head) + " |\n|" + " --- |" * len(head) + "\n")
    for row in rows:
        file.write("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n")
