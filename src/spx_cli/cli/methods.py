"""spx methods: what there is, and the parameters of each."""

import inspect
from dataclasses import MISSING
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from spx_cli.cli import _options
from spx_cli.cli._output import print_json, table

if TYPE_CHECKING:
    from spx_cli.methods.base import Method

app = typer.Typer(help="List the methods, or show one with its parameters.")


@app.command("list")
def list_methods(as_json: _options.Json = False) -> None:
    """List all methods."""
    from spx_cli.methods import METHODS
    from spx_cli.registry import lookup

    rows = [_summary(name, lookup(METHODS, "method", name)) for name in METHODS]
    if as_json:
        for row in rows:
            print_json(row)
    else:
        table(["name", "kind", "labels", "paper", "summary"], [list(row.values()) for row in rows])


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=_options.complete_method)],
    as_json: _options.Json = False,
) -> None:
    """Show a method: its paper, what it does, and its parameters for -p."""
    from spx_cli.methods import METHODS
    from spx_cli.registry import lookup

    cls = lookup(METHODS, "method", name)
    parameters = _parameters(cls)
    if as_json:
        print_json({**_summary(name, cls), "doc": inspect.getdoc(cls), "parameters": parameters})
        return
    labels = "its defaults have seen no labels" if cls.label_free else "its defaults have seen labels"
    print(f"{name} ({cls.kind}; {labels}), {cls.paper}\n\n{inspect.getdoc(cls)}\n")
    rows = [[p["name"], p["type"], str(p["default"]), p["bounds"], p["help"]] for p in parameters]
    table(["parameter", "type", "default", "bounds", "help"], rows)


def _summary(name: str, cls: "type[Method]") -> dict[str, str]:
    doc = inspect.getdoc(cls) or ""
    labels, summary = "free" if cls.label_free else "seen", doc.split("\n\n")[0].replace("\n", " ")
    return {"name": name, "kind": cls.kind, "labels": labels, "paper": cls.paper, "summary": summary}


def _parameters(cls: "type[Method]") -> list[dict[str, Any]]:
    from spx_cli.params import bounds, fields

    hints = get_type_hints(cls)
    return [
        {
            "name": name,
            "type": hints[name].__name__,
            "default": None if field.default is MISSING else field.default,
            "bounds": bounds(field),
            "help": field.metadata["help"],
        }
        for name, field in fields(cls).items()
    ]
