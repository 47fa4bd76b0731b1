"""The arrays that every part of spx exchanges.

Image   uint8 (H, W, 3), RGB, H and W at least 1.
Labels  int32 (H, W), ids 0..K-1 without gaps, numbered in raster order of their first pixel, each id one 4-connected
        region, every pixel labelled. `maps.check` says whether a map keeps this contract.
Contours  float32 (H, W), 0 to 1: how likely each pixel lies on the border of an object; (S, H, W) at S scales.

-1      in every layer a pixel outside of all regions (masks, nodata: to come). No label map that leaves spx holds it
        today; what reads, finishes or scores a label map refuses it. In an annotation it is what becomes of ids to
        ignore, and counts nowhere.

Between a method and the finishing stage a map may be anything (`Assignment`); what leaves `Method.segment` is Labels.
Coordinates are (y, x), row first, everywhere; sizes are (height, width).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import ImageError

Image = NDArray[np.uint8]
Labels = NDArray[np.int32]
Features = NDArray[np.float32]
Contours = NDArray[np.float32]

UNKNOWN_FLOW = 1e9  # a component of optical flow above this is not known, as Middlebury's flowIO.h has it


class Assignment(NamedTuple):
    """What a method hands to the finishing stage.

    Its arrays are NumPy's or PyTorch's, on any device; the finishing stage takes to the CPU what it needs there.

    labels : (H, W) integers of any kind: scattered, with gaps, 8-connected. Ids are not negative.
    features : (H, W, C) real numbers in any unit, the space in which the method compares pixels; by Ward's cost regions
        are merged by their distance there. Most methods hand over Lab (`color.rgb_to_lab`), some their pixel features.
    position : how much one grid spacing, sqrt(H W / n_segments), of distance between two regions' centres counts beside
        their features, in units of the features. By features alone long regions grow together end to end.
    contours : (H, W) float32, or (S, H, W) as seen at S scales: how likely each pixel lies on the border of an object,
        0 to 1. Regions merge rather over borders where it is low.
    embedding : (h, w, D) float32, h = ceil(H / s), w = ceil(W / s), s a power of two: for each square of s x s pixels a
        vector that is alike in pixels of one object. Only the expected loss looks at it, and only at distances of
        regions' means.
    lab : (H, W, 3) Lab, where the features are something else; the expected loss compares colours there.
    unit : units of `lab`, or of features that are Lab, per unit of CIE Lab.
    edges : whether the contours are mere edges of colour, which the expected loss reads by other weights.
    """

    labels: NDArray[Any]
    features: NDArray[Any]
    position: float = 0.0
    contours: NDArray[np.float32] | None = None
    embedding: NDArray[np.float32] | None = None
    lab: NDArray[Any] | None = None
    unit: float = 1.0
    edges: bool = False


def check_image(image: Image) -> None:
    """Raise ImageError unless `image` is uint8 (H, W, 3) with at least one pixel, and all of them count."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
        raise ImageError(f"an image must be uint8 (H, W, 3), not {found}; {_conversion(image)}")
    if isinstance(image, np.ma.MaskedArray):
        raise ImageError("an image must not be masked: every pixel gets a region; image.filled(0) fills what is masked")
    if image.size == 0:
        raise ImageError(f"an image must have at least one pixel, not shape {image.shape}")


def _conversion(image: object) -> str:
    """Return how to make an image of something else, in words that can be typed."""
    if not isinstance(image, np.ndarray) and (hasattr(image, "__array__") or hasattr(image, "__array_interface__")):
        return "numpy.asarray(image) makes it an array"
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "biuf" or image.ndim not in (2, 3):
        return "spx_cli.read_image reads files"
    if image.ndim == 3 and image.shape[2] > 4 and image.shape[0] in (1, 3, 4):
        return "put the bands last: numpy.moveaxis(image, 0, -1)"
    ways = []
    if image.dtype.kind == "f":
        ways.append("if 1 is white: (image * 255).round().astype('uint8')")
    elif image.dtype.kind == "b":
        ways.append("image.astype('uint8') * 255")
    elif image.dtype != np.uint8:
        ways.append("if WHITE is its white: (image * (255 / WHITE)).round().astype('uint8')")
    if image.ndim == 2:
        ways.append("three bands of a grey one: numpy.stack([image] * 3, axis=-1)")
    elif image.shape[2] != 3:
        few = image.shape[2] < 3
        ways.append("numpy.repeat(image[..., :1], 3, axis=-1)" if few else "image[..., :3] leaves out alpha")
    return "; then ".join(ways)
