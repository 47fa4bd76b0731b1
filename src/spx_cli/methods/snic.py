"""SNIC (Achanta and Susstrunk, CVPR 2017): superpixels grow from their seeds, pixel by pixel, nearest pixel first."""

from dataclasses import dataclass

from spx_cli.color import POSITION, rgb_to_lab
from spx_cli.methods._snic import grow
from spx_cli.methods.base import Method
from spx_cli.params import param
from spx_cli.types import Assignment, Image


@dataclass(frozen=True, kw_only=True)
class SNIC(Method):
    """One pass of region growing in Lab and position: connected by construction, no iterations. Deterministic."""

    name = "snic"
    paper = "doi:10.1109/CVPR.2017.520"
    oversegmentation = 2.0

    compactness: float = param(20.0, "m, weight of distance in position against distance in Lab", ge=0.01, le=1e6)

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the grown regions: as many as the seed grid has cells."""
        lab = rgb_to_lab(image)
        return Assignment(grow(lab, n_segments, self.compactness), lab, POSITION)
