"""The work on many images that every evaluation shares: spread over processes, kept as it comes, resumed."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar

from spx_cli.datasets import Entry
from spx_cli.errors import Busy, FormatError, is_interrupt
from spx_cli.evaluation.document import Failure
from spx_cli.evaluation.ledger import Ledger, cache_file
from spx_cli.io.files import files_digest
from spx_cli.io.remarks import Remarks, Traits
from spx_cli.options import DataOptions
from spx_cli.pool import spread

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Scored = dict[str, Any]


class Subject(Protocol):
    """One image to score, and what is to be scored of it."""

    @property
    def entry(self) -> Entry:
        """The files of the image and its annotations."""
        ...

    def digest(self) -> str:
        """Return what tells one content of all files that the scores depend on from another, '' for an unread one."""
        ...


T = TypeVar("T", bound=Subject)


def score_all(
    entries: Sequence[Entry],
    subject_of: Callable[[Entry], T],
    score: Callable[[T], Scored],
    options: DataOptions,
    *,
    jobs: int,
    settings: Mapping[str, Any],
    key: str,
    progress: Progress,
) -> Ledger:
    """Return the records of all entries by id: those of a resumed run whose files are the same, the others made anew.

    score : gives a record with `digest`, `rows`, `failures` and the `traits` of an image that was read; picklable and
        small, for it goes to the workers.
    settings : what decides on the numbers; a run with others is not resumed.
    key : the name that only this scoring has in the user's cache.
    """
    kept = options.rows or (cache_file(key) if options.cached else None)
    try:
        ledger = Ledger(settings, kept, resume=options.resume)
    except Busy:
        if options.rows or options.resume:
            raise
        kept = None  # the same command runs beside this one, and keeps its own
        ledger = Ledger(settings)
    try:
        with closing(Remarks()) as remarks:
            _fill(ledger, entries, subject_of, score, jobs, progress, remarks)
    except (KeyboardInterrupt, SystemError) as error:
        if kept and is_interrupt(error):
            _log.warning("results so far are kept in %s; the same command with --resume goes on", kept)
        raise
    else:
        if kept and not options.rows:
            kept.unlink(missing_ok=True)  # the open ledger outlives its name
    finally:
        ledger.release()
    return ledger


def _fill(
    ledger: Ledger,
    entries: Sequence[Entry],
    subject_of: Callable[[Entry], T],
    score: Callable[[T], Scored],
    jobs: int,
    progress: Progress,
    remarks: Remarks,
) -> None:
    """Score what the ledger does not hold yet."""
    todo = []
    for entry in entries:
        if entry.id not in ledger or not ledger[entry.id]["digest"] == subject_of(entry).digest() != "":
            todo.append(entry)
        elif traits := ledger[entry.id].get("traits"):
            remarks.add(str(entry.image), Traits.of(traits))
    done = len(entries) - len(todo)
    progress(done, len(entries))
    subjects = map(subject_of, todo)
    jobs = min(jobs, len(todo))
    results: Iterable[tuple[T, Scored | None]]
    results = spread(score, subjects, jobs=jobs) if jobs > 1 else ((subject, score(subject)) for subject in subjects)
    for subject, record in results:
        lost = Failure(subject.entry.id, None, None, f"the worker that scored {subject.entry.id} died: out of memory?")
        ledger.add(subject.entry.id, record or {"digest": "", "rows": [], "failures": [lost]})
        if record and "traits" in record:
            remarks.add(str(subject.entry.image), Traits.of(record["traits"]))
        progress(done := done + 1, len(entries))


def digest(entry: Entry, files: Iterable[Path]) -> str:
    """Return a digest of the files of an entry and of others, '' where one cannot be read."""
    try:
        return files_digest((entry.image, *entry.truths, *files))
    except FormatError:
        return ""
