"""JUnit XML, which CI systems show: a test case for each gate, for each method and count, and for each failure."""

import re
from typing import Any, TextIO
from xml.sax.saxutils import quoteattr

from spx_cli.evaluation.gates import Report
from spx_cli.reports.tables import rounded, title


def write_junit(report: Report[Any], file: TextIO) -> None:
    """Write a test suite: gates that do not hold are failures, what could not be scored is an error."""
    document = report.document
    failures = sum(not verdict.passed for verdict in report.verdicts)
    errors = len(document.failures)
    tests = len(document.summary) + len(report.verdicts) + errors
    counts = f'tests="{tests}" failures="{failures}" errors="{errors}"'
    file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    file.write(f"<testsuites {counts}>\n <testsuite name={_quote('spx eval: ' + title(document))} {counts}>\n")
    for row in document.summary:
        names = (name for name in document.columns if name not in ("method", "k_requested"))
        scores = ", ".join(f"{name} {rounded(name, row[name])}" for name in names)
        asked = "" if row.get("k_requested") is None else f" at {row['k_requested']}"
        file.write(f"  <testcase classname={_quote(row['method'])} name={_quote(f'scores{asked}: {scores}')}/>\n")
    for verdict in report.verdicts:
        case = f"  <testcase classname={_quote(verdict.method)} name={_quote(str(verdict))}"
        file.write(case + ("/>\n" if verdict.passed else f"><failure message={_quote(str(verdict))}/></testcase>\n"))
    for failure in document.failures:
        where = failure.method or document.header["data"]["set"]
        file.write(f"  <testcase classname={_quote(where)} name={_quote(failure.image or 'files')}>")
        file.write(f"<error message={_quote(failure.error)}/></testcase>\n")
    file.write(" </testsuite>\n</testsuites>\n")


def _quote(text: str) -> str:
    # XML 1.0 has no way to write control characters, and file names may hold any; lone surrogates come from names
    # that are not UTF-8.
    return quoteattr(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "?", text))
