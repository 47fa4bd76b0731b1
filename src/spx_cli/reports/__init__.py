"""Reports: what an evaluation says goes in, a file for people or machines comes out.

`page`, `charts`, `tables` and `junit` know nothing of what they show; `evaluation`, `bench` and `contours` say it. To
add a report: write a function (report, file) in a file here, add its line to a table below.
"""

from collections.abc import Callable
from typing import Any, TextIO

from spx_cli.evaluation.gates import Report
from spx_cli.registry import lookup

REPORTS = {
    "json": "spx_cli.reports.evaluation:write_json",
    "csv": "spx_cli.reports.evaluation:write_csv",
    "markdown": "spx_cli.reports.evaluation:write_markdown",
    "junit": "spx_cli.reports.evaluation:write_junit",
    "html": "spx_cli.reports.evaluation:write_html",
}
BENCH_REPORTS = REPORTS | {
    "csv": "spx_cli.reports.bench:write_csv",
    "markdown": "spx_cli.reports.bench:write_markdown",
    "html": "spx_cli.reports.bench:write_html",
}
# On contour maps.
CONTOUR_REPORTS = REPORTS | {
    "html": "spx_cli.reports.contours:write_html",
    "curve": "spx_cli.reports.contours:write_curve",
    "curve.svg": "spx_cli.reports.contours:write_curve_svg",
}


def write(kind: str, report: Report[Any], file: TextIO) -> None:
    """Write a report of this kind, a name from REPORTS or CONTOUR_REPORTS, to an open text file."""
    table = CONTOUR_REPORTS if report.document.header["protocol"] == "bsds" else REPORTS
    if report.document.command == "spx bench":
        table = BENCH_REPORTS
    writer: Callable[[Report[Any], TextIO], None] = lookup(table, "report", kind)
    writer(report, file)
