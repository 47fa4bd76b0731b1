"""Damaged files of every kind: no traceback, no crash, no hang, no gigabytes, and one line that says what is wrong."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import KINDS, mutate

COUNTS = {
    **{"images": 3000, "labels": 1500, "weights": 500, "checkpoints": 500},
    **{"journals": 500, "baselines": 500, "recipes": 500},
}
HERE = Path(__file__).parent
MOST = 20  # processes that may die before we have seen enough


def run(kind, folder, first, count):
    """Return the number at which the fuzzer stopped, and by which signal, or None where it came to its end."""
    path = os.pathsep.join([str(HERE), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    with (folder / "err").open("wb") as err:
        args = [sys.executable, HERE / "fuzz.py", kind, folder, str(first), str(count)]
        code = subprocess.run(args, stderr=err, env=environment, check=False).returncode
    now = (folder / "now").read_text() if (folder / "now").exists() else "-1"
    if code == 0 and now == "done":
        return None
    assert int(now) >= 0, (folder / "err").read_text()
    return int(now), signal.Signals(-code).name if code < 0 else f"exit code {code}: {(folder / 'err').read_text()}"


def fuzz(kind, folder, count):
    """Return what went wrong with `count` files of a kind."""
    wrong, first = [], 0
    while first < count and len(wrong) < MOST:
        died = run(kind, folder, first, count - first)
        if died is None:
            break
        wrong.append(f"{died[0]}: {died[1]}")
        first = died[0] + 1
    return wrong + (folder / "found").read_text().splitlines()


def test_every_kind_has_its_count():
    assert COUNTS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_some_damaged_files(kind, tmp_path):
    assert fuzz(kind, tmp_path, 80) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, tmp_path):
    assert fuzz(kind, tmp_path, COUNTS[kind]) == []


def test_files_are_damaged_alike_each_time():
    import numpy as np

    data = [bytes(range(256)), b"x" * 40]
    first, again = ([mutate(data[0], np.random.default_rng(i), data) for i in range(50)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 45
