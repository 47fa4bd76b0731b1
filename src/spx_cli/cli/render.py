"""spx render: a picture of a label map over its image."""

from pathlib import Path
from typing import Annotated

import typer

from spx_cli.cli import _options


def render(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="A label map in any format spx writes.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image it belongs to.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The picture to write.")],
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="MODE",
            autocompletion=_options.complete_overlay,
            help="boundaries, mean, random or side-by-side.",
        ),
    ] = "boundaries",
    color: _options.Color = None,
) -> None:
    """Draw a label map over its image."""
