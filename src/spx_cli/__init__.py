"""spx: every important superpixel method, trained, scored and compared."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spx_cli._version import __version__

if TYPE_CHECKING:
    from spx_cli.api import create as create
    from spx_cli.api import evaluate as evaluate
    from spx_cli.api import segment as segment
    from spx_cli.io import read_image as read_image
    from spx_cli.io import read_labels as read_labels
    from spx_cli.io import write_labels as write_labels
    from spx_cli.regions.overlays import render as render

_EXPORTS = {
    "create": "spx_cli.api",
    "evaluate": "spx_cli.api",
    "read_image": "spx_cli.io",
    "read_labels": "spx_cli.io",
    "render": "spx_cli.regions.overlays",
    "segment": "spx_cli.api",
    "write_labels": "spx_cli.io",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'spx_cli' has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
