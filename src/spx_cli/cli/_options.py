"""Options that several commands share, declared once: `def command(inputs: Inputs, out: Out = None, ...)`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from spx_cli.errors import DeviceError, ParameterError

if TYPE_CHECKING:
    from spx_cli.methods.base import Method


def complete_method(incomplete: str) -> list[str]:
    """Return the names of methods that start so, for the shell."""
    from spx_cli.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


def complete_overlay(incomplete: str) -> list[str]:
    """Return the overlays that start so, for the shell."""
    from spx_cli.regions.overlays import OVERLAYS

    return [name for name in OVERLAYS if name.startswith(incomplete)]


def complete_format(incomplete: str) -> list[str]:
    """Return the formats of label maps that start so, for the shell."""
    from spx_cli.io import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT...",
        help="Image files, folders (searched for images), quoted globs, or - for one image on stdin.",
        show_default=False,
    ),
]
FromFile = Annotated[
    str | None,
    typer.Option("--from-file", metavar="FILE", help="Read more inputs from FILE (- for stdin), one a line."),
]
Null = Annotated[bool, typer.Option("-0", "--null", help="Names in --from-file end with NUL instead of a newline.")]
MethodName = Annotated[
    str, typer.Option("-m", "--method", metavar="NAME", help="See 'spx methods list'.", autocompletion=complete_method)
]
Segments = Annotated[int, typer.Option("-k", "--segments", min=1, metavar="K", help="Number of superpixels.")]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--param",
        metavar="NAME=VALUE",
        help="A parameter of the method, see 'spx methods show NAME'; repeatable.",
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N. [default: auto]")
]
Seed = Annotated[int | None, typer.Option("--seed", help="For methods that are random.")]
Weights = Annotated[str | None, typer.Option("--weights", metavar="PATH", help="Trained weights, for learned methods.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=0, metavar="N", help="Worker processes; 0: one for each core.")]
MaxPixels = Annotated[
    int | None, typer.Option("--max-pixels", min=1, help="Refuse larger images. [default: 178 million]")
]
Range = Annotated[
    tuple[float, float] | None,
    typer.Option("--range", metavar="LOW HIGH", help="Values that become black and white, for images of floats."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines, one object for each result.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary; errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more on stderr.")]
Overlay = Annotated[
    str | None,
    typer.Option(
        "--overlay",
        metavar="MODE",
        help="Also write a picture: boundaries, mean, random or side-by-side.",
        autocompletion=complete_overlay,
    ),
]
Color = Annotated[str | None, typer.Option("--color", metavar="COLOR", help="Of drawn boundaries: a name or #RRGGBB.")]


def make_method(
    name: str,
    param: list[str] | None = None,
    *,
    device: str | None = None,
    seed: int | None = None,
    weights: str | None = None,
) -> "Method":
    """Return the method that the options describe.

    Raises DeviceError where `device` asks a CPU-only method for anything else, ParameterError where the method has no
    seed or no weights.
    """
    from spx_cli.device import pick
    from spx_cli.methods import METHODS, create
    from spx_cli.params import fields, parse
    from spx_cli.registry import lookup

    cls = lookup(METHODS, "method", name)
    values: dict[str, Any] = parse(cls, name, param or [])
    declared = fields(cls)
    if device is not None and "device" in declared:
        values["device"] = device
        if device.startswith("cuda"):
            pick(device)  # before any work starts
    elif device not in (None, "auto", "cpu"):
        raise DeviceError(f"{name} runs on the CPU only, not on {device!r}; leave out --device")
    for option, value in (("seed", seed), ("weights", weights)):
        if value is None:
            continue
        if option not in declared:
            raise ParameterError(f"{name} has no {option}; leave out --{option}")
        values[option] = value
    return create(name, **values)
