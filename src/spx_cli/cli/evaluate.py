"""spx eval: superpixels and a data set in, scores, reports and verdicts out."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from spx_cli.cli import _options
from spx_cli.cli._output import complain, log_to_stderr, note, progress, table
from spx_cli.errors import ParameterError
from spx_cli.options import EvaluateOptions

if TYPE_CHECKING:
    from spx_cli.evaluation.gates import Report

REPORT_OPTIONS = ("--json", "--csv", "--markdown", "--junit", "--html")
STDOUT = "-"
# So many lines name single failures; the JSON report names them all.
MOST_LINES = 20


class OptionalFiles(TyperCommand):
    """A command whose report options stand alone, for standard output, or are followed by a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a report option that no file follows the name of standard output."""
        filled: list[str] = []
        for arg, following in zip(args, [*args[1:], "--"], strict=False):
            filled.append(arg)
            if arg in REPORT_OPTIONS and following.startswith("-") and following != STDOUT:
                filled.append(STDOUT)
        return super().parse_args(ctx, filled)


def _report(name: str, what: str) -> Any:
    return typer.Option(name, metavar="[FILE]", help=f"{what}; without FILE on standard output.", show_default=False)


Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the data set.", show_default=False)]
MethodNames = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--method",
        metavar="NAME",
        autocompletion=_options.complete_method,
        help="Segment with this method; repeatable. [default: slic]",
    ),
]
Counts = Annotated[
    list[int] | None,
    typer.Option("-k", "--segments", min=1, metavar="K", help="Superpixels; repeatable. [default: 200]"),
]
LabelFolders = Annotated[
    list[Path] | None,
    typer.Option("--labels", metavar="DIR", help="Score the label maps in DIR, named as the images; repeatable."),
]
Tolerance = Annotated[
    list[str] | None,
    typer.Option(
        "--tolerance",
        metavar="N|METRIC=VALUE",
        help="N: boundary tolerance in pixels. METRIC=VALUE: how much worse than --baseline may be; repeatable.",
    ),
]
FailUnder = Annotated[
    list[str] | None, typer.Option("--fail-under", metavar="METRIC=VALUE", help="Exit with 1 if a mean is less.")
]
FailOver = Annotated[
    list[str] | None, typer.Option("--fail-over", metavar="METRIC=VALUE", help="Exit with 1 if a mean is more.")
]
Baseline = Annotated[
    Path | None,
    typer.Option("--baseline", metavar="FILE", help="Exit with 1 if worse than in this result of --json."),
]
MaxFailures = Annotated[
    int, typer.Option("--max-failures", min=0, metavar="N", help="So many pairs may fail to be scored.")
]


@_options.taking(EvaluateOptions)
def evaluate(
    *,
    data: Data,
    method: MethodNames = None,
    segments: Counts = None,
    param: _options.Params = None,
    device: _options.Device = None,
    weights: _options.Weights = None,
    seed: _options.Seed = None,
    labels: LabelFolders = None,
    options: EvaluateOptions,
    tolerance: Tolerance = None,
    fail_under: FailUnder = None,
    fail_over: FailOver = None,
    baseline: Baseline = None,
    max_failures: MaxFailures = 0,
    as_json: Annotated[str, _report("--json", "Everything, as one document")] = "",
    as_csv: Annotated[str, _report("--csv", "A row for each image and annotation")] = "",
    as_markdown: Annotated[str, _report("--markdown", "Tables for a pull request")] = "",
    as_junit: Annotated[str, _report("--junit", "Gates as test cases, for CI systems")] = "",
    as_html: Annotated[str, _report("--html", "A page with curves and pictures")] = "",
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = False,
) -> None:
    """Score superpixels on a data set: by methods that segment on the fly, or label maps made by any tool."""
    from spx_cli import api
    from spx_cli.evaluation.gates import Conditions

    log_to_stderr(verbose)
    outputs = {"json": as_json, "csv": as_csv, "markdown": as_markdown, "junit": as_junit, "html": as_html}
    outputs = {kind: file for kind, file in outputs.items() if file}
    if list(outputs.values()).count(STDOUT) > 1:
        raise ParameterError("only one report fits on standard output; give the others a file")
    radius, slack = _tolerances(tolerance or [])
    conditions = Conditions.parse(fail_under or [], fail_over or [], baseline, slack)
    options = replace(options, tolerance=radius, also=conditions.metrics, cached=True)

    names = method or ([] if labels else ["slic"])
    if param and len(names) != 1:
        raise ParameterError("-p sets a parameter of one method; give one -m, or one run for each")
    methods = [_options.make_method(name, param, device=device, seed=seed, weights=weights) for name in names]
    with progress("images", quiet=quiet) as tell:
        document = api.evaluate(data, methods, segments or [200], options, labels=labels or [], progress=tell)
    report = conditions.judge(document, max_failures)
    for kind, file in outputs.items():
        _deliver(kind, report, file)
    _tell(report, quiet=quiet, with_table=STDOUT not in outputs.values())
    if not report.passed:
        raise typer.Exit(1)


evaluate.parser = OptionalFiles  # type: ignore[attr-defined]


def _tolerances(texts: list[str]) -> tuple[int | None, list[str]]:
    """Return the boundary tolerance in pixels among the values of --tolerance, and those about metrics."""
    radii = [text for text in texts if "=" not in text]
    if len(radii) > 1:
        raise ParameterError(f"one boundary tolerance, not {len(radii)}: {', '.join(radii)}")
    if radii and not (radii[0].isascii() and radii[0].isdigit()):
        raise ParameterError(f"--tolerance takes a whole number of pixels or METRIC=VALUE, not {radii[0]!r}")
    return int(radii[0]) if radii else None, [text for text in texts if "=" in text]


def _deliver(kind: str, report: "Report", file: str) -> None:
    from spx_cli.io import atomic
    from spx_cli.reports import write

    if file == STDOUT:
        write(kind, report, sys.stdout)
        return
    # File names that are no UTF-8 must not stop a report.
    with atomic(file) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as out:
        write(kind, report, out)


def _tell(report: "Report", *, quiet: bool, with_table: bool) -> None:
    """Show the means on standard output, what failed and what the gates say on standard error."""
    from spx_cli.reports.tables import cells, columns, title

    document = report.document
    if with_table:
        head = columns(document, arrows=sys.stdout.isatty())
        table(head, list(cells(document, document.summary)), title=title(document))
        if document.at:
            if not quiet:
                note("at equal count, interpolated linearly along the achieved counts:")
            table(head, list(cells(document, document.at)))
    for failure in document.failures[:MOST_LINES]:
        complain(failure.error)
    if (more := len(document.failures) - MOST_LINES) > 0:
        complain(f"and {more} more that could not be scored; --json names them all")
    for verdict in report.verdicts:
        if not verdict.passed:
            complain(f"gate failed: {verdict}")
        elif not quiet:
            note(f"gate passed: {verdict}")
    if not document.pairs:
        complain("no pair was scored")
