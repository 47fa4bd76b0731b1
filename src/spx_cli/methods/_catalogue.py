"""What `spx methods list` says of each method: read from catalogue.json, so that no method is imported for it.

`python examples/catalogue.py` writes the file: descriptions are copied from the methods, figures are measured.
"""

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from spx_cli.methods import METHODS
from spx_cli.registry import lookup

if TYPE_CHECKING:
    from spx_cli.methods.base import Method

FILE = Path(__file__).with_name("catalogue.json")


class Row(TypedDict):
    """A method, and how it was measured at 400 regions; None where it was not.

    asa : on so many images. ms : for one image, and the ratio to another implementation, on so many images.
    """

    name: str
    kind: str
    labels: str
    paper: str
    summary: str
    asa: float | None
    asa_images: int | None
    ms: float | None
    ratio: float | None
    ms_images: int | None


class Catalogue(TypedDict):
    """The rows, by the methods' names; `made` by which command, and on what `asa` and `ms` were measured."""

    made: str
    asa: str
    ms: str
    methods: dict[str, Row]


def read() -> Catalogue:
    """Return what the file says of the methods that there are; one that is not in it is imported and described."""
    found: Catalogue = json.loads(FILE.read_text(encoding="utf-8"))
    rows = found["methods"]
    found["methods"] = {name: rows.get(name) or describe(lookup(METHODS, "method", name)) for name in METHODS}
    return found


def describe(cls: "type[Method]") -> Row:
    """Return the row of a method that nobody has measured yet.

    >>> from spx_cli.methods.slic import SLIC
    >>> describe(SLIC)["kind"]
    'classical'
    """
    return Row(
        name=cls.name,
        kind=cls.kind,
        labels="free" if cls.label_free else "seen",
        paper=cls.paper,
        summary=(inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " "),
        asa=None,
        asa_images=None,
        ms=None,
        ratio=None,
        ms_images=None,
    )
