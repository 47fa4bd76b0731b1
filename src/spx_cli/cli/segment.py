"""spx segment: images in, label maps out."""

import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from spx_cli.cli import _options
from spx_cli.cli._output import complain, log_to_stderr, note, print_json, progress, table
from spx_cli.errors import ParameterError

if TYPE_CHECKING:
    from spx_cli.batch.engine import Batch
    from spx_cli.methods.base import Method


def segment(
    inputs: _options.Inputs = None,
    from_file: _options.FromFile = None,
    null: _options.Null = False,
    method: _options.MethodName = "slic",
    k: _options.Segments = 200,
    param: _options.Params = None,
    weights: _options.Weights = None,
    seed: _options.Seed = None,
    native_count: Annotated[
        bool, typer.Option("--native-count", help="Keep the count that the method itself yields.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep the method's own map: neither connected, counted nor renumbered.")
    ] = False,
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
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="png, tiff, npy, npz, mat, csv, geojson or svg. [default: what OUT ends in, else png]",
            autocompletion=_options.complete_format,
        ),
    ] = None,
    overlay: _options.Overlay = None,
    color: _options.Color = None,
    device: _options.Device = None,
    jobs: _options.Jobs = 1,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images of one size that a network gets together. [default: 16 on CUDA, else 1]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist; without it they stop the run at its start.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with an earlier run: pass over what it made of the same input in the same way."
        ),
    ] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first file that fails.")] = False,
    max_failures: Annotated[
        int | None,
        typer.Option(
            min=0, help="Allow so many files to fail: up to there the exit code stays 0, beyond the run stops."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    max_pixels: _options.MaxPixels = None,
    value_range: _options.Range = None,
    as_json: _options.Json = False,
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = False,
) -> int:
    """Split images into superpixels and write one label map for each.

    The map has exactly K regions, each 4-connected, numbered in raster order. In a pipe the paths of the maps are
    printed, one a line.
    """
    from spx_cli.batch.inputs import read_list

    log_to_stderr(verbose)
    chosen = _options.make_method(method, param, device=device, seed=seed, weights=weights)
    sources = (inputs or []) + (read_list(from_file, null=null) if from_file else [])
    allowed = 0 if fail_fast else max_failures
    options: dict[str, Any] = {
        "n_segments": k,
        "format": format,
        "overlay": overlay,
        "color": color,
        "native_count": native_count,
        "raw": raw,
        "overwrite": overwrite,
        "resume": resume,
        "dry_run": dry_run,
        "max_failures": allowed,
        "jobs": jobs,
        "batch_size": batch_size,
        "value_range": value_range,
    }
    if max_pixels:
        options["max_pixels"] = max_pixels
    if out == "-":
        if as_json or overlay or resume or dry_run:
            raise ParameterError(
                "-o - sends the label map itself to stdout; it goes with no --json, --overlay, --resume"
            )
        return _to_stdout(chosen, sources, options)

    from spx_cli.batch.engine import segment_files

    batch = segment_files(chosen, sources, out, **options)
    started = time.perf_counter()
    shown = _show(batch, as_json=as_json, dry_run=dry_run, quiet=quiet, verbose=verbose)
    if len(batch) > 1 and not quiet:
        _summarise(shown, time.perf_counter() - started)
    return _exit_code(shown, allowed or 0)


def _to_stdout(method: "Method", sources: list[str], options: dict[str, Any]) -> int:
    from spx_cli.batch.engine import segment_files

    with TemporaryDirectory() as folder:
        file = Path(folder, f"labels.{options['format'] or 'png'}")
        for record in segment_files(method, sources, file, **options):
            if record.error:
                complain(record.error)
                return record.exit_code
        sys.stdout.buffer.write(file.read_bytes())
    return 0


class _Shown(NamedTuple):
    """How many records of each status there were, and the exit code of the last failure."""

    statuses: Counter[str]
    exit_code: int


def _show(batch: "Batch", *, as_json: bool, dry_run: bool, quiet: bool, verbose: bool) -> _Shown:
    """Print the records as they come: paths or JSON on stdout, failures on stderr."""
    statuses: Counter[str] = Counter()
    code = 0
    terminal = sys.stdout.isatty()
    with progress(len(batch), "images", quiet=quiet or (as_json and terminal)) as advance:
        for record in batch:
            statuses[record.status] += 1
            if as_json:
                print_json(record.as_json())
            elif dry_run and record.output:
                print(f"{record.status}\t{record.input}\t{record.output}", flush=True)
            elif not record.error and (not terminal or len(batch) == 1):
                print(record.output, flush=True)
            if record.error:
                code = record.exit_code
                complain(record.error)
            elif verbose and record.seconds is not None:
                note(f"{record.input}: {record.k} superpixels in {1000 * record.seconds:.1f} ms on {record.device}")
            advance()
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
