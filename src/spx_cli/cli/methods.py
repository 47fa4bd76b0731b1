"""spx methods: what there is, how good and how fast, and the parameters of each."""

import inspect
import sys
from dataclasses import MISSING
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from spx_cli.cli import _options
from spx_cli.cli._output import note, print_json, table

if TYPE_CHECKING:
    from spx_cli.methods._catalogue import Catalogue, Row
    from spx_cli.methods.base import Method

app = typer.Typer(help="List the methods, or show one with its parameters.")


@app.command("list")
def list_methods(as_json: _options.Json = False) -> None:
    """List all methods, with their accuracy at 400 regions and the time of an image where these were measured."""
    from spx_cli.methods._catalogue import read

    catalogue = read()
    rows = list(catalogue["methods"].values())
    most = max(row["asa_images"] or 0 for row in rows)
    if as_json:
        for row in rows:
            print_json(row)
        return
    columns = ["name", "kind", "labels", "asa", "ms", "summary"]
    table(columns, [[*_cells(row, most), row["summary"]] for row in rows], one_line=True)
    if sys.stdout.isatty():
        note(f"asa: {catalogue['asa']}\nms: {catalogue['ms']}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=_options.complete_method)],
    as_json: _options.Json = False,
) -> None:
    """Show a method: its paper, what it does, how good and how fast it was found, and its parameters for -p."""
    from spx_cli.methods import METHODS
    from spx_cli.methods._catalogue import read
    from spx_cli.registry import lookup

    cls = lookup(METHODS, "method", name)
    parameters = _parameters(cls)
    catalogue = read()
    row = catalogue["methods"][name]
    if as_json:
        print_json({**row, "doc": inspect.getdoc(cls), "parameters": parameters})
        return
    labels = "its defaults have seen no labels" if cls.label_free else "its defaults have seen labels"
    print(f"{name} ({cls.kind}; {labels}), {cls.paper}\n\n{inspect.getdoc(cls)}\n")
    for line in _measured(row, catalogue):
        print(line)
    table(
        ["parameter", "type", "default", "bounds", "help"],
        [[p["name"], p["type"], str(p["default"]), p["bounds"], p["help"]] for p in parameters],
    )


def _cells(row: "Row", most: int) -> list[str]:
    """Return the short cells of a row; an ASA that rests on fewer images than `most` says so."""
    asa, ms, images = row["asa"], row["ms"], row["asa_images"]
    few = f" on {images}" if images and images < most else ""
    figures = ["-" if asa is None else f"{asa:.4f}{few}", "-" if ms is None else f"{ms:g}"]
    return [row["name"], row["kind"], row["labels"], *figures]


def _measured(row: "Row", catalogue: "Catalogue") -> list[str]:
    lines = []
    if row["asa"] is not None:
        lines.append(f"asa {row['asa']:.4f} on {row['asa_images']} images: {catalogue['asa']}")
    if row["ms"] is not None:
        lines.append(f"ms {row['ms']:g}, ratio {row['ratio']:g} on {row['ms_images']} images: {catalogue['ms']}")
    return [*lines, f"the row of {row['name']} in 'spx methods list'; {catalogue['made']}\n"] if lines else []


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
