"""The processes of a run: which one this is, what they share, what stops them, and what is theirs only in a step."""

import os
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from spx_cli.device import pick

T = TypeVar("T")


class World(NamedTuple):
    """The place of this process among those that train together, and the device on which it works."""

    rank: int
    size: int
    device: torch.device

    def total(self, *numbers: float) -> list[float]:
        """Return the sums of the numbers over all processes."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        found: list[float] = sums.tolist()
        return found


@contextmanager
def join(name: str) -> Iterator[World]:
    """Yield the place among the processes that torchrun started.

    name : of the device; processes on one machine have a GPU each.
    """
    device = pick(name)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def share(network: nn.Module, loss: Tensor, stopped: bool, world: World) -> tuple[Tensor, bool]:
    """Replace the gradients by their mean over all processes; return the mean loss, and whether any is to stop.

    Done by hand, since DistributedDataParallel sees only calls of the network itself, and a loss may call its parts.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    parts = [*gradients, loss.reshape(1), torch.full((1,), float(stopped), device=loss.device)]
    flat = torch.cat([part.reshape(-1).float() for part in parts])
    dist.all_reduce(flat)
    flat /= world.size
    for part, new in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
        part.copy_(new.view_as(part))
    return parts[-2][0], bool(parts[-1].item())


@contextmanager
def stop_signals(stop: threading.Event) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM set an event; the second acts as it would have without us."""
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: object) -> None:
        stop.set()
        restore()

    def restore() -> None:
        for known, handler in before.items():
            signal.signal(known, handler)

    if threading.current_thread() is threading.main_thread() and not stop.is_set():
        for known in (signal.SIGINT, signal.SIGTERM):
            before[known] = signal.signal(known, ask)
    try:
        yield
    finally:
        restore()


class _Random:
    """The states of torch's random generators, a run's own in the context and the caller's outside it."""

    def __init__(self) -> None:
        self._other = self._present()

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error: object) -> None:
        self._swap()

    def _present(self) -> tuple[Tensor, list[Tensor]]:
        return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def _swap(self) -> None:
        present, (cpu, cuda) = self._present(), self._other
        torch.set_rng_state(cpu)
        for device, state in enumerate(cuda):
            torch.cuda.set_rng_state(state, device)
        self._other = present


def apart(lines: Generator[T, None, None], stop: threading.Event, world: World) -> Iterator[T]:
    """Yield what a run yields, while the process is as the caller has it.

    The run alone knows its random state, records gradients, works in float32, and lets signals set `stop`.
    """
    if world.device.type == "cuda":
        torch.cuda.init()  # so that there is a random state of the caller's to be kept
    random = _Random()
    try:
        while True:
            with stop_signals(stop), random, _as_ever():
                line = next(lines, None)
            if line is None:
                return
            yield line
    finally:
        with random, _as_ever():
            lines.close()


@contextmanager
def _as_ever() -> Iterator[None]:
    """Record gradients, and make tensors of float32, whatever the caller does."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(before)
