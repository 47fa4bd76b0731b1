"""The table of reports on an evaluation. To add one: write a function (report, file) in a file here, add its line."""

from collections.abc import Callable
from typing import TextIO

from spx_cli.evaluation.gates import Report
from spx_cli.registry import lookup

REPORTS = {
    "json": "spx_cli.reports.tables:write_json",
    "csv": "spx_cli.reports.tables:write_csv",
    "markdown": "spx_cli.reports.tables:write_markdown",
    "junit": "spx_cli.reports.junit:write_junit",
    "html": "spx_cli.reports.html:write_html",
}


def write(kind: str, report: Report, file: TextIO) -> None:
    """Write a report of this kind, a name from REPORTS, to an open text file."""
    writer: Callable[[Report, TextIO], None] = lookup(REPORTS, "report", kind)
    writer(report, file)
