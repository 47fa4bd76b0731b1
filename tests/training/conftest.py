"""What the tests of training share."""

import pytest

from runs import run


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Folder and records of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight")
    return out, run(out)
