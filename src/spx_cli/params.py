"""Parameters declared once, as dataclass fields: type, default, bounds, unit and help.

The same declaration checks keyword arguments in Python, reads `-p name=value` and `--set name=value` from the command
line, and fills `spx methods show`. With `option` a field is an option of a command as well.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

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
    return _field(default, help=help, ge=ge, gt=gt, le=le, choices=choices)


def option(
    default: Any,
    help: str,
    *flags: str,
    metavar: str = "",
    ge: float | None = None,
    le: float | None = None,
    read: Callable[[Any], Any] | None = None,
    needs: str = "",
) -> Any:
    """Return a `param` that is also an option of a command: `spx_cli.cli._options.taking` spells it there.

    flags : "-k", "--segments" ...; none for what Python alone can say.
    read : makes the field's value of the text, or of the list of texts where the field is a tuple.
    needs : name of the field without which this one says nothing.
    """
    limits = {"ge": ge, "gt": None, "le": le, "choices": ()}
    return _field(default, help=help, **limits, flags=flags, metavar=metavar, read=read, needs=needs)


def _field(default: Any, **metadata: Any) -> Any:
    return dataclasses.field(default=default, metadata=metadata)


def fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the parameters of a dataclass by name, in order of declaration."""
    return {f.name: f for f in dataclasses.fields(cls) if "help" in f.metadata}


def bounds(field: dataclasses.Field[Any]) -> str:
    """Return the bounds of a parameter as text, '' when there are none."""
    if field.metadata["choices"]:
        return "one of " + ", ".join(field.metadata["choices"])
    signs = {"ge": ">=", "gt": ">", "le": "<="}
    limits = {sign: field.metadata[k] for k, sign in signs.items() if field.metadata[k] is not None}
    return " and ".join(f"{sign} {limit if isinstance(limit, int) else f'{limit:g}'}" for sign, limit in limits.items())


def create(cls: type[T], owner: str, values: dict[str, Any]) -> T:
    """Return cls(**values); a name that cls does not declare is an UnknownName that says whose parameter is missing."""
    for name in values:
        if name not in fields(cls):
            raise unknown(f"parameter of {owner}", name, fields(cls))
    return cls(**values)


def change(cls: type[T], instance: T | None, owner: str, values: dict[str, Any]) -> T:
    """Return an instance of a dataclass with some other values; None stands for the defaults.

    Raises UnknownName as `create` does, ParameterError for anything else in the instance's place, such as a number.
    """
    if instance is not None and not isinstance(instance, cls):
        raise ParameterError(f"options of {owner} are {cls.__name__}, or given by keyword, not {instance!r:.80}")
    told = {} if instance is None else {name: getattr(instance, name) for name in fields(cls)}
    return create(cls, owner, told | values)


def check(instance: Any) -> None:
    """Raise ParameterError unless every parameter of a dataclass instance has its type and keeps its bounds.

    What is as good as the declared type is stored as that type: NumPy's numbers, an int for a float, a list for a
    tuple, text for a path.
    """
    hints = get_type_hints(type(instance))
    for name, field in fields(type(instance)).items():
        given, kind = getattr(instance, name), hints[name]
        try:
            value = _fit(given, kind)
        except TypeError:
            raise ParameterError(f"{name} must be {_called(kind)}, not {given!r}") from None
        except OverflowError:  # a whole number beyond all floats
            raise ParameterError(f"{name} must be {bounds(field) or 'finite'}, not that large") from None
        if type(value) is not type(given):
            object.__setattr__(instance, name, value)
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"{name} must be finite, not {value}")
        rule = field.metadata
        if value is not None and (
            (rule["ge"] is not None and value < rule["ge"])
            or (rule["gt"] is not None and value <= rule["gt"])
            or (rule["le"] is not None and value > rule["le"])
            or (rule["choices"] and value not in rule["choices"])
        ):
            raise ParameterError(f"{name} must be {bounds(field)}, not {value!r}")


def _fit(value: Any, kind: Any) -> Any:
    """Return a value as the type declared for it; TypeError where it is none."""
    parts = get_args(kind)
    if get_origin(kind) is UnionType:
        for part in parts:
            try:
                return _fit(value, part)
            except TypeError:
                continue
        raise TypeError
    if get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError
        each = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        if len(each) != len(value):
            raise TypeError
        return tuple(map(_fit, value, each))
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, bool) and kind is not bool:
        raise TypeError
    if kind is int and isinstance(value, Integral):
        return int(value)
    if kind is float and isinstance(value, Real):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError
    return value


def _called(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("pathlib.", "")


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
        if name in values:
            raise ParameterError(f"{name} is given twice")
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
