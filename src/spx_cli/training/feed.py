"""Batches made ahead of their step by threads, and queued to a GPU without waiting for it."""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from spx_cli.methods._recipe import Recipe
from spx_cli.pool import cores
from spx_cli.training.processes import World
from spx_cli.training.samples import Pairs, make_batch


class Fed(NamedTuple):
    """A batch.

    images : uint8 (B, 3, H, W), channels_last. truth : int64 (B, H, W), on its way to a GPU perhaps int16; float32
    (B, [2,] H, W); or None.
    bound : all labels of truth are below; 1 where there are none.
    """

    ids: list[str]
    images: Tensor
    truth: Tensor | None
    bound: int


class Feed:
    """Gives the batches of a run in order, from that of step `first` on; to be used as a context."""

    def __init__(self, pairs: Pairs, recipe: Recipe, world: World, first: int, *, repeat: int = 1) -> None:
        """Prepare to feed this process of `world`, each batch `repeat` times; threads start with the first batch."""
        # One thread keeps up with two cores; a GPU eats faster.
        self._workers = 1 if world.device.type == "cpu" else cores()
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="spx-feed")
        self._queue: deque[Future[Fed]] = deque()
        self._pairs, self._recipe, self._world, self._device = pairs, recipe, world, world.device
        self._next, self._repeat = first, repeat
        #: Seconds that steps have waited for their batch.
        self.waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def batch(self) -> Fed:
        """Return the next batch, in the memory of the CPU.

        Not to be waited for in one's turn on a GPU: a network that annotates or guides needs turns to make it.
        """
        while len(self._queue) < self._workers + 2:
            self._queue.append(self._pool.submit(self._make, self._next))
            self._next += 1
        started = time.perf_counter()
        fed = self._queue.popleft().result()
        self.waited += time.perf_counter() - started
        return fed

    def on_device(self, fed: Fed) -> Fed:
        """Return a batch on the device; a copy to a GPU is only queued."""
        if self._device.type == "cpu":
            return fed
        truth = None if fed.truth is None else fed.truth.to(self._device, non_blocking=True)
        if truth is not None and not truth.is_floating_point():
            truth = truth.long()
        return fed._replace(images=fed.images.to(self._device, non_blocking=True), truth=truth)

    def _make(self, step: int) -> Fed:
        first = (step // self._repeat * self._world.size + self._world.rank) * self._recipe.batch_size
        batch = make_batch(self._pairs, self._recipe, first)
        truth, bound = batch.truth, 1
        if truth is not None and truth.dtype == np.int64:
            bound = max(1, int(truth.max()) + 1)
        images, labels = torch.from_numpy(batch.images), None if truth is None else torch.from_numpy(truth)
        if self._device.type == "cuda":
            with torch.cuda.device(self._device):
                images = images.pin_memory()
                if labels is not None:
                    small = not labels.is_floating_point() and bound < 2**15
                    labels = (labels.short() if small else labels).pin_memory()
        return Fed(batch.ids, images.permute(0, 3, 1, 2), labels, bound)
