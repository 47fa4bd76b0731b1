"""BSDS500 (Arbelaez et al., TPAMI 2011): 500 photographs of 481 x 321, each segmented by four to nine people."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np
from scipy.io import loadmat, whosmat
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

    def annotations(self, entry: Entry) -> int:
        """Return how many segmentations the file of an entry holds."""
        with _naming(entry.truths[0]) as path:
            return {name: prod(shape) for name, shape, _ in whosmat(path)}["groundTruth"]

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""
        return Sample(entry.id, image, read_ground_truth(entry.truths[0]))


def read_ground_truth(path: Path) -> tuple[Truth, ...]:
    """Return all segmentations of a BSDS .mat file, int32 (H, W) with ids from 1, in the order of the file."""
    with _naming(path):
        cells = loadmat(path, variable_names=["groundTruth"])["groundTruth"]
        return tuple(np.ascontiguousarray(cell["Segmentation"][0, 0], np.int32) for cell in cells.ravel())


@contextmanager
def _naming(path: Path) -> Iterator[Path]:
    """Turn what SciPy raises on a file that is no BSDS annotation into a DataError that names it."""
    try:
        yield path
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except KeyError:
        raise DataError(f"{path} holds no variable groundTruth: not a BSDS annotation") from None
    except (*DAMAGE, MatReadError) as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from None
