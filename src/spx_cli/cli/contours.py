"""spx contours: images in, soft contour maps out; or a data set in, and their scores."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spx_cli.cli import _batch, _options, _reports
from spx_cli.cli._output import log_to_stderr
from spx_cli.errors import ParameterError
from spx_cli.options import BoundaryOptions, ContourOptions

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Score on this data set instead, by the BSDS boundary benchmark.",
        show_default=False,
    ),
]
Layout = Annotated[
    str | None,
    typer.Option("--layout", metavar="NAME", help="How it is laid out: folder, bsds500, voc, ... [default: folder]"),
]
Split = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="Part of the data set, or all. [default: the usual one]")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Score the first N images only.")]


Rows = Annotated[
    Path | None,
    typer.Option(
        "--rows",
        metavar="FILE",
        help="Keep scores here as they come, in place of earlier ones unless --resume. "
        "[default: in the cache, till done]",
    ),
]


@_options.taking(ContourOptions)
def contours(
    *,
    inputs: _options.Inputs = None,
    from_file: _options.FromFile = None,
    null: _options.Null = False,
    method: _options.MethodName = "fcn",
    param: _options.Params = None,
    weights: _options.Weights = None,
    seed: _options.Seed = None,
    device: _options.Device = None,
    out: Annotated[str | None, _batch.out("contours")] = None,
    options: ContourOptions,
    fail_fast: _batch.FailFast = False,
    data: Data = None,
    layout: Layout = None,
    split: Split = None,
    limit: Limit = None,
    thresholds: _reports.Thresholds = None,
    rows: Rows = None,
    fail_under: _reports.FailUnder = None,
    fail_over: _reports.FailOver = None,
    baseline: _reports.Baseline = None,
    curve: _reports.Curve = None,
    as_csv: Annotated[str, _reports.report("--csv", "The scores of each image of --data")] = "",
    as_markdown: _reports.AsMarkdown = "",
    as_junit: _reports.AsJunit = "",
    as_html: _reports.AsHtml = "",
    as_json: _options.Json = False,
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = False,
) -> int:
    """Say how likely each pixel lies on the border of an object, and write a soft contour map for each image.

    Contours are what a network has learned, or the boundaries of superpixels, averaged over 13 counts. With --data they
    are scored instead: ODS, OIS and AP of the BSDS boundary benchmark.
    """
    from spx_cli.batch.contours import contour_files

    log_to_stderr(verbose=verbose, quiet=quiet)
    chosen = _options.make_method(method, param, device=device, seed=seed, weights=weights)
    scoring = {
        "--layout": layout,
        "--split": split,
        "--limit": limit,
        "--thresholds": thresholds,
        "--rows": rows,
        "--fail-under": fail_under,
        "--fail-over": fail_over,
        "--baseline": baseline,
        "--curve": curve,
        "--csv": as_csv,
        "--markdown": as_markdown,
        "--junit": as_junit,
        "--html": as_html,
    }
    if data is None:
        _refuse(scoring, "is about scores; name a data set with --data")
        sources = _batch.sources(inputs, from_file, null=null)
        options = _batch.stopping(options, fail_fast=fail_fast)
        if out == "-":
            if as_json or options.overlay or options.resume or options.dry_run:
                raise ParameterError("-o - sends the map itself to stdout; it goes with no --json, --overlay, --resume")
            return _batch.to_stdout(lambda file: contour_files(chosen, sources, file, options), _suffix(options.format))
        return _batch.show(contour_files(chosen, sources, out, options), as_json=as_json, quiet=quiet, verbose=verbose)

    from spx_cli.contours.maps import make_maker
    from spx_cli.evaluation.gates import Conditions

    files: dict[str, Any] = {"INPUT": inputs, "--from-file": from_file, "--out": out, "--format": options.format}
    files |= {"--overlay": options.overlay, "--overwrite": options.overwrite, "--dry-run": options.dry_run}
    files |= {"--null": null, "--fail-fast": fail_fast}
    _refuse(files, "goes with images; --data scores the images of a data set and writes no maps")
    _reports.benchmark(
        data,
        [make_maker(chosen, options)],
        BoundaryOptions(
            max_pixels=options.max_pixels,
            value_range=options.value_range,
            layout=layout or BoundaryOptions.layout,
            split=split,
            limit=limit,
            jobs=options.jobs,
            rows=rows,
            resume=options.resume,
            thresholds=thresholds or BoundaryOptions.thresholds,
            cached=True,
        ),
        Conditions.parse(fail_under or [], fail_over or [], baseline, []),
        _reports.wanted(
            json=_reports.STDOUT if as_json else "",
            csv=as_csv,
            markdown=as_markdown,
            junit=as_junit,
            html=as_html,
            curve=curve,
            kept=(baseline, rows),
        ),
        max_failures=options.max_failures or 0,
        quiet=quiet,
    )
    return 0


contours.parser = _reports.OptionalFiles  # type: ignore[attr-defined]


def _suffix(format: str | None) -> str:
    return "npy" if format == "npy" else "png"


def _refuse(given: dict[str, Any], why: str) -> None:
    """Raise ParameterError if any of these options was given."""
    if names := [name for name, value in given.items() if value]:
        raise ParameterError(f"{', '.join(names)} {why}")
