"""spx segment: images in, label maps out."""

import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from spx_cli.cli import _options
from spx_cli.cli._output import complain, log_to_stderr, note, print_json, progress, table
from spx_cli.errors import ParameterError
from spx_cli.options import SegmentOptions

if TYPE_CHECKING:
    from spx_cli.batch.engine import Run
    from spx_cli.methods.base import Method


@_options.taking(SegmentOptions)
def segment(
    *,
    inputs: _options.Inputs = None,
    from_file: _options.FromFile = None,
    null: _options.Null = False,
    method: _options.MethodName = "slic",
    param: _options.Params = None,
    weights: _options.Weights = None,
    seed: _options.Seed = None,
    device: _options.Device = None,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="For one image a file (- for stdout) or a folder; for several a folder, in which their tree is "
            "mirrored. [default for one image: STEM.labels.png here]",
        ),
    ] = None,
    options: SegmentOptions,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first file that fails, as --max-failures 0 does.")
    ] = False,
    as_json: _options.Json = False,
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = False,
) -> int:
    """Split images into superpixels and write one label map for each.

    The map has exactly K regions, each 4-connected, numbered in raster order. In a pipe the paths of the maps are
    printed, one a line.
    """
    from spx_cli.batch.engine import segment_files
    from spx_cli.batch.inputs import read_list

    log_to_stderr(verbose=verbose, quiet=quiet)
    chosen = _options.make_method(method, param, device=device, seed=seed, weights=weights)
    sources = (inputs or []) + (read_list(from_file, null=null) if from_file else [])
    if fail_fast:
        options = replace(options, max_failures=0)
    if out == "-":
        if as_json or options.overlay or options.resume or options.dry_run:
            raise ParameterError(
                "-o - sends the label map itself to stdout; it goes with no --json, --overlay, --resume"
            )
        return _to_stdout(chosen, sources, options)

    batch = segment_files(chosen, sources, out, options)
    started = time.perf_counter()
    shown = _show(batch, as_json=as_json, dry_run=options.dry_run, quiet=quiet, verbose=verbose)
    if len(batch) > 1 and not quiet:
        _summarise(shown, time.perf_counter() - started)
    return _exit_code(shown, options.max_failures or 0)


def _to_stdout(method: "Method", sources: list[str], options: SegmentOptions) -> int:
    from spx_cli.batch.engine import segment_files

    with TemporaryDirectory() as folder:
        file = Path(folder, f"labels.{options.format or 'png'}")
        for result in segment_files(method, sources, file, options):
            if result.error:
                complain(result.error)
                return result.exit_code
        sys.stdout.buffer.write(file.read_bytes())
    return 0


class _Shown(NamedTuple):
    """How many results of each status there were, and the exit code of the last failure."""

    statuses: Counter[str]
    exit_code: int


def _show(batch: "Run", *, as_json: bool, dry_run: bool, quiet: bool, verbose: bool) -> _Shown:
    """Print the results as they come: paths or JSON on stdout, failures on stderr."""
    statuses: Counter[str] = Counter()
    code = 0
    terminal = sys.stdout.isatty()
    with progress("images", quiet=quiet or (as_json and terminal)) as tell:
        for result in batch:
            statuses[result.status] += 1
            if as_json:
                print_json(result.as_json())
            elif dry_run and result.output:
                print(f"{result.status}\t{result.input}\t{result.output}", flush=True)
            elif not result.error and (not terminal or len(batch) == 1):
                print(result.output, flush=True)
            if result.error:
                code = result.exit_code
                complain(result.error)
            elif verbose and result.seconds is not None:
                note(f"{result.input}: {result.k} superpixels in {1000 * result.seconds:.1f} ms on {result.device}")
            tell(statuses.total(), len(batch))
    return _Shown(statuses, code)


def _summarise(shown: _Shown, seconds: float) -> None:
    total = shown.statuses.total()
    row = [*map(str, shown.statuses.values()), f"{seconds:.1f}", f"{total / seconds:.1f}"]
    if sys.stdout.isatty():
        table([*shown.statuses, "seconds", "images/s"], [row])
    else:
        counts = ", ".join(f"{count} {status}" for status, count in shown.statuses.items())
        note(f"spx: {counts} in {seconds:.1f} s")


def _exit_code(shown: _Shown, allowed: int) -> int:
    failed = shown.statuses["failed"]
    if failed <= allowed:
        return 0
    return shown.exit_code if shown.statuses.total() == 1 else 1
