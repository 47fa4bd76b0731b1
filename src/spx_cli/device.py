"""Where networks run, and in which arithmetic: one place that knows the devices of this machine."""

import os
import re
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from spx_cli.errors import DeviceError, OutOfMemory, ParameterError
from spx_cli.pool import cores

T = TypeVar("T")
R = TypeVar("R")

if TYPE_CHECKING:
    import torch

# Each process has its networks, and what they compute, in the memory of the GPU; beyond four, 16 cores gain little.
_CORES_PER_PROCESS = 4
# What PyTorch and CUDA's libraries say where the memory of a GPU does not suffice.
_NO_MEMORY = ("out of memory", "_ALLOC_FAILED")


def check(name: str) -> None:
    """Raise ParameterError unless `name` is auto, cpu, cuda or cuda:N. Does not look whether the device exists."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ParameterError(f"device must be auto, cpu, cuda or cuda:N, not {name!r}")


def pick(name: str) -> "torch.device":
    """Return the device called auto, cpu, cuda or cuda:N; auto is CUDA where there is one.

    Raises DeviceError for a device that this machine does not have; nothing falls back silently.
    """
    import torch

    check(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"this machine has {count} CUDA device(s)" if count else "PyTorch finds no CUDA device here"
        raise DeviceError(f"device {name!r}: {found}; use --device cpu, or auto")
    return device


def of(method: object) -> str:
    """Return the name of the device that a method works on, by what it is; cpu where it knows no other."""
    name: str = getattr(method, "device", "cpu")
    return str(pick(name)) if name == "auto" else name


def processes(asked: int, methods: Iterable[object]) -> int:
    """Return how many processes to start: as many as asked for; for 0 one for each core, with a GPU one for four."""
    on_gpu = not asked and any(of(method).startswith("cuda") for method in methods)
    return asked or max(1, cores() // (_CORES_PER_PROCESS if on_gpu else 1))


_turn = threading.RLock()


@contextmanager
def turn(device: "torch.device", precision: str = "float32", *, tuned: bool = False) -> Iterator[None]:
    """Work on a device: on CUDA one thread at a time, in the arithmetic that `precision` names.

    float32 means float32: PyTorch alone would let convolutions round their inputs to TF32. tuned : try convolution
    algorithms out and take the fastest, as training does; else the same ones are taken every time, for the same bytes.

    Raises OutOfMemory where the device's memory does not suffice.
    """
    import torch

    exact = torch.autocast(device.type, enabled=False)  # of a caller, whose own networks may be as rough as they like
    if device.type != "cuda":
        with exact:
            yield
        return
    _spend_warning()
    tf32, before = precision == "tf32", torch.get_float32_matmul_precision()
    with (
        _turn,
        within_memory(),
        exact,
        torch.cuda.device(device),
        torch.backends.cudnn.flags(enabled=True, benchmark=tuned, deterministic=not tuned, allow_tf32=tf32),
    ):
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


@contextmanager
def within_memory() -> Iterator[None]:
    """Raise OutOfMemory in place of whatever says that the memory of a GPU does not suffice."""
    import torch

    try:
        yield
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # the failed attempt holds no memory any more
        torch.cuda.empty_cache()
        lines = str(error).splitlines()
        said = next(line for line in lines if any(words in line for words in _NO_MEMORY))
        raise OutOfMemory(said.split(". ")[0]) from None


def lacks_memory(error: RuntimeError) -> bool:
    """Return whether an error says that the memory of a GPU does not suffice: in PyTorch's words or its libraries'."""
    return any(words in str(error) for words in _NO_MEMORY)


@cache
def _spend_warning() -> None:
    """Let PyTorch say once, unheard, that newer versions have other names for these settings: 2.6 has only these."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(torch.get_float32_matmul_precision())
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            pass


def each(device: "torch.device", function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return function(item) for all items: in threads where a GPU would wait for them, else one after the other."""
    items = list(items)
    if device.type != "cuda" or len(items) == 1:
        return [function(item) for item in items]
    return list(_helpers(os.getpid()).map(function, items))


@cache
def _helpers(process: int) -> ThreadPoolExecutor:
    # Keyed by the process: the threads of a pool do not survive a fork.
    return ThreadPoolExecutor(cores(), thread_name_prefix="spx-helper")
