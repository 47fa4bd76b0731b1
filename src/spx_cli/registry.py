"""Tables of named things: a plain dict from name to 'module:object', imported when it is first asked for."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from spx_cli.errors import UnknownName


def lookup(table: Mapping[str, str], kind: str, name: str) -> Any:
    """Return the object that `table` names `name`; UnknownName suggests the nearest entry.

    >>> lookup({"join": "posixpath:join"}, "function", "join")("a", "b")
    'a/b'
    """
    if name not in table:
        raise unknown(kind, name, table)
    return load(table[name])


def load(place: str) -> Any:
    """Return the object at 'module:object', importing its module."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """Return the error for a `name` that is not among `known`, with the nearest name or all of them."""
    names = sorted(known)
    plain = {_plain(one): one for one in names}
    near = get_close_matches(_plain(str(name)), plain, n=1)
    hint = f"did you mean {plain[near[0]]!r}?" if near else f"known: {', '.join(names)}"
    return UnknownName(f"unknown {kind} {name!r}; {hint}")


def _plain(name: str) -> str:
    """Return a name as it may be misread: SLIC for slic, slic0 for slico, side_by_side for side-by-side."""
    return name.lower().replace("0", "o").replace("_", "-")
