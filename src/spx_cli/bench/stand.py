"""A process for each contender: its memory is its own, it has the threads it is given, and its death harms nobody."""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spx_cli.datasets import Entry
from spx_cli.errors import SpxError
from spx_cli.evaluation.sources import Segmenter
from spx_cli.pool import aside
from spx_cli.types import Image


class Died(SpxError):
    """The process of a contender has died."""


class Took(NamedTuple):
    """One call: its seconds, how many regions it gave, and the most memory of its process meanwhile, in MB."""

    seconds: float
    k: int
    peak_mb: float


class Stand:
    """Where one contender is called; images are sent there before the clock runs."""

    def __init__(self, segmenter: Segmenter, call: Callable[..., Any]) -> None:
        self.name, self.segmenter, self._call = segmenter.name, segmenter, call
        self.alive = True

    def show(self, image: Image, entry: Entry) -> None:
        """Send the image that the next calls are about; raises Died."""
        self._in_process(_show, self.segmenter, image, entry)

    def take(self, count: int) -> Took:
        """Return how a call went; raises what the method raises, or Died."""
        took: Took = self._in_process(_take, count)
        return took

    def _in_process(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._call(function, *arguments)
        except BrokenExecutor:
            self.alive = False
            raise Died(f"the process of {self.name} died: out of memory? It is left out from there on") from None


@contextmanager
def stand(segmenter: Segmenter, threads: int) -> Iterator[Stand]:
    """Give a stand for the time of the context."""
    with aside(threads) as call:
        yield Stand(segmenter, call)


_shown: list[tuple[Segmenter, Image, Entry]] = []  # in the process of a stand: what it is about


def _show(segmenter: Segmenter, image: Image, entry: Entry) -> None:
    _shown[:] = [(segmenter, image, entry)]


def _take(count: int) -> Took:
    ((segmenter, image, entry),) = _shown
    _forget_peak()
    start = time.perf_counter()
    labels = segmenter.label_map(image, entry, count)  # in the memory of the host: no device is still at work
    seconds = time.perf_counter() - start
    peak = _peak_mb()
    return Took(seconds, int(np.count_nonzero(np.bincount(labels.ravel()))), peak)


def _forget_peak() -> None:
    with suppress(OSError):  # where the kernel has no such file or forbids it, the peak is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """Return the most memory that this process has held; NaN where the system does not say."""
    try:  # not what getrusage says, which begins with what the parent held
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return float("nan")
