"""The texts that reports fill in: pages, their blocks, charts and style sheets."""

from functools import cache
from typing import Any, TextIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def _environment() -> Environment:
    # Everything is escaped but what says that it is markup: names of files may hold anything.
    made = Environment(loader=PackageLoader("spx_cli.reports"), autoescape=True, undefined=StrictUndefined)
    made.filters["number"] = "{:.6g}".format
    made.filters["outcome"] = lambda passed: "passed" if passed else "failed"
    return made


def fill(name: str, **values: Any) -> Markup:
    """Return a filled template; everything in `values` is escaped but Markup."""
    return Markup(_environment().get_template(name).render(values))


def write(name: str, file: TextIO, **values: Any) -> None:
    """Write a filled template piece by piece, so that what is made while it is written need not fit into memory."""
    file.writelines(_environment().get_template(name).generate(values))
