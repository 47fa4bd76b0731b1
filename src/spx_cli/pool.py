"""One function over many items in worker processes: few items under way at a time, one kernel thread in each worker.

The processes are those of any `concurrent.futures.Executor`: by default a local pool, or that of a Dask cluster.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items under way for each worker: one in hand, one waiting so that no worker does.
_AHEAD = 2


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    function: Callable[[T], R], items: Iterable[T], *, jobs: int, executor: Executor | None = None
) -> Iterator[tuple[T, R | None]]:
    """Yield (item, function(item)) as they are done, in any order; None for an item on which a worker died.

    function, items : picklable; at most two items for each of the `jobs` are taken from `items` ahead of their turn.
    executor : where to run instead of in local processes. Workers that die there are the executor's business:
        BrokenExecutor passes through.

    An exception of `function` passes through and ends the run.
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


def _local(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare)


def _prepare() -> None:
    """Make this process a worker: one thread for kernels, deaf to Ctrl-C (its parent is not), gone with its parent."""
    for library in ("NUMBA", "OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)
