"""Where a benchmark ran: what decides on its times."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spx_cli.pool import cores

_LIBRARIES = ("numpy", "numba", "torch", "scikit-image", "opencv-contrib-python-headless", "opencv-contrib-python")


def describe() -> dict[str, Any]:
    """Return what the times of a run depend on, in words, and when it began."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def load() -> float:
    """Return how many processes have wanted to run in the last minute, NaN where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return float("nan")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """Return the commit of the source that runs, '' where it lies in no repository of its own."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return ""
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
