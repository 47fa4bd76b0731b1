"""The arrays that every part of spx exchanges.

Image   uint8 (H, W, 3), RGB, H and W at least 1.
Labels  int32 (H, W), ids 0..K-1 without gaps, numbered in raster order of their first pixel, each id one 4-connected
        region, every pixel labelled. `maps.check` says whether a map keeps this contract.
Contours  float32 (H, W), 0 to 1: how likely each pixel lies on the border of an object.

-1      in every layer a pixel outside of all regions (masks, nodata: to come). No label map that leaves spx holds it
        today; what reads, finishes or scores a label map refuses it. In an annotation it is what becomes of ids to
        ignore, and counts nowhere.

Between a method and the finishing stage a map may be anything (`Assignment`); what leaves `Method.segment` is Labels.
Coordinates are (y, x), row first, everywhere; sizes are (height, width).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Labels = NDArray[np.int32]
Features = NDArray[np.float32]
Contours = NDArray[np.float32]

UNKNOWN_FLOW = 1e9  # a component of optical flow above this is not known, as Middlebury's flowIO.h has it


class Assignment(NamedTuple):
    """What a method hands to the finishing stage.

    Its arrays are NumPy's or PyTorch's, on any device; the finishing stage takes to the CPU what it needs there.

    labels : (H, W) integers of any kind: scattered, with gaps, 8-connected. Ids are not negative.
    features : (H, W, C) real numbers in any unit, the space in which the method compares pixels; regions are merged by
        their distance there. Most methods hand over Lab (`color.rgb_to_lab`), the learned ones their pixel features.
    position : how much one grid spacing, sqrt(H W / n_segments), of distance between two regions' centres counts beside
        their features, in units of the features. By features alone long regions grow together end to end.
    contours : (H, W) float32, how likely each pixel lies on the border of an object, 0 to 1. Regions merge rather over
        borders where it is low. Only networks know.
    """

    labels: NDArray[Any]
    features: NDArray[Any]
    position: float = 0.0
    contours: NDArray[np.float32] | None = None
