"""Stanford Background (Gould et al., ICCV 2009): outdoor scenes; classes as rows of numbers, -1 where unknown."""

from pathlib import Path

import numpy as np

from spx_cli.datasets.base import Dataset, Entry, Layout, Sample, Truth
from spx_cli.errors import DataError
from spx_cli.types import Image


class StanfordBackground(Dataset):
    """images/*.jpg and labels/*.regions.txt; unknown pixels become the ignore label 255."""

    layouts = (Layout(("images/*.jpg",), ("labels/*.regions.txt",)),)
    nested = ("iccv09Data",)
    ignore_label = 255

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""
        return Sample(entry.id, image, (read_regions(entry.truths[0]),), ignore_label=self.ignore_label)


def read_regions(path: Path) -> Truth:
    """Return the class of each pixel, int32 (H, W), 255 where unknown; DataError unless the rows are equally long."""
    try:
        lines = path.read_text().split("\n")
        rows = [np.array(line.split(), np.int32) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not rows or len({len(row) for row in rows}) != 1:
        raise DataError(f"cannot read {path}: expected rows of equally many numbers")
    regions = np.stack(rows)
    return np.where(regions < 0, np.int32(255), regions)
