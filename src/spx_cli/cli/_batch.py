"""What the commands that make a file of each image share: where results go, and how they are told."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from spx_cli.cli._output import complain, note, print_json, progress, table
from spx_cli.errors import ParameterError
from spx_cli.options import FileOptions

if TYPE_CHECKING:
    from spx_cli.batch.engine import Run

Options = TypeVar("Options", bound=FileOptions)

FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first file that fails, as --max-failures 0 does.")
]


def out(mark: str) -> Any:
    """Return the option -o; for one image the default is named after `mark`."""
    text = (
        "For one image a file (- for stdout) or a folder; for several a folder, in which their tree is mirrored. "
        f"[default for one image: STEM.{mark}.png here]"
    )
    return typer.Option("-o", "--out", metavar="OUT", help=text)


def sources(inputs: list[str] | None, from_file: str | None, *, null: bool) -> list[str]:
    """Return the inputs that were named, and those that --from-file lists."""
    from spx_cli.batch.inputs import read_list

    if null and not from_file:
        raise ParameterError("-0 says nothing without --from-file; leave it out")
    return (inputs or []) + (read_list(from_file, null=null) if from_file else [])


def stopping(options: Options, *, fail_fast: bool) -> Options:
    """Return the options of a run that stops at the first file that fails, if it shall."""
    if fail_fast and options.max_failures:
        raise ParameterError("--fail-fast and --max-failures are two answers to one question; give one")
    return replace(options, max_failures=0) if fail_fast else options


def to_stdout(run: "Callable[[Path], Run]", suffix: str) -> int:
    """Send what a run of one image writes to standard output; return the exit code."""
    with TemporaryDirectory() as folder:
        file = Path(folder, f"out.{suffix}")
        for result in run(file):
            if result.error:
                complain(result.error)
                return result.exit_code
        sys.stdout.buffer.write(file.read_bytes())
    return 0


class _Shown(NamedTuple):
    """How many results of each status there were, and the exit code of the last failure."""

    statuses: Counter[str]
    exit_code: int


def show(batch: "Run", *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Do the work and tell of it; return the exit code."""
    started, options = time.perf_counter(), batch.job.options
    shown = _show(batch, as_json=as_json, dry_run=options.dry_run, quiet=quiet, verbose=verbose)
    if len(batch) > 1 and not quiet:
        _summarise(shown, time.perf_counter() - started)
    return _exit_code(shown, options.max_failures or 0)


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
                note(f"{result.input}: {result}")
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
