"""spx eval: superpixels and a data set in, scores, reports and verdicts out."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from spx_cli.cli import _options, _reports
from spx_cli.cli._output import log_to_stderr, progress
from spx_cli.errors import ParameterError
from spx_cli.options import BoundaryOptions, DataOptions, EvaluateOptions
from spx_cli.params import fields

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
    typer.Option("-k", "--segments", min=1, max=10**9, metavar="K", help="Superpixels; repeatable. [default: 200]"),
]
LabelFolders = Annotated[
    list[Path] | None,
    typer.Option("--labels", metavar="DIR", help="Score the label maps in DIR, named as the images; repeatable."),
]
Along = Annotated[
    list[str] | None,
    typer.Option(
        "--contours",
        metavar="NAME|DIR",
        help="With -m: along what methods merge regions, as for segment. Alone: score the soft contour maps in DIR, "
        "named as the images, by the BSDS boundary benchmark; repeatable.",
    ),
]
Tolerance = Annotated[
    list[str] | None,
    typer.Option(
        "--tolerance",
        metavar="N|METRIC=VALUE",
        help="N: boundary tolerance in pixels. METRIC=VALUE: compare this metric alone with --baseline; so much "
        "worse it may be; repeatable.",
    ),
]


@_options.taking(EvaluateOptions)
def evaluate(
    *,
    data: _reports.Data,
    method: MethodNames = None,
    segments: Counts = None,
    param: _options.Params = None,
    device: _options.Device = None,
    weights: _options.Weights = None,
    seed: _options.Seed = None,
    labels: LabelFolders = None,
    contours: Along = None,
    thresholds: _reports.Thresholds = None,
    regions: Annotated[
        bool,
        typer.Option("--regions", help="Score the regions of ultrametric maps (ucm2), too: covering, ri and voi."),
    ] = False,
    options: EvaluateOptions,
    tolerance: Tolerance = None,
    fail_under: _reports.FailUnder = None,
    fail_over: _reports.FailOver = None,
    baseline: _reports.Baseline = None,
    max_failures: _reports.MaxFailures = 0,
    as_json: _reports.AsJson = "",
    as_csv: _reports.AsCsv = "",
    as_markdown: _reports.AsMarkdown = "",
    as_junit: _reports.AsJunit = "",
    as_html: _reports.AsHtml = "",
    curve: _reports.Curve = None,
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = False,
) -> None:
    """Score superpixels on a data set: by methods that segment on the fly, or label maps made by any tool.

    With --contours alone soft contour maps are scored: ODS, OIS and AP. With -m they guide the methods.
    """
    from spx_cli import api
    from spx_cli.evaluation.gates import Conditions

    log_to_stderr(verbose=verbose, quiet=quiet)
    outputs = _reports.wanted(
        json=as_json,
        csv=as_csv,
        markdown=as_markdown,
        junit=as_junit,
        html=as_html,
        curve=curve,
        kept=(baseline, options.rows),
    )
    radius, slack = _reports.tolerances(tolerance or [])
    conditions = Conditions.parse(fail_under or [], fail_over or [], baseline, slack)
    if contours and labels:
        raise ParameterError("--contours guides methods or is scored itself; give it and --labels a run each")
    if contours and method and len(contours) > 1:
        raise ParameterError("--contours guides methods by one network or folder; give each a run of its own")
    if contours and not method:
        foreign = {"-k": segments, "-p": param, "--device": device, "--weights": weights, "--seed": seed}
        foreign |= {"--tolerance N": radius} | _changed(options)
        shared = {name: getattr(options, name) for name in fields(DataOptions)} | {"cached": True}
        _reports.benchmark(
            data,
            [Path(folder) for folder in contours],
            BoundaryOptions(**shared, thresholds=thresholds or BoundaryOptions.thresholds, regions=regions),
            conditions,
            outputs,
            foreign=[name for name, value in foreign.items() if value is not None],
            max_failures=max_failures,
            quiet=quiet,
        )
        return
    if curve or thresholds or regions:
        raise ParameterError(
            "--curve, --thresholds and --regions are about contour maps; name their folder with --contours"
        )
    options = replace(options, contours=contours[0] if contours else None, guide_device=device)
    options = replace(options, tolerance=radius, also=conditions.metrics, cached=True)

    names = method or ([] if labels else ["slic"])
    if not names:
        foreign = {"-k": segments, "-p": param, "--device": device, "--weights": weights, "--seed": seed}
        foreign["--native-count"] = options.native_count or None
        if given := [name for name, value in foreign.items() if value is not None]:
            raise ParameterError(f"for methods, not for label maps: {', '.join(given)}; name a method (-m)")
    if param and len(names) != 1:
        raise ParameterError("-p sets a parameter of one method; give one -m, or one run for each")
    methods = [_options.make_method(name, param, device=device, seed=seed, weights=weights) for name in names]
    with progress("images", quiet=quiet) as tell:
        document = api.evaluate(
            data, methods, segments or [200], options, labels=labels or [], conditions=conditions, progress=tell
        )
    _reports.deliver(conditions.judge(document, max_failures), outputs, quiet=quiet)


evaluate.parser = _reports.OptionalFiles  # type: ignore[attr-defined]


def _changed(options: EvaluateOptions) -> dict[str, Any]:
    """Return the options that only label maps have and that differ from their defaults, by flag."""
    own = {name: field for name, field in fields(EvaluateOptions).items() if name not in fields(DataOptions)}
    usual = EvaluateOptions()
    return {
        field.metadata["flags"][0]: getattr(options, name)
        for name, field in own.items()
        if field.metadata["flags"] and getattr(options, name) != getattr(usual, name)
    }
