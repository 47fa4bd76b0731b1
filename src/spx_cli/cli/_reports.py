"""What the commands that score share: reports on files and on the screen, gates, and the boundary benchmark."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spx_cli.cli import _options
from spx_cli.cli._output import complain, note, progress, table
from spx_cli.errors import ParameterError
from spx_cli.options import BoundaryOptions

if TYPE_CHECKING:
    from spx_cli.evaluation.boundaries import ContourSource
    from spx_cli.evaluation.gates import Conditions, Report

STDOUT = "-"
_FILE = "[FILE]"  # of an option that may stand alone
# So many lines name single failures; the JSON report names them all.
MOST_LINES = 20


class OptionalFiles(_options.Command):
    """A command whose report options stand alone, for standard output, or are followed by a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a report option that no file follows the name of standard output."""
        filled: list[str] = []
        reports = [flag for option in self.params if option.metavar == _FILE for flag in option.opts]
        for arg, following in zip(args, [*args[1:], "--"], strict=False):
            filled.append(arg)
            if arg in reports and following.startswith("-") and following != STDOUT:
                filled.append(STDOUT)
        return super().parse_args(ctx, filled)


def report(name: str, what: str) -> Any:
    """Return a report option."""
    return typer.Option(name, metavar=_FILE, help=f"{what}; without FILE on standard output.", show_default=False)


Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the data set.", show_default=False)]
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
Curve = Annotated[
    Path | None,
    typer.Option("--curve", metavar="FILE", help="The precision-recall curve, as .csv or .svg.", show_default=False),
]
Thresholds = Annotated[
    int | None,
    typer.Option("--thresholds", min=1, metavar="N", help="Levels at which contour maps are read. [default: 99]"),
]
AsJson = Annotated[str, report("--json", "Everything, as one document")]
AsCsv = Annotated[str, report("--csv", "A row for each image, and annotation")]
AsMarkdown = Annotated[str, report("--markdown", "Tables for a pull request")]
AsJunit = Annotated[str, report("--junit", "Gates as test cases, for CI systems")]
AsHtml = Annotated[str, report("--html", "A page with curves and pictures")]


def wanted(*, curve: Path | None = None, kept: Sequence[Path | None] = (), **files: str) -> dict[str, str]:
    """Return the reports that are asked for, by kind.

    kept : other files of the run, which no report may replace.

    Raises ParameterError where several would go to one place, or to that of an image, OutputError where a file could
    not be written.
    """
    from spx_cli.io import IMAGE_SUFFIXES
    from spx_cli.io.files import check_output

    outputs = {kind: file for kind, file in (files | _curve(curve)).items() if file}
    if list(outputs.values()).count(STDOUT) > 1:
        raise ParameterError("only one report fits on standard output; give the others a file")
    places = {file.resolve() for file in kept if file is not None}
    for file in outputs.values():
        if file != STDOUT:
            check_output(file)
            place = Path(file).resolve()
            if place in places and (place.is_file() or not place.exists()):  # into a device go as many as like
                raise ParameterError(f"{file} is given for two outputs; each needs a file of its own")
            if place.exists() and place.suffix.lower() in IMAGE_SUFFIXES:
                raise ParameterError(f"the report would replace the image {file}; choose another file")
            places.add(place)
    return outputs


def tolerances(texts: list[str]) -> tuple[int | None, list[str]]:
    """Return the boundary tolerance in pixels among the values of --tolerance, and those about metrics."""
    radii = [text for text in texts if "=" not in text]
    if len(radii) > 1:
        raise ParameterError(f"one boundary tolerance, not {len(radii)}: {', '.join(radii)}")
    if radii and not (radii[0].isascii() and radii[0].isdigit()):
        raise ParameterError(f"--tolerance takes a whole number of pixels or METRIC=VALUE, not {radii[0]!r}")
    return int(radii[0]) if radii else None, [text for text in texts if "=" in text]


def _curve(curve: Path | None) -> dict[str, str]:
    """Return the report that --curve asks for, by kind."""
    if curve is None:
        return {}
    kinds = {".csv": "curve", ".svg": "curve.svg"}
    if curve.suffix.lower() not in kinds:
        raise ParameterError(f"--curve writes .csv or .svg, not {curve.name}")
    return {kinds[curve.suffix.lower()]: str(curve)}


def benchmark(
    data: Path,
    sources: "Sequence[Path | ContourSource]",
    options: BoundaryOptions,
    conditions: "Conditions",
    outputs: Mapping[str, str],
    *,
    foreign: Sequence[str] = (),
    max_failures: int,
    quiet: bool,
) -> None:
    """Score contour maps and tell; ParameterError for options, in `foreign`, and gates that are not about contours."""
    from spx_cli import api
    from spx_cli.evaluation.boundaries import METRICS, REGION_METRICS
    from spx_cli.registry import unknown

    if foreign:
        raise ParameterError(f"not for contour maps: {', '.join(foreign)}")
    for name in conditions.metrics:
        if name not in (*METRICS, *(REGION_METRICS if options.regions else ())):
            raise unknown("metric of contour maps", name, METRICS)
    with progress("images", quiet=quiet) as tell:
        document = api.evaluate_contours(data, sources, options, conditions=conditions, progress=tell)
    deliver(conditions.judge(document, max_failures), outputs, quiet=quiet)


def deliver(report: "Report[Any]", outputs: Mapping[str, str], *, quiet: bool) -> None:
    """Write the reports, show the means unless a report took standard output, and exit with 1 if the run fails."""
    for kind, file in outputs.items():
        _deliver(kind, report, file)
    _tell(report, quiet=quiet, with_table=STDOUT not in outputs.values())
    if not report.passed:
        raise typer.Exit(1)


def _deliver(kind: str, report: "Report[Any]", file: str) -> None:
    from spx_cli.io import atomic
    from spx_cli.reports import write

    if file == STDOUT:
        write(kind, report, sys.stdout)
        return
    # File names that are no UTF-8 must not stop a report.
    with atomic(file) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as out:
        write(kind, report, out)


def _tell(report: "Report[Any]", *, quiet: bool, with_table: bool) -> None:
    """Show the means on standard output, what failed and what the gates say on standard error."""
    from spx_cli.reports.evaluation import means, title

    document = report.document
    if with_table:
        arrows = sys.stdout.isatty()
        summary = means(document, document.summary, arrows=arrows)
        table(summary.head, summary.rows, title=title(document))
        if document.at:
            if not quiet:
                note("at equal count, interpolated linearly along the achieved counts:")
            at = means(document, document.at, arrows=arrows)
            table(at.head, at.rows)
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
