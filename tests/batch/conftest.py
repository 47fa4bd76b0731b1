"""What the tests of batches share."""

import pytest

from photos import picture
from standin import StandIn


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Five images in a tree, and the folder above it as the current one."""
    monkeypatch.chdir(tmp_path)
    StandIn.groups.clear()
    for i, name in enumerate(["a.png", "b.png", "sub/a.png", "sub/deep/c.JPG", "z.png"]):
        picture(tmp_path / "photos" / name, seed=i)
    return tmp_path / "photos"
