import os
from pathlib import Path

import pytest
from hypothesis import settings

# the first call of a kernel compiles it
settings.register_profile("spx", deadline=None)
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
