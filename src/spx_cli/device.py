"""Where networks run: one place that knows the devices of this machine."""

import re
from typing import TYPE_CHECKING

from spx_cli.errors import DeviceError, ParameterError

if TYPE_CHECKING:
    import torch


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


def synchronize(device: "torch.device") -> None:
    """Wait until all work queued on the device is done, so that a clock may be read."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
