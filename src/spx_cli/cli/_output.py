"""How results and notes reach the user: data on stdout, everything else on stderr; rich only on a terminal."""

import gc
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line, ASCII only, so that any file name survives any locale."""
    print(json.dumps(value, allow_nan=False), flush=True)


def note(message: str) -> None:
    """Print a message to people on stderr."""
    print(message, file=sys.stderr)


def complain(message: str) -> None:
    """Print one line that names an error on stderr."""
    print(f"spx: error: {' '.join(message.split())}", file=sys.stderr)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", one_line: bool = False) -> None:
    """Print a table on stdout: drawn by rich on a terminal, in a pipe one line a row with tabs between.

    one_line : on a terminal, too; what does not fit is cut off the last column.
    """
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, title=title or None)
    for column in drawn.columns[:-1]:
        column.no_wrap = one_line
    for row in rows:
        drawn.add_row(*(Text(cell, no_wrap=one_line, overflow="ellipsis" if one_line else None) for cell in row))
    Console().print(drawn)


def collect_garbage() -> None:
    """Search for garbage from now on, as `__main__` has put off, but not in what there is: imports made most of it."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


@contextmanager
def progress(unit: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Give a function to tell how many units of how many are done; on a terminal it moves a bar.

    A method that takes long for one image has a second bar meanwhile.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: collect_garbage()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    from spx_cli.methods.base import progress as within

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.1f} {task.description}/s")

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task, inner = (bar.add_task(what, total=None, visible=False) for what in (unit, "steps"))

        def tell(done: int, total: int) -> None:
            collect_garbage()
            bar.update(task, completed=done, total=total, visible=total > 1)
            bar.reset(inner, visible=False)

        token = within.set(lambda done, total: bar.update(inner, completed=done, total=total, visible=True))
        try:
            yield tell
        finally:
            within.reset(token)


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"spx: {self.format(record)}")


def log_to_stderr(*, verbose: bool, quiet: bool) -> None:
    """Show what the library logs: warnings unless `quiet`, with `verbose` also what it does."""
    logger = logging.getLogger("spx_cli")
    logger.handlers = [_ToStderr()]
    logger.setLevel(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)
