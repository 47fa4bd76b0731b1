import io
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

from spx_cli.cli import run
from spx_cli.methods import METHODS

# The first call of a kernel compiles it. In CI the examples are the same every time; elsewhere they look for more.
settings.register_profile("spx", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("spx")


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory, monkeypatch):
    """Keep every test away from the user's own folders, and the output free of colour and bars."""
    monkeypatch.setenv("SPX_HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference values and data sets; tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("SPX_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "reference").is_dir():
        pytest.skip("no reference data: set SPX_SHARED")
    return root


@pytest.fixture
def largest_file():
    """Let no file become larger than so many bytes, while a context lasts: as if the disk were full."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def spx(capsys, monkeypatch, tmp_path):
    """Run spx in a folder of its own; the method standin needs no kernels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(METHODS, "standin", "standin:StandIn")

    def call(*args, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run([str(arg) for arg in args])
        return Result(code, *capsys.readouterr())

    return call
