"""Optical flow: MPI-Sintel (Butler et al., ECCV 2012) and Middlebury (Baker et al., IJCV 2011), in .flo files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spx_cli.datasets.base import Dataset, Entry, Layout, Sample
from spx_cli.errors import DataError
from spx_cli.types import Image

MAGIC = 202021.25
UNKNOWN = 1e9  # a component above this is unknown flow, as Middlebury's flowIO.h has it


class FlowDataset(Dataset):
    """A data set that annotates each image with the flow to the next frame; images without flow are usual."""

    annotation = "flow"
    spare_images = True

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""
        flow = read_flow(entry.truths[0])
        valid = np.asarray((np.abs(flow) <= UNKNOWN).all(axis=2))
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
    """Return the flow of a .flo file, (H, W, 2) float32 as (x, y) displacement in pixels; DataError if damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(MAGIC):
        raise DataError(f"{path} is not a .flo file: it does not begin with {MAGIC}")
    width, height = (int(n) for n in np.frombuffer(data, "<i4", 2, 4))
    if width < 1 or height < 1 or len(data) != 12 + 8 * width * height:
        raise DataError(f"{path} is damaged: {len(data)} bytes for a flow of {width}x{height}")
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)
