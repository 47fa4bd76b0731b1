"""What the tests of scores share."""

import pytest

from annotated import add, grid, quadrants
from spx_cli.datasets import open_dataset
from spx_cli.evaluation.scoring import Scoring
from spx_cli.evaluation.sources import LabelFolder
from spx_cli.io import write_labels


@pytest.fixture
def data(tmp_path):
    for i, name in enumerate("abcd"):
        add(tmp_path / "data", name, quadrants(), *([grid(1, 3)] if name in "bd" else []), seed=i)
    return open_dataset("folder", tmp_path / "data")


@pytest.fixture
def maps(tmp_path, data):
    """Label maps of another tool for the four images, as 2 x 2 and 4 x 4 grids."""
    for count, labels in ((4, grid(2, 2)), (16, grid(4, 4))):
        (tmp_path / f"tool/{count}").mkdir(parents=True)
        for name in "abcd":
            write_labels(tmp_path / f"tool/{count}/{name}.png", labels)
    return LabelFolder(tmp_path / "tool")


@pytest.fixture
def scored(monkeypatch):
    """The ids of the images that are really scored."""
    names = []
    real = Scoring.score

    def score(self, task):
        names.append(task.entry.id)
        return real(self, task)

    monkeypatch.setattr(Scoring, "score", score)
    return names
