"""What one may ask for in the long pieces of work: declared once, for Python, the command line and the work itself."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spx_cli import params
from spx_cli.errors import ParameterError
from spx_cli.params import option
from spx_cli.registry import unknown


def _range(text: str) -> tuple[float, float] | str:
    if text == "auto":
        return text
    try:
        low, high = map(float, text.replace(",", " ").split())
    except ValueError:
        raise ParameterError(f"--range takes LOW HIGH or auto, not {text!r}") from None
    return low, high


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How images are read. Raises ParameterError for a value of the wrong type or out of bounds, as all options do."""

    max_pixels: int | None = option(
        None, "Refuse larger images. [default: 178 million]", "--max-pixels", ge=1, le=10**9
    )
    value_range: tuple[float, float] | str | None = option(
        None,
        "Values that become black and white; auto: percentiles. [default: all the type holds, for floats 0 to 1]",
        "--range",
        metavar="LOW HIGH",
        read=_range,
    )

    def __post_init__(self) -> None:
        params.check(self)
        given = self.value_range
        if isinstance(given, str) and given != "auto":
            raise ParameterError(f"value_range must be two numbers or 'auto', not {given!r}")
        if isinstance(given, tuple) and not (math.isfinite(sum(given)) and given[0] < given[1]):
            raise ParameterError(f"value_range must be two finite numbers, black below white, not {given}")


@dataclass(frozen=True, kw_only=True)
class FileOptions(ReadOptions):
    """How a command that makes a file of each image treats every file."""

    color: str | None = option(None, "Of drawn lines: a name or #RRGGBB.", "--color", metavar="COLOR", needs="overlay")
    jobs: int = option(
        1, "Worker processes; 0: one for each core, with a GPU for four.", "--jobs", "-j", metavar="N", ge=0, le=10_000
    )
    overwrite: bool = option(
        False, "Replace outputs that exist; without it they stop the run at its start.", "--overwrite"
    )
    resume: bool = option(
        False, "Go on with an earlier run: pass over what it made of the same input in the same way.", "--resume"
    )
    max_failures: int | None = option(
        None,
        "Allow so many files to fail: up to there the exit code stays 0, beyond the run stops.",
        "--max-failures",
        ge=0,
        le=10**9,
    )
    dry_run: bool = option(False, "Say what would be done, and do nothing.", "--dry-run")


@dataclass(frozen=True, kw_only=True)
class SegmentOptions(FileOptions):
    """How `segment_files` treats every file."""

    n_segments: int = option(200, "Number of superpixels.", "-k", "--segments", metavar="K", ge=1, le=10**9)
    thickness: float | None = option(
        None,
        "Of drawn lines, pixels. [default: by the sizes of image and regions]",
        "--thickness",
        metavar="PIXELS",
        ge=0.1,
        le=100,
        needs="overlay",
    )
    native_count: bool = option(False, "Keep the count that the method itself yields.", "--native-count")
    raw: bool = option(False, "Keep the method's own map: neither connected, counted nor renumbered.", "--raw")
    format: str | None = option(
        None,
        "png, tiff, npy, npz, mat, csv, geojson or svg. [default: what OUT ends in, else png]",
        "--format",
        metavar="FORMAT",
    )
    contours: str | None = option(
        None,
        "Merge along: edges, a network such as fcn, a folder or file of contour maps, or none. "
        "[default: what the method knows, else edges; for slic and slico none]",
        "--contours",
        metavar="NAME|PATH",
    )
    guide_device: str | None = option(None, "Where a network that guides works, if not where the method does.")
    overlay: str | None = option(
        None, "Also write a picture: boundaries, mean, random or side-by-side.", "--overlay", metavar="MODE"
    )
    batch_size: int | None = option(
        None,
        "Images of one size that a network gets together. [default: 16 on CUDA, else 1]",
        "--batch-size",
        ge=1,
        le=4096,
    )


def check_scales(scales: Sequence[float]) -> None:
    """Raise ParameterError unless `scales` are sizes at which a network can see an image, relative to its own."""
    try:
        fit = len(scales) > 0 and all(0.05 <= scale <= 8 for scale in scales)
    except TypeError:
        fit = False
    if not fit:
        said = ", ".join(map(str, scales)) if isinstance(scales, Sequence) else repr(scales)
        raise ParameterError(f"scales must lie between 0.05 and 8, not {said or 'none'}")


def _numbers(texts: Iterable[str]) -> list[float]:
    try:
        return [float(number) for text in texts for number in text.split(",")]
    except ValueError:
        raise ParameterError(f"--scales takes numbers, not {','.join(texts)!r}") from None


@dataclass(frozen=True, kw_only=True)
class ContourOptions(FileOptions):
    """How `contour_files` treats every file.

    counts : empty stands for the 13 of the SEN paper.
    source : auto takes what the network has learned, of a method that has, else its superpixels.
    nms, threshold, thin : what is done to the contours, in this order.
    """

    counts: tuple[int, ...] = option(
        (),
        "Superpixels whose boundaries are averaged; repeatable. [default: 13 counts from 50 to 700]",
        "-k",
        "--segments",
        metavar="K",
    )
    source: str = option(
        "auto",
        "network: what it has learned; superpixels: their boundaries. [default: network where it can]",
        "--source",
    )
    scales: tuple[float, ...] = option(
        (0.5, 1.0),
        "Sizes at which a network sees the image; the mean is taken. [default: 0.5,1]",
        "--scales",
        metavar="S,...",
        read=_numbers,
    )
    mirrored: bool = option(False, "A network also sees the mirror image.", "--mirrored")
    nms: bool = option(False, "Keep the crests only (non-maximum suppression).", "--nms")
    threshold: float = option(0.0, "What is below becomes 0.", "--threshold", metavar="T", ge=0, le=1)
    thin: bool = option(False, "Keep lines of one pixel only.", "--thin")
    format: str | None = option(
        None, "png (8 bits), png16 or npy. [default: what OUT ends in, else png]", "--format", metavar="FORMAT"
    )
    overlay: bool = option(False, "Also write a picture of the contours over the image.", "--overlay")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in ("auto", "network", "superpixels"):
            raise unknown("source of contours", self.source, ("auto", "network", "superpixels"))
        if any(not 1 <= count <= 10**9 for count in self.counts):
            raise ParameterError(f"the number of superpixels must be at least 1, not {min(self.counts)}")
        check_scales(self.scales)


def _names(texts: Iterable[str]) -> list[str]:
    return [name for text in texts for name in text.split(",")]


def _ignored(text: str) -> int | None:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise ParameterError(f"--ignore-label takes an id or none, not {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class DataOptions(ReadOptions):
    """Which images of a data set are scored, and how the work is done.

    rows, resume : results are kept as they come, and images whose files have not changed since are not scored again.
    """

    layout: str = option("folder", "How it is laid out: folder, bsds500, voc, ...", "--layout", metavar="NAME")
    split: str | None = option(
        None, "Part of the data set, or all. [default: the usual one]", "--split", metavar="NAME"
    )
    limit: int | None = option(None, "Score the first N images only.", "--limit", metavar="N", ge=1, le=10**9)
    jobs: int = option(1, "Worker processes; 0: one for each core.", "--jobs", "-j", metavar="N", ge=0, le=10_000)
    rows: Path | None = option(
        None,
        "Keep results here as they come, in place of earlier ones unless --resume. [default: in the cache, till done]",
        "--rows",
        metavar="FILE",
    )
    resume: bool = option(False, "Go on where the same command was interrupted.", "--resume")
    cached: bool = option(False, "Keep results in the user's cache until all is scored.")


@dataclass(frozen=True, kw_only=True)
class BoundaryOptions(DataOptions):
    """How contour maps are scored by the BSDS boundary benchmark."""

    thresholds: int = option(99, "Thresholds at which maps are read.", "--thresholds", metavar="N", ge=1)
    regions: bool = option(False, "Score the regions of ultrametric maps (ucm2), too: covering, ri and voi.")
    max_distance: float = option(
        0.0075, "How far apart partners may lie, in diagonals of the image.", "--max-distance", metavar="SHARE", ge=0
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(DataOptions):
    """How `evaluate` reads a data set and scores label maps on it; each field says beside it what it is for.

    ignore_label : an id, None for none, "dataset" for what the data set says.
    metrics : names from METRICS; None stands for those of the protocol and the number of connected components.
    """

    native_count: bool = option(False, "Keep the count that a method itself yields.", "--native-count")
    contours: str | None = option(None, "Along what methods merge regions, as in SegmentOptions.")
    guide_device: str | None = option(None, "Where a network that guides works, if not where the methods do.")
    protocol: str = option("stutz", "stutz, scn, seal, lnsnet, sen or rim.", "--protocol", metavar="NAME")
    metrics: tuple[str, ...] | None = option(
        None,
        "asa, br, ue_np, ...; several with commas. [default: the protocol's]",
        "--metric",
        metavar="NAME",
        read=_names,
    )
    also: tuple[str, ...] = option((), "Metrics to report beside those.")
    annotations: str | None = option(
        None, "each, mean, best or worst. [default: the protocol's]", "--annotations", metavar="POLICY"
    )
    tolerance: int | None = option(None, "Boundary tolerance in pixels, instead of the protocol's.", ge=0, le=10_000)
    ignore_label: int | str | None = option(
        "dataset",
        "True pixels that count nowhere, or none. [default: data set's]",
        "--ignore-label",
        metavar="ID",
        read=_ignored,
    )
    at: tuple[float, ...] = option(
        (),
        "Also scores at N superpixels, interpolated over the achieved counts; gates of eval are about these.",
        "--at",
        metavar="N",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.ignore_label, str) and self.ignore_label != "dataset":
            raise ParameterError(f"ignore_label must be an id, None, or 'dataset', not {self.ignore_label!r}")


@dataclass(frozen=True, kw_only=True)
class BenchOptions(EvaluateOptions):
    """How `benchmark` scores and times.

    against : the contender whose time is the unit of all ratios; None takes the first.
    """

    against: str | None = option(
        None, "Ratios of times are to this method or peer of the run. [default: the first]", "--against", metavar="NAME"
    )
    timed: int = option(3, "Images that are timed, spread over the data.", "--timed", metavar="N", ge=1, le=10_000)
    repeats: int = option(
        5,
        "Times that each of them is timed, after a first that does not count.",
        "--repeats",
        metavar="N",
        ge=3,
        le=10_000,
    )
    seconds: float = option(
        2.0,
        "Of one method, image and count; what takes longer is timed 3 times.",
        "--seconds",
        metavar="SECONDS",
        ge=0,
        le=10**6,
    )
    threads: int = option(1, "Threads of each method; 0: one for each core.", "--threads", metavar="N", ge=0, le=1024)
    scaling: bool = option(False, "Also time over image size and over count, and fit exponents.", "--scaling")
    largest: float = option(
        33.0, "Of --scaling, megapixels.", "--largest", metavar="MPX", ge=0.01, le=1000, needs="scaling"
    )
    longest: float = option(
        20.0,
        "Of --scaling: what would take longer for one image is left out.",
        "--longest",
        metavar="SECONDS",
        ge=0,
        needs="scaling",
    )
