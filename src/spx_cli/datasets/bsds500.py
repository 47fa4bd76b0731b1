"""BSDS500 (Arbelaez et al., TPAMI 2011): 500 photographs of 481 x 321, each segmented by four to nine people."""

from spx_cli.datasets.base import Dataset, Entry, Layout, Sample
from spx_cli.io import count_ground_truth, read_ground_truth
from spx_cli.types import Image


class BSDS500(Dataset):
    """images/{train,val,test}/*.jpg and groundTruth/{train,val,test}/*.mat; all annotations in file order."""

    layouts = (Layout(("images/{split}/*.jpg",), ("groundTruth/{split}/*.mat",)),)
    nested = ("BSDS500", "data", "BSDS500/data", "BSR/BSDS500/data")
    splits = {"train": "train", "val": "val", "test": "test"}  # noqa: RUF012
    default_split = "test"

    def annotations(self, entry: Entry) -> int:
        """Return how many segmentations the file of an entry holds."""
        return count_ground_truth(entry.truths[0])

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample whose image has been read."""
        return Sample(entry.id, image, read_ground_truth(entry.truths[0], size=image.shape[:2]))
