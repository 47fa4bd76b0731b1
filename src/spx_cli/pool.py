"""One function over many items in worker processes: few items under way at a time, one kernel thread in each worker.

The processes are those of any `concurrent.futures.Executor`: by default a local pool, or that of a Dask cluster.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

from spx_cli.errors import SpxError

T = TypeVar("T")
R = TypeVar("R")

# Items under way for each worker: one in hand, one waiting so that no worker does.
_AHEAD = 2


_workers = 1  # that share this machine with this one, itself included


def workers() -> int:
    """Return how many processes share this machine where this one is a worker, itself included; else 1."""
    return _workers


def cores() -> int:
    """Return the number of cores this process may use; a worker's is its share."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, found // _workers)


def spread(
    function: Callable[[T], R], items: Iterable[T], *, jobs: int, executor: Executor | None = None
) -> Iterator[tuple[T, R | None]]:
    """Yield (item, function(item)) as they are done, in any order; None for an item on which a worker died.

    function, items : picklable; at most two items for each of the `jobs` are taken from `items` ahead of their turn.
    executor : where to run instead of in local processes. Workers that die there are the executor's business:
        BrokenExecutor passes through.

    An exception of `function` passes through and ends the run. However the run ends, the local processes end with it,
    whatever they are at. Raises SpxError where they cannot start: each imports the script that asks for them, which
    therefore must not ask again as it is imported.
    """
    items = iter(items)
    if executor is not None:
        lost = yield from _through(executor, function, items, _AHEAD * jobs)
        if lost:
            raise BrokenExecutor("a worker of the executor died")
        return
    while True:
        with _local(jobs) as pool:
            lost = yield from _through(pool, function, items, _AHEAD * jobs)
        if not lost:
            return
        for item in lost:  # which of them killed the worker shows when each is alone
            with _local(1) as pool:
                if (yield from _through(pool, function, iter([item]), 1)):
                    yield item, None


def _through(
    pool: Executor, function: Callable[[T], R], items: Iterator[T], window: int
) -> Generator[tuple[T, R], None, list[T]]:
    """Yield results until the items end or a worker dies; return the items that were lost with it."""
    under_way: dict[Future[R], T] = {}
    lost: list[T] = []

    def submit(count: int) -> None:
        for item in islice(items, count):
            try:
                with _undisturbed():  # half begun, a pool could not be shut down
                    under_way[pool.submit(function, item)] = item
            except BrokenExecutor:
                lost.append(item)
                return

    try:
        submit(window)
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                item = under_way.pop(future)
                try:
                    result = future.result()
                except BrokenExecutor:
                    lost.append(item)
                    continue
                yield item, result
                if not lost:
                    submit(1)
    finally:
        for future in under_way:
            future.cancel()
    return lost


@contextmanager
def aside(threads: int) -> Iterator[Callable[..., Any]]:
    """Give a function (function, *arguments) that calls `function` in one process of its own, and returns its result.

    For what must share neither memory nor threads with anything else; what it leaves there is there for the next call.
    threads : of kernels. function, arguments and result must be picklable. BrokenExecutor is raised where the process
    has died; it ends with the context.
    """
    with _local(1, threads) as pool:

        def call(function: Callable[..., Any], *arguments: Any) -> Any:
            with _undisturbed():  # half begun, a pool could not be shut down
                future = pool.submit(function, *arguments)
            return future.result()

        yield call


@contextmanager
def _local(jobs: int, threads: int = 1) -> Iterator[Executor]:
    _check_script()
    context = _Context()
    started = context.Event()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare, initargs=(started, threads, jobs))
    try:
        yield pool
    except BaseException:
        context.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    if context.processes and not started.is_set():
        raise SpxError(_UNGUARDED)


_UNGUARDED = (
    "worker processes cannot start. A script that asks for them must do so below "
    '`if __name__ == "__main__":`, for each of them imports the script; with jobs=1 there are none'
)


def _check_script() -> None:
    """Refuse where a worker could not import the script of this process, or is just importing it."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself finds out
        os._exit(1)  # in silence: the parent says what is wrong
    script = sys.modules["__main__"]
    file = getattr(script, "__file__", None)
    if file is not None and getattr(script, "__spec__", None) is None and not Path(file).exists():
        raise SpxError(f"worker processes cannot start: each imports the script, which is in no file ({file})")


class _Worker(SpawnProcess):
    """A process that Ctrl-C does not reach, not even while it starts: it is its parent's to end."""

    def start(self) -> None:
        with _undisturbed():
            super().start()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off Ctrl-C, and SIGTERM if it is handled, until all is done; processes begun meanwhile see no Ctrl-C."""
    pending: list[Any] = []
    handlers: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {known: signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)}
        handlers = {known: handler for known, handler in handlers.items() if callable(handler)}

    def deliver() -> None:
        while pending:
            number, frame = pending.pop(0)
            handlers[number](number, frame)

    for known in handlers:
        signal.signal(known, lambda *caught: pending.append(caught))
    # A handler is not inherited, a blocked signal is; but blocked here it would still interrupt another thread.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        with ExitStack() as last:  # restores all of them, whatever one does when its signal comes just now
            last.callback(deliver)
            for known, handler in handlers.items():
                last.callback(signal.signal, known, handler)


class _Context(SpawnContext):
    """Starts workers, and remembers them."""

    def __init__(self) -> None:
        self.processes: list[_Worker] = []

    def Process(self, *args: Any, **options: Any) -> _Worker:  # type: ignore[override]
        self.processes.append(_Worker(*args, **options))
        return self.processes[-1]

    def kill(self) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()


def _prepare(started: Any, threads: int, jobs: int) -> None:
    """Make this process one of `jobs` workers: few threads for kernels, deaf to Ctrl-C, gone with its parent."""
    global _workers
    started.set()
    _workers = jobs
    for library in ("NUMBA", "OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)
