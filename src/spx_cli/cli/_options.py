"""Options that several commands share, declared once: `def command(inputs: Inputs, out: Out = None, ...)`.

What a long piece of work takes as one options object is declared there; `taking` spells its fields as options.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from spx_cli.cli._output import note
from spx_cli.errors import DeviceError, ParameterError
from spx_cli.params import fields

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines, one object for each result.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no notes: results and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more on stderr.")]


Color = Annotated[str | None, typer.Option("--color", metavar="COLOR", help="Of drawn boundaries: a name or #RRGGBB.")]


class Command(TyperCommand):
    """A command whose option --range takes two numbers, or one word, and that tells which options are given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two numbers to one value, as an option of Typer takes always or never two.

        The last of several values counts, as scripts and aliases expect; that is told. BadParameter for empty text,
        which unset variables leave.
        """
        left, joined = list(args), list[str]()
        while left:
            arg = left.pop(0)
            if arg == "--range" and len(left) > 1 and all(map(_is_number, left[:2])):
                arg = f"--range={left.pop(0)} {left.pop(0)}"
            joined.append(arg)
        if not ctx.resilient_parsing:  # as it is for the shell's completion
            self._check(ctx, joined)
        return super().parse_args(ctx, joined)

    def _check(self, ctx: Any, args: list[str]) -> None:
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        given: list[Any] = list(order)
        for one in given:
            value = values.get(one.name)
            if value == "" or (isinstance(value, list | tuple) and "" in value):
                raise typer.BadParameter("it is empty", ctx=ctx, param=one)
        once = [one for one in given if one.param_type_name == "option" and not (one.multiple or one.is_flag)]
        for one in dict.fromkeys(one for i, one in enumerate(once) if one in once[:i]):
            note(f"spx: {one.opts[0]} is given more than once, and the last counts: {values[one.name]}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


COMPLETED = {("SegmentOptions", "format"): complete_format, ("SegmentOptions", "overlay"): complete_overlay}


def taking(cls: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what turns the parameter `options` of a command, an instance of `cls`, into an option for each field.

    cls : a dataclass of `params.option` fields. An option that is not given leaves the field's default.
    """
    offered = {name: field for name, field in fields(cls).items() if field.metadata.get("flags")}
    offered = {name: offered[name] for name in sorted(offered, key=lambda name: name not in cls.__annotations__)}

    def expand(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def call(**given: Any) -> Any:
            values = {name: given.pop(name) for name in offered}
            said = {name: _said(offered[name], value) for name, value in values.items() if value not in (None, [])}
            options = cls(**said)
            for name, field in offered.items():
                needed = field.metadata["needs"]
                if needed and getattr(options, name) != field.default and not getattr(options, needed):
                    own, other = field.metadata["flags"][0], offered[needed].metadata["flags"][0]
                    raise ParameterError(f"{own} says nothing without {other}; leave it out")
            return command(options=options, **given)

        parameters = []
        for parameter in inspect.signature(command).parameters.values():
            parameters += _spelled(cls, offered) if parameter.name == "options" else [parameter]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return expand


def _spelled(cls: type, offered: dict[str, Any]) -> list[inspect.Parameter]:
    hints, parameters = get_type_hints(cls), []
    for name, field in offered.items():
        kind, default, how = hints[name], field.default, field.metadata
        # What may be given again and again is a list to Typer, and a text where the field has its own way to read it.
        many = [get_args(part)[0] for part in (kind, *get_args(kind)) if get_args(part)[1:] == (Ellipsis,)]
        if many or how["read"]:
            one: Any = str if how["read"] else many[0]
            kind, default = (list[one] if many else one) | None, None
        spelling = typer.Option(
            *how["flags"],
            help=how["help"],
            metavar=how["metavar"] or None,
            min=how["ge"],
            max=how["le"],
            autocompletion=COMPLETED.get((cls.__name__, name)),
        )
        kind = Annotated[kind, spelling]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))
    return parameters


def _said(field: Any, value: Any) -> Any:
    return field.metadata["read"](value) if field.metadata["read"] else value


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
    from spx_cli.params import parse
    from spx_cli.registry import lookup

    cls = lookup(METHODS, "method", name)
    values: dict[str, Any] = parse(cls, name, param or [])
    declared = fields(cls)
    if device not in (None, "auto", "cpu") and "device" not in declared:
        raise DeviceError(f"{name} runs on the CPU only, not on {device!r}; leave out --device")
    if device is not None and device.startswith("cuda"):
        pick(device)  # before any work starts
    for option, value in (("device", device), ("seed", seed), ("weights", weights)):
        if value is None or (option == "device" and option not in declared):
            continue
        if option not in declared:
            raise ParameterError(f"{name} has no {option}; leave out --{option}")
        if option in values:
            raise ParameterError(f"{option} is given twice, by -p and by --{option}")
        values[option] = value
    return create(name, **values)
