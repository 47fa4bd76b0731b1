"""Data sets that only differ by where their files lie: annotations are pictures of ids."""

from pathlib import Path
from typing import ClassVar

from spx_cli.datasets.base import Layout, PictureDataset
from spx_cli.errors import DataError
from spx_cli.io.files import reading


class VOC(PictureDataset):
    """Pascal VOC 2012: JPEGImages/*.jpg and SegmentationClass/*.png; 255 marks the unlabelled rim of objects."""

    layouts: ClassVar[tuple[Layout, ...]] = (Layout(("JPEGImages/*.jpg",), ("SegmentationClass/*.png",)),)
    nested = ("VOC2012", "VOCdevkit/VOC2012")
    splits = {"train": "train", "val": "val", "trainval": "trainval"}  # noqa: RUF012
    ignore_label = 255
    spare_images = True

    def members(self, root: Path) -> set[str] | None:
        """Return the ids in ImageSets/Segmentation/<split>.txt."""
        if self.split is None:
            return None
        path = root / "ImageSets" / "Segmentation" / f"{self.split}.txt"
        if not path.is_file():
            raise DataError(
                f"no {path}: it tells which images belong to split {self.split}; leave out the split for all"
            )
        with reading(path, "list of names") as file:
            return set(file.read().decode().split())


class VOCObjects(VOC):
    """Pascal VOC 2012 with one id per object: SegmentationObject/*.png in place of SegmentationClass."""

    layouts = (Layout(("JPEGImages/*.jpg",), ("SegmentationObject/*.png",)),)


class Cityscapes(PictureDataset):
    """leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/<split>/<city>/*_gtFine_labelIds.png."""

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout(("leftImg8bit/{split}/*/*_leftImg8bit.png",), ("gtFine/{split}/*/*_gtFine_labelIds.png",)),
    )
    splits = {"train": "train", "val": "val", "test": "test"}  # noqa: RUF012
    spare_images = True


class CityscapesInstances(Cityscapes):
    """Cityscapes with one id per object: *_gtFine_instanceIds.png in place of labelIds."""

    layouts = (Layout(("leftImg8bit/{split}/*/*_leftImg8bit.png",), ("gtFine/{split}/*/*_gtFine_instanceIds.png",)),)


class CamVid(PictureDataset):
    """{train,val,test}/*.png and {train,val,test}annot/*.png, or 701_StillsRaw_full and LabeledApproved_full."""

    colours = True  # of LabeledApproved_full
    layouts = (
        Layout(("{split}/*.png",), ("{split}annot/*.png",)),
        Layout(("701_StillsRaw_full/*.png",), ("LabeledApproved_full/*_L.png",)),
    )
    nested = ("CamVid",)
    splits = {"train": "train", "val": "val", "test": "test"}  # noqa: RUF012


class DRIVE(PictureDataset):
    """Retinal vessels: training|test/images/*.tif and 1st_manual/*.gif; 2nd_manual is the second annotation."""

    layouts = (
        Layout(
            ("{split}/images/*_{split}.tif",),
            ("{split}/1st_manual/*_manual1.gif", "{split}/2nd_manual/*_manual2.gif"),
        ),
    )
    nested = ("DRIVE",)
    splits = {"train": "training", "test": "test"}  # noqa: RUF012
    # Later releases of the data set withhold the annotations of the test images.
    spare_images = True


class DukeDME(PictureDataset):
    """Retinal OCT with macular oedema: images/*.png and labels/*.png; 0 is background, each lesion a grey level."""

    layouts = (Layout(("images/*.png",), ("labels/*.png",)),)


class ECSSD(PictureDataset):
    """Salient objects: images/*.jpg and ground_truth_mask/*.png."""

    layouts = (Layout(("images/*.jpg",), ("ground_truth_mask/*.png",)),)
