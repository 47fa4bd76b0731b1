"""Optical flow: MPI-Sintel (Butler et al., ECCV 2012) and Middlebury (Baker et al., IJCV 2011), in .flo files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spx_cli.datasets.base import Dataset, Entry, Layout, Sample
from spx_cli.errors import FormatError
from spx_cli.io.files import reading
from spx_cli.types import UNKNOWN_FLOW, Image

MAGIC = 202021.25


class FlowDataset(Dataset):
    """A data set that annotates each image with the flow to the next frame; images without flow are usual."""

    annotation = "flow"
    spare_images = True

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""
        flow = read_flow(entry.truths[0])
        valid = np.asarray((np.abs(flow) <= UNKNOWN_FLOW).all(axis=2))
        return Sample(entry.id, image, flow=np.where(valid[..., None], flow, np.float32(0)), valid=valid)


class Sintel(FlowDataset):
    """training/clean/<scene>/frame_*.png and training/flow/<scene>/frame_*.flo, or frames and flow in one folder."""

    layouts = (
        Layout(("training/clean/*/*.png",), ("training/flow/*/*.flo",)),
        Layout(("clean/*/*.png",), ("flow/*/*.flo",)),
        Layout(("*.png",), ("*.flo",)),
    )
    nested = ("MPI-Sintel",)


class Middlebury(FlowDataset):
    """other-data/<sequence>/frame10.png and other-gt-flow/<sequence>/flow10.flo."""

    layouts = (Layout(("other-data/*/frame10.png",), ("other-gt-flow/*/flow10.flo",)),)


def read_flow(path: Path) -> NDArray[np.float32]:
    """Return the flow of a .flo file, (H, W, 2) float32 as (x, y) displacement in pixels; FormatError if damaged."""
    with reading(path, "flow") as file:
        head, length = file.read(12), path.stat().st_size
        if len(head) < 12 or np.frombuffer(head, "<f4", 1)[0] != np.float32(MAGIC):
            raise FormatError(f"not a .flo file: it does not begin with {MAGIC}")
        width, height = (int(n) for n in np.frombuffer(head, "<i4", 2, 4))
        if width < 1 or height < 1 or length != 12 + 8 * width * height:
            raise FormatError(f"damaged: {length} bytes for a flow of {width}x{height}")
        return np.frombuffer(file.read(), "<f4").reshape(height, width, 2).astype(np.float32)
