"""The command line: the table of commands, and the one place where an error becomes a line and an exit code.

Exit codes: 0 all done, 1 some files failed or a gate failed, 2 wrong usage, 3 nothing to do, 130 interrupted.
"""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from spx_cli._version import __version__
from spx_cli.cli._options import Command
from spx_cli.cli._output import complain
from spx_cli.errors import SpxError, is_interrupt
from spx_cli.registry import lookup

# A function becomes a command, a Typer app a group of commands. The modules are imported for every call of spx, so
# they import nothing heavy themselves.
COMMANDS = {
    "segment": "spx_cli.cli.segment:segment",
    "render": "spx_cli.cli.render:render",
    "train": "spx_cli.cli.train:train",
    "eval": "spx_cli.cli.evaluate:evaluate",
    "bench": "spx_cli.cli.bench:bench",
    "contours": "spx_cli.cli.contours:contours",
    "methods": "spx_cli.cli.methods:app",
    "weights": "spx_cli.cli.weights:app",
}

# Where Typer keeps the root of the errors of its parser depends on its version; its place in this line does not.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

_INTERRUPTED = 130


def _build() -> typer.Typer:
    # Plain help texts: rich alone would take a third of the time that `spx --help` may take.
    app = typer.Typer(
        name="spx",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(spx)
    for name in COMMANDS:
        command = lookup(COMMANDS, "command", name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, cls=getattr(command, "parser", Command))(command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spx {__version__}")
        raise typer.Exit


def spx(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Superpixels: every important method, trained, scored and compared."""


def run(args: Sequence[str]) -> int:
    """Return the exit code of `spx ARGS`. Errors on purpose, or of the system, are one line; others pass through."""
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names are bytes; they leave as they came
    try:
        code = app(args=list(args) or ["--help"], prog_name="spx", standalone_mode=False)
        sys.stdout.flush()
    except SpxError as error:
        complain(str(error))
        return error.exit_code
    except _USAGE_ERROR as error:
        complain(_usage(error))
        return 2
    except OSError as error:
        # A reader that has gone (`spx ... | head`) needs no word, a full disk behind standard output does.
        if not isinstance(error, BrokenPipeError):
            said = error.strerror or str(error)
            complain(f"{error.filename}: {said}" if error.filename else said)
        try:
            sys.stdout.flush()
        except OSError:  # what Python still holds for it goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, SystemError, typer.Abort) as error:
        if isinstance(error, SystemError) and not is_interrupt(error):
            raise
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # which newer Typers return, where older ones raise Abort
        complain("interrupted")
    return code if isinstance(code, int) else 0


def _open_what_is_closed() -> None:
    """Open nothing in place of each standard stream that the parent has closed, as some daemons do."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the process lives


def _usage(error: Exception) -> str:
    message = getattr(error, "format_message", error.__str__)().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see '{context.command_path} --help'" if context else message


app = _build()
