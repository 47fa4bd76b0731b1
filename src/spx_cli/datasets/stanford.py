"""Stanford Background (Gould et al., ICCV 2009): outdoor scenes; classes as rows of numbers, -1 where unknown."""

from pathlib import Path

import numpy as np

from spx_cli.datasets.base import Dataset, Entry, Layout, Sample, Truth
from spx_cli.errors import FormatError
from spx_cli.io.files import reading
from spx_cli.types import Image

_LONGEST_NUMBER = 16  # characters of a class, with the space behind it


class StanfordBackground(Dataset):
    """images/*.jpg and labels/*.regions.txt; unknown pixels become the ignore label 255."""

    layouts = (Layout(("images/*.jpg",), ("labels/*.regions.txt",)),)
    nested = ("iccv09Data",)
    ignore_label = 255

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""
        regions = read_regions(entry.truths[0], image.shape[:2])
        return Sample(entry.id, image, (regions,), ignore_label=self.ignore_label)


def read_regions(path: Path, size: tuple[int, ...]) -> Truth:
    """Return the class of each pixel, int32 (H, W) = size, 255 where unknown; FormatError for anything but such rows.

    No more is read than rows of that size take.
    """
    most = (size[0] + 1) * (_LONGEST_NUMBER * size[1] + 2)
    with reading(path, "map of regions") as file:
        text = file.read(most + 1)
        rows = [np.array(line.split(), np.int32) for line in text.splitlines() if line.strip()]
        if not rows or len({len(row) for row in rows}) != 1:
            raise FormatError("expected rows of equally many numbers")
    regions = np.stack(rows)
    return np.where(regions < 0, np.int32(255), regions)
