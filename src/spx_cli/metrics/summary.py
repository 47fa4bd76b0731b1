"""From the scores of single annotations to one number: over annotations, over images, over superpixel counts."""

from collections.abc import Iterable, Mapping, Sequence
from math import fsum, isnan, nan

import numpy as np

from spx_cli.errors import ParameterError
from spx_cli.metrics import METRICS, Policy

Scores = Mapping[str, float]


def combine(rows: Sequence[Scores], policy: Policy = "each") -> list[dict[str, float]]:
    """Return what remains of the scores of one map against its annotations.

    each : all of them (SSN, SIN, SpixelFCN: every annotation is a sample); mean : their mean;
    best, worst : per metric the best (LNS-Net) or worst (Stutz et al.) annotation, by the direction in METRICS; a
    metric without a direction gives its mean. Only 'each' gives more than one dict.

    >>> combine([{"asa": 0.9, "ue_np": 0.3}, {"asa": 0.8, "ue_np": 0.2}], "best")
    [{'asa': 0.9, 'ue_np': 0.2}]
    """
    if policy == "each":
        return [dict(row) for row in rows]
    if policy not in ("mean", "best", "worst"):
        raise ParameterError(f"annotations must be each, mean, best or worst, not {policy!r}")
    if not rows:
        return []
    if policy == "mean":
        return [mean(rows)]
    return [{name: _extreme(name, _defined(rows, name), policy) for name in _names(rows)}]


def _extreme(name: str, values: Sequence[float], policy: Policy) -> float:
    sign = METRICS[name].sign * (1 if policy == "best" else -1)
    if not values:
        return nan
    if sign == 0:
        return fsum(values) / len(values)
    return max(values) if sign > 0 else min(values)


def mean(rows: Iterable[Scores]) -> dict[str, float]:
    """Return the mean of each metric over samples; a sample where it is undefined (NaN) is left out, NaN if all are.

    Undefined are EV on a constant image and MDE against an annotation without a boundary. The order of the samples
    does not matter, not even in the last digit.

    >>> mean([{"asa": 0.5, "ev": nan}, {"asa": 1.0, "ev": 0.5}])
    {'asa': 0.75, 'ev': 0.5}
    """
    rows = list(rows)
    values = {name: _defined(rows, name) for name in _names(rows)}
    return {name: fsum(v) / len(v) if v else nan for name, v in values.items()}


def at(rows: Sequence[Scores], count: float) -> dict[str, float]:
    """Return the scores at exactly `count` superpixels, interpolated linearly along the achieved counts.

    rows : means of one method at several counts, each with 'k', the achieved count; equal counts are averaged.
    Raises ParameterError when `count` is outside the achieved counts: nothing is extrapolated.

    >>> at([{"k": 100, "asa": 0.9}, {"k": 300, "asa": 1.0}], 200)
    {'k': 200.0, 'asa': 0.95}
    """
    achieved = sorted({row["k"] for row in rows})
    if not achieved or not achieved[0] <= count <= achieved[-1]:
        span = f"they span {achieved[0]:g} to {achieved[-1]:g}" if achieved else "there are none"
        raise ParameterError(f"no scores at {count:g} superpixels: {span}; segment with smaller and larger counts")
    points = [mean(row for row in rows if row["k"] == k) for k in achieved]
    return {name: float(np.interp(count, achieved, [p.get(name, nan) for p in points])) for name in _names(rows)}


def _names(rows: Sequence[Scores]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _defined(rows: Sequence[Scores], name: str) -> list[float]:
    return [row[name] for row in rows if name in row and not isnan(row[name])]
