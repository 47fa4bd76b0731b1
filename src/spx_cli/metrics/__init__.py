"""The tables of metrics and protocols, and `score`. To add a metric: write its function, add its line.

The tables cost no import; what computes is loaded when it is first used.
"""

from dataclasses import dataclass
from importlib import import_module
from math import floor, hypot
from typing import TYPE_CHECKING, Any, Literal

from spx_cli.registry import unknown

if TYPE_CHECKING:
    from spx_cli.metrics.scoring import score as score
    from spx_cli.metrics.summary import at as at
    from spx_cli.metrics.summary import combine as combine
    from spx_cli.metrics.summary import mean as mean

__all__ = [
    "CONTOUR_METRICS",
    "METRICS",
    "PROTOCOLS",
    "SPEED_METRICS",
    "Metric",
    "Protocol",
    "at",
    "combine",
    "mean",
    "protocol",
    "score",
]

Policy = Literal["each", "mean", "best", "worst"]


@dataclass(frozen=True)
class Metric:
    """How a number is made, and what it means.

    formula : 'module:function' in this package, '' for what only a whole data set or a clock has. Its arguments are
        names of what `scoring` holds of a label map and an annotation.
    better : 'neither' for what is only counted. needs : what it looks at.
    """

    formula: str
    better: Literal["higher", "lower", "neither"]
    needs: Literal["labels", "image", "truth", "flow", "contours", "time"]
    summary: str
    paper: str

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is, 0 where neither."""
        return {"higher": 1, "lower": -1, "neither": 0}[self.better]


STUTZ = "Stutz et al., CVIU 2018"

METRICS = {
    "asa": Metric(
        "region:achievable_segmentation_accuracy",
        "higher",
        "truth",
        "achievable segmentation accuracy, 0..1",
        "Liu et al., CVPR 2011",
    ),
    "ue_np": Metric(
        "region:undersegmentation_error",
        "lower",
        "truth",
        "undersegmentation error that counts every leak, 0..1",
        "Neubert and Protzel, FBI 2012",
    ),
    "ue_levin": Metric(
        "region:undersegmentation_error_levin",
        "lower",
        "truth",
        "undersegmentation error of TurboPixels, from 0",
        "Levinshtein et al., TPAMI 2009",
    ),
    "ue_slic": Metric(
        "region:undersegmentation_error_slic",
        "lower",
        "truth",
        "undersegmentation error of SLIC, from 0",
        "Achanta et al., TPAMI 2012",
    ),
    "cuse": Metric(
        "region:corrected_undersegmentation_error",
        "lower",
        "truth",
        "corrected undersegmentation error, 1 - asa",
        "Van den Bergh et al., ECCV 2012",
    ),
    "oe": Metric("region:oversegmentation_error", "lower", "truth", "oversegmentation error, 0..1", STUTZ),
    "br": Metric(
        "boundary:boundary_recall",
        "higher",
        "truth",
        "boundary recall within the protocol's tolerance, 0..1",
        STUTZ,
    ),
    "bp": Metric(
        "boundary:boundary_precision",
        "higher",
        "truth",
        "boundary precision of the protocol, 0..1",
        STUTZ,
    ),
    "f1": Metric(
        "boundary:f1",
        "higher",
        "truth",
        "harmonic mean of bp and br, 0..1",
        "Gaur and Manjunath, TIP 2020",
    ),
    "f4": Metric(
        "boundary:f4",
        "higher",
        "truth",
        "F measure of bp and br, recall weighing 16-fold, 0..1",
        "Zhu et al., CVPR 2021",
    ),
    "mde": Metric(
        "boundary:mean_distance_to_edge",
        "lower",
        "truth",
        "mean distance from a true boundary to the nearest one found, pixels",
        "Benesova and Kottman, MVML 2014",
    ),
    "ri": Metric("region:rand_index", "higher", "truth", "Rand index, 0..1", "Arbelaez et al., TPAMI 2011"),
    "voi": Metric(
        "region:variation_of_information",
        "lower",
        "truth",
        "variation of information, bits",
        "Arbelaez et al., TPAMI 2011",
    ),
    "covering": Metric(
        "region:covering",
        "higher",
        "truth",
        "covering of the true segments, 0..1",
        "Arbelaez et al., TPAMI 2011",
    ),
    "co": Metric("shape:compactness", "higher", "labels", "compactness, 0..pi/4", "Schick et al., ICPR 2012"),
    "cd": Metric(
        "shape:contour_density",
        "lower",
        "labels",
        "contour density: share of boundary pixels, 0..1",
        STUTZ,
    ),
    "ev": Metric(
        "color:explained_variation",
        "higher",
        "image",
        "explained variation of the RGB colours, 0..1",
        "Moore et al., CVPR 2008",
    ),
    "sse_rgb": Metric(
        "color:squared_error",
        "lower",
        "image",
        "mean squared distance to the superpixel's mean RGB",
        STUTZ,
    ),
    "sse_xy": Metric(
        "color:squared_position_error",
        "lower",
        "labels",
        "mean squared distance to the superpixel's centre, pixels squared",
        STUTZ,
    ),
    "icv": Metric(
        "color:intra_cluster_variation",
        "lower",
        "image",
        "intra-cluster variation of the RGB colours",
        "Benesova and Kottman, MVML 2014",
    ),
    "k": Metric("shape:count", "neither", "labels", "number of distinct ids", STUTZ),
    "components": Metric("shape:components", "neither", "labels", "number of 4-connected regions", STUTZ),
    "size_std": Metric("shape:size_deviation", "neither", "labels", "standard deviation of the sizes, pixels", STUTZ),
    "epe": Metric(
        "flow:end_point_error",
        "lower",
        "flow",
        "end-point error of superpixel-wise mean flow, pixels",
        "Jampani et al., ECCV 2018",
    ),
}

# Of soft contour maps over a data set; the benchmark in `contours` computes them.
BSDS = "Arbelaez et al., TPAMI 2011"
CONTOUR_METRICS = {
    "ods": Metric("", "higher", "contours", "best F with one threshold for all images, 0..1", BSDS),
    "ois": Metric("", "higher", "contours", "F with the best threshold of each image, 0..1", BSDS),
    "ap": Metric("", "higher", "contours", "average precision: area under the curve, 0..1", BSDS),
    "covering_ois": Metric("", "higher", "contours", "covering with the best threshold of each image, 0..1", BSDS),
    "covering_best": Metric("", "higher", "contours", "covering with the best threshold of each segment, 0..1", BSDS),
    "ri_ois": Metric("", "higher", "contours", "Rand index with the best threshold of each image, 0..1", BSDS),
    "voi_ois": Metric("", "lower", "contours", "variation of information with that of each image, bits", BSDS),
}

# Of a method's calls, `spx bench` alone.
SPEED_METRICS = {
    "ms": Metric("", "lower", "time", "median milliseconds for one image", ""),
    "ms_min": Metric("", "lower", "time", "least milliseconds for one image", ""),
    "spread": Metric("", "neither", "time", "distance between the quartiles of ms, in medians", ""),
    "mpx_per_s": Metric("", "higher", "time", "megapixels in a second", ""),
    "ratio": Metric("", "lower", "time", "median of ms over that of the reference beside it", ""),
    "peak_mb": Metric("", "lower", "time", "most memory of the process, megabytes", ""),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a paper's evaluation takes the boundaries and the annotations; its name stands in every result.

    boundaries : the rule of `labels.boundaries`.
    tolerance : half side of the square window in pixels; 'stutz' means 0.0025 of the diagonal as the benchmark rounds.
    precision : 'truth' counts true positives among true boundary pixels (the benchmark), 'labels' among the
        superpixels' (textbook; on one-sided boundaries LNS-Net's computeBP).
    empty : recall where the annotation has no boundary, and precision where nothing is left to be precise about.
    annotations : what becomes of several annotations of an image, see `combine`.
    metrics : the names the paper reports.
    annotators : how many annotations of an image `evaluate` reads, from the first; None for all.
    """

    name: str
    boundaries: Literal["two-sided", "one-sided"]
    tolerance: int | Literal["stutz"]
    precision: Literal["truth", "labels"]
    empty: float
    annotations: Policy
    metrics: tuple[str, ...]
    paper: str
    annotators: int | None = None

    def radius(self, height: int, width: int) -> int:
        """Return the tolerance in pixels for an image of this size.

        >>> [PROTOCOLS["stutz"].radius(*size) for size in [(120, 160), (481, 321), (360, 480), (448, 608)]]
        [0, 1, 1, 2]
        """
        if self.tolerance == "stutz":
            # The benchmark's 0.0025 is a 32-bit float, a little less, so ties round down.
            return floor(0.0024999999441206455 * hypot(height, width) + 0.5)
        return self.tolerance


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            name="stutz",
            boundaries="two-sided",
            tolerance="stutz",
            precision="truth",
            empty=0.0,
            annotations="each",
            metrics=("asa", "ue_np", "br", "bp", "ev", "co"),
            paper=STUTZ,
        ),
        Protocol(
            name="scn",
            boundaries="two-sided",
            tolerance="stutz",
            precision="truth",
            empty=0.0,
            annotations="each",
            metrics=("asa", "ue_np", "br", "bp", "ev", "co"),
            # Its scripts prepare five annotations of an image, and so do those of the papers that compare with it.
            annotators=5,
            paper="Yang et al., CVPR 2020",
        ),
        Protocol(
            name="seal",
            boundaries="one-sided",
            tolerance=1,
            precision="labels",
            empty=1.0,
            annotations="each",
            metrics=("asa", "br", "bp"),
            paper="Tu et al., CVPR 2018",
        ),
        Protocol(
            name="lnsnet",
            boundaries="one-sided",
            tolerance=1,
            precision="labels",
            empty=1.0,
            annotations="best",
            metrics=("asa", "br", "bp", "f4"),
            paper="Zhu et al., CVPR 2021",
        ),
        Protocol(
            name="sen",
            boundaries="two-sided",
            # The paper's "distance < 2" is the 3x3 square on the pixel grid.
            tolerance=1,
            precision="labels",
            empty=0.0,
            annotations="each",
            metrics=("asa", "cuse", "br", "bp", "f1"),
            paper="Gaur and Manjunath, TIP 2020",
        ),
        Protocol(
            name="rim",
            # The paper does not say which pixels are boundaries; both sides, as the benchmark has it.
            boundaries="two-sided",
            tolerance=1,
            precision="labels",
            empty=0.0,
            annotations="each",
            metrics=("asa", "br"),
            paper="Suzuki, ICASSP 2020",
        ),
    )
}


def protocol(name: str | Protocol) -> Protocol:
    """Return the protocol of this name, or the one given; UnknownName suggests the nearest."""
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


_EXPORTS = {
    "at": "spx_cli.metrics.summary",
    "combine": "spx_cli.metrics.summary",
    "mean": "spx_cli.metrics.summary",
    "score": "spx_cli.metrics.scoring",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'spx_cli.metrics' has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value
