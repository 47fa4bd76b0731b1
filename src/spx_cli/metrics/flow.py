"""End-point error of flow that is constant in each superpixel (Jampani et al., SSN, ECCV 2018)."""

from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spx_cli.errors import LabelError
from spx_cli.regions.maps import Groups
from spx_cli.types import UNKNOWN_FLOW


def end_point_error(groups: Groups, flow: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> float:
    """Mean over valid pixels of the distance between the flow and its superpixel's mean, in pixels; lower is better.

    flow : (H, W, 2) floats, pixels.
    valid : bool (H, W), pixels that count, for the means and for the error; by default those that are finite and not
        above 1e9, Middlebury's mark of an unknown value. NaN where none is valid.
    Raises LabelError when the sizes differ.

    >>> end_point_error(group(np.array([[0, 0]])), np.array([[[0.0, 0.0], [2.0, 0.0]]]))
    1.0
    """
    if flow.shape != (*groups.ids.shape, 2) or (valid is not None and valid.shape != groups.ids.shape):
        mask = "" if valid is None else f", its mask {valid.shape}"
        raise LabelError(f"sizes differ: the label map is {groups.ids.shape}, the flow {flow.shape}{mask}")
    if valid is None:
        valid = (np.abs(flow) <= UNKNOWN_FLOW).all(2)
    ids, known = groups.ids[valid], flow[valid].astype(np.float64)
    if ids.size == 0:
        return nan
    sizes = np.maximum(np.bincount(ids), 1)
    means = np.stack([np.bincount(ids, known[:, c]) / sizes for c in range(2)], 1)
    return float(np.hypot(*(known - means[ids]).T).mean())
