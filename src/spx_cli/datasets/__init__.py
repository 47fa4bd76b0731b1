"""The table of data sets, each read in its official layout. To add one: write datasets/foo.py and add its line."""

from pathlib import Path

from spx_cli.datasets.base import READ_OPTIONS, Dataset, Entry, Sample
from spx_cli.options import ReadOptions
from spx_cli.registry import lookup

__all__ = ["DATASETS", "READ_OPTIONS", "Dataset", "Entry", "Sample", "open_dataset"]

DATASETS = {
    "bsds500": "spx_cli.datasets.bsds500:BSDS500",
    "camvid": "spx_cli.datasets.pictures:CamVid",
    "cityscapes": "spx_cli.datasets.pictures:Cityscapes",
    "cityscapes-instances": "spx_cli.datasets.pictures:CityscapesInstances",
    "drive": "spx_cli.datasets.pictures:DRIVE",
    "duke-dme": "spx_cli.datasets.pictures:DukeDME",
    "ecssd": "spx_cli.datasets.pictures:ECSSD",
    "folder": "spx_cli.datasets.folder:Folder",
    "middlebury": "spx_cli.datasets.flow:Middlebury",
    "nyuv2": "spx_cli.datasets.nyuv2:NYUv2",
    "sintel": "spx_cli.datasets.flow:Sintel",
    "stanford-background": "spx_cli.datasets.stanford:StanfordBackground",
    "voc": "spx_cli.datasets.pictures:VOC",
    "voc-objects": "spx_cli.datasets.pictures:VOCObjects",
}


def open_dataset(
    layout: str, root: str | Path, split: str | None = None, reading: ReadOptions = READ_OPTIONS
) -> Dataset:
    """Return the data set in folder `root`, laid out as `layout` says (a name from DATASETS, in any case).

    split : one of the data set's `splits`; None takes every split that is there.
    reading : how images are read.

    Raises UnknownName for a layout or split that does not exist, DataError for a folder without such data: the message
    says which paths were looked for and what the folder holds. No image is read before it is asked for.
    """
    dataset: Dataset = lookup(DATASETS, "layout", layout.lower())(Path(root), split, reading)
    return dataset
