"""Images and label maps, in and out: the only place where files become the arrays of `types`, and back.

Pictures: `codec` and `tiff` (samples as stored), `scale` (to uint8), `image`; `remarks` on what is odd about them.
Label maps: `ids` (in pictures), `mat`, `polygons`, `labels`. `files` and `walk` know the disk.

To add a label format: write a `read_foo` and a `write_foo` in labels.py and add a line to FORMATS.
"""

from spx_cli.io.contours import CONTOUR_FORMATS, CONTOUR_SUFFIXES, read_contours, write_contours
from spx_cli.io.files import atomic, sweep
from spx_cli.io.image import IMAGE_SUFFIXES, MAX_PIXELS, read_image, read_picture, write_image
from spx_cli.io.labels import (
    FORMATS,
    LABEL_SUFFIXES,
    Format,
    count_ground_truth,
    read_ground_truth,
    read_labels,
    write_labels,
)

__all__ = [
    "CONTOUR_FORMATS",
    "CONTOUR_SUFFIXES",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "LABEL_SUFFIXES",
    "MAX_PIXELS",
    "Format",
    "atomic",
    "count_ground_truth",
    "read_contours",
    "read_ground_truth",
    "read_image",
    "read_labels",
    "read_picture",
    "sweep",
    "write_contours",
    "write_image",
    "write_labels",
]
