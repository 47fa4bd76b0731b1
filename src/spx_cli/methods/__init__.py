"""The table of methods. To add one: write methods/foo.py and add its line."""

from typing import TYPE_CHECKING, Any

from spx_cli import params as parameters
from spx_cli.errors import ParameterError
from spx_cli.registry import lookup

if TYPE_CHECKING:
    from spx_cli.methods.base import Method

METHODS = {
    "mslic": "spx_cli.methods.mslic:ManifoldSLIC",
    "scalp": "spx_cli.methods.scalp:SCALP",
    "watershed": "spx_cli.methods.watershed:Watershed",
    "etps": "spx_cli.methods.etps:ETPS",
    "ers": "spx_cli.methods.ers:ERS",
    "fh": "spx_cli.methods.fh:FH",
    "lsc": "spx_cli.methods.lsc:LSC",
    "reseeds": "spx_cli.methods.seeds:RESEEDS",
    "seeds": "spx_cli.methods.seeds:SEEDS",
    "sh": "spx_cli.methods.sh:SH",
    "slic": "spx_cli.methods.slic:SLIC",
    "slico": "spx_cli.methods.slic:SLICO",
    "snic": "spx_cli.methods.snic:SNIC",
    "elm": "spx_cli.methods.elm:ELM",
    "fcn": "spx_cli.methods.fcn:FCN",
    "rim": "spx_cli.methods.rim:RIM",
    "lnsnet": "spx_cli.methods.lnsnet:LNSNet",
    "sen": "spx_cli.methods.sen:SEN",
    "sin": "spx_cli.methods.sin:SIN",
    "ssn": "spx_cli.methods.ssn:SSN",
}


def create(method: "str | Method", **params: Any) -> "Method":
    """Return a reusable, picklable method object: its `segment(image, n_segments)` gives label maps.

    method : a name from METHODS, or a method object to copy with other parameters.
    Raises UnknownName for a method or parameter that does not exist, ParameterError for a value out of bounds, and for
    what is no method.

    >>> create("snic", compactness=20.0).compactness
    20.0
    """
    if isinstance(method, str):
        cls: type[Method] = lookup(METHODS, "method", method)
        return parameters.create(cls, cls.name, params)
    if not hasattr(type(method), "segment"):
        raise ParameterError(f"a method is a name or what create returned, not {method!r}")
    return method.changed(**params)
