"""The Python API: what `import spx_cli` offers."""

from typing import Any

from spx_cli.methods import create
from spx_cli.methods.base import Method
from spx_cli.types import Image, Labels

__all__ = ["create", "segment"]


def segment(
    image: Image,
    method: str | Method = "slic",
    n_segments: int = 200,
    *,
    native_count: bool = False,
    raw: bool = False,
    **params: Any,
) -> Labels:
    """Return a label map of exactly `n_segments` 4-connected regions; int32 (H, W), ids in raster order.

    image : uint8 (H, W, 3) RGB, as `read_image` gives it.
    method : a name from `spx methods list`, or what `create` returned.
    native_count : keep the count that the method itself yields; the map is still clean and connected.
    raw : return the method's own map without the finishing stage.
    params : the method's parameters, see `spx methods show NAME`.

    Raises ParameterError (a ValueError) for an unknown method or parameter, a value out of bounds, or a count that is
    not between 1 and the number of pixels; ImageError for anything but a uint8 (H, W, 3) array.

    >>> import numpy as np
    >>> image = np.zeros((4, 8, 3), np.uint8)
    >>> image[:, 4:] = 255
    >>> segment(image, "slic", 2)[0]
    array([0, 0, 0, 0, 1, 1, 1, 1], dtype=int32)
    """
    chosen = method if isinstance(method, Method) and not params else create(method, **params)
    return chosen.segment(image, n_segments, native_count=native_count, raw=raw)
