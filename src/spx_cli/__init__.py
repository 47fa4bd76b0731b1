"""spx: every important superpixel method, trained, scored and compared."""

from spx_cli._version import __version__

TYPE_CHECKING = False  # nothing is imported here before it is needed, not even the module typing
if TYPE_CHECKING:
    from typing import Any

    from spx_cli.api import benchmark as benchmark
    from spx_cli.api import create as create
    from spx_cli.api import evaluate as evaluate
    from spx_cli.api import evaluate_contours as evaluate_contours
    from spx_cli.api import segment as segment
    from spx_cli.batch.contours import contour_files as contour_files
    from spx_cli.batch.engine import segment_files as segment_files
    from spx_cli.color import rgb_to_lab as rgb_to_lab
    from spx_cli.io import read_image as read_image
    from spx_cli.io import read_labels as read_labels
    from spx_cli.io import write_labels as write_labels
    from spx_cli.methods.base import Method as Method
    from spx_cli.options import BenchOptions as BenchOptions
    from spx_cli.options import BoundaryOptions as BoundaryOptions
    from spx_cli.options import ContourOptions as ContourOptions
    from spx_cli.options import EvaluateOptions as EvaluateOptions
    from spx_cli.options import SegmentOptions as SegmentOptions
    from spx_cli.params import param as param
    from spx_cli.regions.overlays import render as render
    from spx_cli.training.loop import train as train
    from spx_cli.training.samples import open_samples as open_samples
    from spx_cli.types import Assignment as Assignment
    from spx_cli.types import Image as Image
    from spx_cli.types import Labels as Labels

_EXPORTS = {
    "Assignment": "spx_cli.types",
    "BenchOptions": "spx_cli.options",
    "BoundaryOptions": "spx_cli.options",
    "ContourOptions": "spx_cli.options",
    "EvaluateOptions": "spx_cli.options",
    "Image": "spx_cli.types",
    "Labels": "spx_cli.types",
    "Method": "spx_cli.methods.base",
    "SegmentOptions": "spx_cli.options",
    "benchmark": "spx_cli.api",
    "contour_files": "spx_cli.batch.contours",
    "create": "spx_cli.api",
    "evaluate": "spx_cli.api",
    "evaluate_contours": "spx_cli.api",
    "open_samples": "spx_cli.training.samples",
    "param": "spx_cli.params",
    "read_image": "spx_cli.io",
    "read_labels": "spx_cli.io",
    "render": "spx_cli.regions.overlays",
    "rgb_to_lab": "spx_cli.color",
    "segment": "spx_cli.api",
    "segment_files": "spx_cli.batch.engine",
    "train": "spx_cli.training.loop",
    "write_labels": "spx_cli.io",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> "Any":
    if name not in _EXPORTS:
        raise AttributeError(f"module 'spx_cli' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
