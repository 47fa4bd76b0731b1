"""What is said of methods before they are imported is what they say themselves."""

import pytest

from spx_cli.methods import METHODS, create
from spx_cli.methods._catalogue import describe, read

FIGURES = ("asa", "asa_images", "ms", "ms_images")


@pytest.mark.parametrize("name", METHODS)
def test_the_catalogue_says_what_the_method_says(name):
    row = read()["methods"][name]
    described = describe(type(create(name)))
    assert {**row, **dict.fromkeys(FIGURES)} == described, "run python examples/catalogue.py"
    assert list(row) == list(described)
