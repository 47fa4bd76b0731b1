"""Parameters declared once, as dataclass fields: type, default, bounds, unit and help.

The same declaration checks keyword arguments in Python, reads `-p name=value` and `--set name=value` from the command
line, and fills `spx methods show`.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, get_type_hints

from spx_cli.errors import ParameterError
from spx_cli.registry import unknown

T = TypeVar("T")


def param(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """Return a dataclass field with its help text (which names the unit) and its bounds."""
    return dataclasses.field(default=default, metadata={"help": help, "ge": ge, "gt": gt, "le": le, "choices": choices})


def fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the parameters of a dataclass by name, in order of declaration."""
    return {f.name: f for f in dataclasses.fields(cls) if "help" in f.metadata}


def bounds(field: dataclasses.Field[Any]) -> str:
    """Return the bounds of a parameter as text, '' when there are none."""
    if field.metadata["choices"]:
        return "one of " + ", ".join(field.metadata["choices"])
    signs = {"ge": ">=", "gt": ">", "le": "<="}
    return " and ".join(f"{sign} {field.metadata[k]:g}" for k, sign in signs.items() if field.metadata[k] is not None)


def create(cls: type[T], owner: str, values: dict[str, Any]) -> T:
    """Return cls(**values); a name that cls does not declare is an UnknownName that says whose parameter is missing."""
    for name in values:
        if name not in fields(cls):
            raise unknown(f"parameter of {owner}", name, fields(cls))
    return cls(**values)


def check(instance: Any) -> None:
    """Raise ParameterError unless every parameter of a dataclass instance has its type and keeps its bounds.

    An int is accepted, and stored, as a float where a float is declared.
    """
    hints = get_type_hints(type(instance))
    for name, field in fields(type(instance)).items():
        value, kind = getattr(instance, name), hints[name]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            object.__setattr__(instance, name, value := float(value))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ParameterError(f"{name} must be {kind.__name__}, not {value!r}")
        if kind is float and not math.isfinite(value):
            raise ParameterError(f"{name} must be finite, not {value}")
        rule = field.metadata
        if (
            (rule["ge"] is not None and value < rule["ge"])
            or (rule["gt"] is not None and value <= rule["gt"])
            or (rule["le"] is not None and value > rule["le"])
            or (rule["choices"] and value not in rule["choices"])
        ):
            raise ParameterError(f"{name} must be {bounds(field)}, not {value!r}")


def parse(cls: type, owner: str, assignments: Iterable[str]) -> dict[str, Any]:
    """Return the values of 'name=value' texts, each of the type that `cls` declares for it.

    >>> @dataclasses.dataclass
    ... class Blur:
    ...     sigma: float = param(1.0, "pixels")
    >>> parse(Blur, "blur", ["sigma=2"])
    {'sigma': 2.0}
    """
    hints, values = get_type_hints(cls), {}
    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise ParameterError(f"expected NAME=VALUE, not {text!r}")
        if name not in fields(cls):
            raise unknown(f"parameter of {owner}", name, fields(cls))
        values[name] = _convert(name, value.strip(), hints[name])
    return values


def _convert(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in truth:
            raise ParameterError(f"{name} must be true or false, not {text!r}")
        return truth[text.lower()]
    try:
        return kind(text)
    except ValueError:
        raise ParameterError(f"{name} must be {kind.__name__}, not {text!r}") from None
