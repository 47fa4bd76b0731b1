"""JUnit XML, which CI systems show."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TextIO
from xml.sax.saxutils import quoteattr


class Case(NamedTuple):
    """A test case; `message` says what is wrong, or was skipped, unless it passed."""

    group: str
    name: str
    outcome: Literal["passed", "skipped", "failure", "error"] = "passed"
    message: str = ""


def write_suite(file: TextIO, name: str, cases: Sequence[Case]) -> None:
    """Write a test suite."""
    failures, errors = (sum(case.outcome == outcome for case in cases) for outcome in ("failure", "error"))
    counts = f'tests="{len(cases)}" failures="{failures}" errors="{errors}"'
    file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    file.write(f"<testsuites {counts}>\n <testsuite name={_quote(name)} {counts}>\n")
    for case in cases:
        inside = "" if case.outcome == "passed" else f"<{case.outcome} message={_quote(case.message)}/>"
        file.write(f"  <testcase classname={_quote(case.group)} name={_quote(case.name)}")
        file.write(f">{inside}</testcase>\n" if inside else "/>\n")
    file.write(" </testsuite>\n</testsuites>\n")


def _quote(text: str) -> str:
    # XML 1.0 has no way to write control characters, and file names may hold any; lone surrogates come from names
    # that are not UTF-8.
    return quoteattr(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "?", text))
