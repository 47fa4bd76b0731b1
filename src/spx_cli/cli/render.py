"""spx render: a picture of a label map and its image."""

from pathlib import Path
from typing import Annotated

import typer

from spx_cli.cli import _options
from spx_cli.cli._output import log_to_stderr
from spx_cli.errors import ParameterError
from spx_cli.options import ReadOptions


@_options.taking(ReadOptions)
def render(
    *,
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="A label map, in any format of 'spx segment'.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image that it belongs to.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="[default: STEM.overlay.png here]")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="boundaries, mean, random or side-by-side.",
            autocompletion=_options.complete_overlay,
        ),
    ] = "boundaries",
    color: _options.Color = None,
    thickness: Annotated[
        float | None,
        typer.Option(
            metavar="PIXELS",
            min=0.1,
            max=100,
            help="Of drawn lines, pixels. [default: by the sizes of image and regions]",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")] = False,
    options: ReadOptions,
) -> None:
    """Draw a label map over its image, as 'spx segment --overlay' does, and print the path of the picture."""
    from spx_cli.io import MAX_PIXELS, read_image, read_labels, write_image
    from spx_cli.regions.overlays import render as draw

    file = out or Path(f"{image.stem}.overlay.png")
    if file.exists() and not overwrite:
        raise ParameterError(f"{file} exists; --overwrite replaces it")
    if file.exists() and any(given.exists() and given.samefile(file) for given in (labels, image)):
        raise ParameterError(f"the picture would replace the input {file}; choose another -o")
    log_to_stderr(verbose=False, quiet=False)
    pixels = read_image(image, max_pixels=options.max_pixels or MAX_PIXELS, value_range=options.value_range)
    picture = draw(pixels, read_labels(labels, size=pixels.shape[:2]), mode, color=color, thickness=thickness)
    write_image(file, picture)
    print(file)
