"""Where soft contours come from: the boundaries of a method's superpixels, or a network that has learned contours."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from spx_cli.contours.nms import suppress
from spx_cli.contours.thinning import thin
from spx_cli.errors import ParameterError
from spx_cli.methods.base import Method, check_count, resident
from spx_cli.options import ContourOptions
from spx_cli.regions.maps import boundaries
from spx_cli.types import Contours, Image, check_image

if TYPE_CHECKING:
    from spx_cli.methods._torch import TorchMethod

# Gaur and Manjunath (TIP 2020) average the superpixels of 13 sizes; where between 50 and 700 they do not say.
COUNTS = tuple(round(50 + i * 650 / 12) for i in range(13))
# A line lies a pixel to one side at one count and to the other at the next: blurred by so many pixels they have one
# crest. Less leaves plateaus that cannot be thinned well, more joins lines side by side.
BLUR = 0.7


@dataclass(frozen=True)
class Averaged:
    """In which share of a method's label maps, one for each count, a pixel lies on a boundary, a little blurred.

    Of the usual counts, those above the number of pixels are passed over.
    """

    method: Method
    counts: tuple[int, ...] = COUNTS

    def contours(self, image: Image) -> Contours:
        """Return the contours of an image, float32 (H, W); ParameterError for a count above its pixels."""
        from scipy.ndimage import gaussian_filter

        check_image(image)
        counts = [count for count in self.counts if count <= image.shape[0] * image.shape[1] or self.counts != COUNTS]
        for count in counts:
            check_count(count, image)
        total = np.zeros(image.shape[:2], np.float32)
        for labels in self.method.segment_counts(image, counts):
            total += boundaries(labels)
        blurred: Contours = gaussian_filter(total / np.float32(max(len(counts), 1)), BLUR, mode="nearest")
        return np.minimum(blurred, np.float32(1))


@dataclass(frozen=True)
class Learned:
    """The contours that a network sees, mean over `scales` of the image, and over its mirror image if `mirrored`."""

    method: "TorchMethod"
    scales: tuple[float, ...] = ContourOptions.scales
    mirrored: bool = False

    def contours(self, image: Image) -> Contours:
        """Return the contours of an image, float32 (H, W)."""
        return self.method.contour_map(image, scales=self.scales, mirrored=self.mirrored)


Source = Averaged | Learned


@dataclass(frozen=True)
class Maker:
    """A source of contours and what is done to them, in this order.

    nms : keep the crests only. threshold : what is below becomes 0. thin : what is not on the one-pixel lines of the
    pixels above 0 becomes 0.
    identity : what the method was when the work began, whatever becomes of the files that it names.
    """

    source: Source
    nms: bool = False
    threshold: float = 0.0
    thin: bool = False
    identity: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", self.identity or self.source.method.identity())

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.source.method.name

    def contours(self, image: Image) -> Contours:
        """Return the contours of an image, float32 (H, W), 0 to 1."""
        method = resident(self.source.method, self.identity)
        source: Source = replace(cast(Any, self.source), method=method)
        soft = source.contours(image)
        if self.nms:
            soft = suppress(soft)
        soft[soft < self.threshold] = 0
        if self.thin:
            soft[~thin(soft > 0)] = 0
        return soft


def make_maker(method: Method, options: ContourOptions, identity: str = "") -> Maker:
    """Return what makes contours of images as the options say; ParameterError where the method cannot."""
    sees = method.sees_contours and getattr(method, "contours", True)
    if options.source == "network" and not sees:
        raise ParameterError(f"{method.name} has learned no contours of its own; leave out --source network")
    network = sees and options.source != "superpixels"
    if network and options.counts:
        raise ParameterError(f"{method.name} gives contours of its own; -k goes with --source superpixels")
    if not network and (options.scales != ContourOptions.scales or options.mirrored):
        raise ParameterError("--scales and --mirrored are about a network that sees contours, not about superpixels")
    source: Source = (
        Learned(cast("TorchMethod", method), options.scales, options.mirrored)
        if network
        else Averaged(method, options.counts or COUNTS)
    )
    return Maker(source, options.nms, options.threshold, options.thin, identity)
