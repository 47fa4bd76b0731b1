"""BSDS500 (Arbelaez et al., TPAMI 2011): 500 photographs of 481 x 321, each segmented by four to nine people."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from spx_cli.datasets.base import Dataset, Entry, Layout, Sample, Truth
from spx_cli.errors import DataError
from spx_cli.io.files import DAMAGE, reason
from spx_cli.types import Image


class BSDS500(Dataset):
    """images/{train,val,test}/*.jpg and groundTruth/{train,val,test}/*.mat; all annotations in file order."""

    layouts = (Layout(("images/{split}/*.jpg",), ("groundTruth/{split}/*.mat",)),)
    nested = ("BSDS500", "data", "BSDS500/data", "BSR/BSDS500/data")
    splits = {"train": "train", "val": "val", "test": "test"}  # noqa: RUF012
    default_split = "test"

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""
        return Sample(entry.id, image, read_ground_truth(entry.truths[0]))


def read_ground_truth(path: Path) -> tuple[Truth, ...]:
    """Return all segmentations of a BSDS .mat file, int32 (H, W) with ids from 1, in the order of the file."""
    try:
        cells = loadmat(path, variable_names=["groundTruth"])["groundTruth"]
        return tuple(np.ascontiguousarray(cell["Segmentation"][0, 0], np.int32) for cell in cells.ravel())
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except KeyError:
        raise DataError(f"{path} holds no variable groundTruth: not a BSDS annotation") from None
    except (*DAMAGE, MatReadError) as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from None
