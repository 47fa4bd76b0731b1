"""spx bench: methods and other people's implementations in, speed and accuracy side by side out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spx_cli.cli import _options, _reports
from spx_cli.cli._output import log_to_stderr, note, progress, table
from spx_cli.errors import ParameterError
from spx_cli.options import BenchOptions

if TYPE_CHECKING:
    from spx_cli.methods.base import Method

MethodNames = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--method",
        metavar="NAME",
        autocompletion=_options.complete_method,
        help="Compare this method; repeatable. [default: slic]",
    ),
]
Counts = Annotated[
    list[int] | None,
    typer.Option("-k", "--segments", min=1, max=10**9, metavar="K", help="Superpixels; repeatable. [default: 200]"),
]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        "--peer",
        metavar="NAME",
        help="Compare with this implementation by others, such as skimage-slic or opencv-seeds; all: those that are "
        "installed; repeatable.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder of a data set: accuracy and speed.", show_default=False),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Folder of images without annotations.", show_default=False),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="papers: the tables of LNS-Net, SEN, SSN, SIN and RIM, theirs beside ours, on BSDS500; by default of all "
        "methods, on 20 images.",
    ),
]
Flows = Annotated[
    list[Path] | None,
    typer.Option("--flow", metavar="DIR", help="With --preset papers: Middlebury or Sintel flow; repeatable."),
]
AsCsv = Annotated[str, _reports.report("--csv", "A row for each method and count, with scores and times")]
Tolerance = Annotated[
    list[str] | None,
    typer.Option(
        "--tolerance",
        metavar="N|[METHOD:]METRIC=VALUE",
        help="N: boundary tolerance in pixels. METRIC=VALUE: compare this metric alone with --baseline; so much "
        "worse it may be; repeatable.",
    ),
]


@_options.taking(BenchOptions)
def bench(
    *,
    data: Data = None,
    images: Images = None,
    method: MethodNames = None,
    segments: Counts = None,
    peer: Peers = None,
    preset: Preset = None,
    flow: Flows = None,
    param: _options.Params = None,
    device: _options.Device = None,
    seed: _options.Seed = None,
    options: BenchOptions,
    contours: Annotated[
        str | None, typer.Option("--contours", metavar="NAME|DIR", help="Along what methods merge, as for segment.")
    ] = None,
    tolerance: Tolerance = None,
    fail_under: _reports.FailUnder = None,
    fail_over: _reports.FailOver = None,
    baseline: _reports.Baseline = None,
    max_failures: _reports.MaxFailures = 0,
    as_json: _reports.AsJson = "",
    as_csv: AsCsv = "",
    as_markdown: _reports.AsMarkdown = "",
    as_junit: _reports.AsJunit = "",
    as_html: _reports.AsHtml = "",
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = False,
) -> None:
    """Compare speed and accuracy of methods, and of other people's implementations that are installed, in one run.

    Every call is timed right beside one of --against; a gate may be about that ratio: --fail-over slic:ratio=0.2.
    """
    from spx_cli import api
    from spx_cli.evaluation.gates import Conditions
    from spx_cli.metrics import SPEED_METRICS
    from spx_cli.reports.bench import further

    log_to_stderr(verbose=verbose, quiet=quiet)
    if (data is None) == (images is None):
        raise ParameterError("name what to run on: --data DIR, or --images DIR where there are no annotations")
    outputs = _reports.wanted(
        json=as_json,
        csv=as_csv,
        markdown=as_markdown,
        junit=as_junit,
        html=as_html,
        kept=(baseline, options.rows),
    )
    radius, slack = _reports.tolerances(tolerance or [])
    conditions = Conditions.parse(fail_under or [], fail_over or [], baseline, slack)
    also = tuple(name for name in conditions.metrics if name not in SPEED_METRICS)
    options = replace(options, tolerance=radius, also=also, cached=True, contours=contours, guide_device=device)
    if images is not None:
        usual, annotated = BenchOptions(), ("layout", "split", "protocol", "annotations", "ignore_label", "tolerance")
        if given := [name for name in annotated if getattr(options, name) != getattr(usual, name)]:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ParameterError(f"{flags}: for --data, of images that are annotated")
        options = replace(options, metrics=options.metrics or ("ev", "co", "components"))
    if preset and segments:
        raise ParameterError("--preset says which counts; leave out -k")
    names = method or ([] if peer or preset else ["slic"])
    if param and len(names) != 1:
        raise ParameterError("-p sets a parameter of one method; give one -m, or one run for each")
    all_run = preset is not None and not names
    for option, value in () if all_run or contours else (("device", device), ("seed", seed)):
        if value not in (None, "auto", "cpu") and not any(option in _declared(name) for name in names):
            raise ParameterError(f"no method of this run has a {option}; leave out --{option}")
    if not names and not all_run and (options.native_count or contours):
        raise ParameterError("--native-count and --contours are about methods of ours, and none runs")
    methods = [_make(name, param, device, seed) for name in names]
    with progress("steps", quiet=quiet) as tell:
        document = api.benchmark(
            data or images or "",
            methods,
            segments or [200],
            options,
            peers=peer or [],
            preset=preset,
            flows=flow or [],
            conditions=conditions,
            progress=tell,
        )
    if not quiet and document.busy:
        note(f"spx: the machine was too busy for these times, ratios hold better: {', '.join(document.busy)}")
    if _reports.STDOUT not in outputs.values():
        for title, text, found in further(document):
            if not quiet:
                note(f"{title}: {text}")
            table(found.head, found.rows, title=title)
    _reports.deliver(conditions.judge(document, max_failures), outputs, quiet=quiet)


bench.parser = _reports.OptionalFiles  # type: ignore[attr-defined]


def _declared(name: str) -> dict[str, Any]:
    """Return the parameters of a method."""
    from spx_cli.methods import METHODS
    from spx_cli.params import fields
    from spx_cli.registry import lookup

    return fields(lookup(METHODS, "method", name))


def _make(name: str, param: list[str] | None, device: str | None, seed: int | None) -> "Method":
    """Return a method; device and seed go to those that have one, as many kinds stand side by side."""
    given: dict[str, Any] = {"device": device, "seed": seed}
    return _options.make_method(name, param, **{key: given[key] for key in given if key in _declared(name)})
