"""NYU Depth v2 (Silberman et al., ECCV 2012): indoor photographs, cropped to 608 x 448 as the field scores them."""

from pathlib import Path

from spx_cli.datasets.base import Entry, Layout, PictureDataset, Sample, text
from spx_cli.errors import DataError
from spx_cli.io import mat
from spx_cli.io.files import reading
from spx_cli.types import Image

WIDTH, HEIGHT = 608, 448


class NYUv2(PictureDataset):
    """images/*.png or *.jpg and labels/*.png; the official splits.mat beside them tells train from test."""

    layouts = (Layout(("images/*.png", "images/*.jpg"), ("labels/*.png",)),)
    splits = {"train": "trainNdxs", "test": "testNdxs"}  # noqa: RUF012

    def members(self, root: Path) -> set[str] | None:
        """Return the ids of the split asked for, as splits.mat lists them."""
        if self.split is None:
            return None
        path = root / "splits.mat"
        if not path.is_file():
            raise DataError(
                f"no {path}: it tells which images belong to split {self.split}; leave out the split for all"
            )
        with reading(path, "list of splits") as file:
            return {f"{int(i):04d}" for i in mat.read_vector(file, self.splits[self.split]).tolist()}

    def read(self, entry: Entry, image: Image) -> Sample:
        """Return the sample without the 16 pixels at each side that the depth camera's registration leaves empty."""
        sample = self.check(super().read(entry, image), entry)
        top, left = (image.shape[0] - HEIGHT) // 2, (image.shape[1] - WIDTH) // 2
        if top < 0 or left < 0:
            raise DataError(f"{entry.image} is {text(image.shape)}, smaller than the {WIDTH}x{HEIGHT} that is scored")
        window = (slice(top, top + HEIGHT), slice(left, left + WIDTH))
        return sample._replace(image=image[window].copy(), truths=tuple(t[window].copy() for t in sample.truths))
