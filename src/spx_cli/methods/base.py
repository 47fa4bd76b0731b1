"""What every method is: a frozen dataclass whose fields are its parameters and whose `assign` is its algorithm."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import ClassVar, Self

import numpy as np

from spx_cli import device, params
from spx_cli.color import rgb_to_lab
from spx_cli.errors import ImageError, ParameterError
from spx_cli.methods._merging import LOSS, WARD, judge_for, merge_identity
from spx_cli.methods._unlabelled import colour_edges
from spx_cli.params import param
from spx_cli.regions.finish import finish, on_host
from spx_cli.types import Assignment, Contours, Image, Labels

CELLS = 6.0
# What `border_price` is; methods have defaults of their own.
BORDER_PRICE = "pixels of expected loss that a pixel side of border less is worth; up to 0.02 is free, more is rounder"
EDGES, NONE = "edges", "none"
Along = Contours | str | None  # `Method.along` says what it may be


def check_image(image: Image) -> None:
    """Raise ImageError unless `image` is uint8 (H, W, 3) with at least one pixel, and all of them count."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
        raise ImageError(f"an image must be uint8 (H, W, 3), not {found}; {_conversion(image)}")
    if isinstance(image, np.ma.MaskedArray):
        raise ImageError("an image must not be masked: every pixel gets a region; image.filled(0) fills what is masked")
    if image.size == 0:
        raise ImageError(f"an image must have at least one pixel, not shape {image.shape}")


def _conversion(image: object) -> str:
    """Return how to make an image of something else, in words that can be typed."""
    if not isinstance(image, np.ndarray) and (hasattr(image, "__array__") or hasattr(image, "__array_interface__")):
        return "numpy.asarray(image) makes it an array"
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "biuf" or image.ndim not in (2, 3):
        return "spx_cli.read_image reads files"
    if image.ndim == 3 and image.shape[2] > 4 and image.shape[0] in (1, 3, 4):
        return "put the bands last: numpy.moveaxis(image, 0, -1)"
    ways = []
    if image.dtype.kind == "f":
        ways.append("if 1 is white: (image * 255).round().astype('uint8')")
    elif image.dtype.kind == "b":
        ways.append("image.astype('uint8') * 255")
    elif image.dtype != np.uint8:
        ways.append("if WHITE is its white: (image * (255 / WHITE)).round().astype('uint8')")
    if image.ndim == 2:
        ways.append("three bands of a grey one: numpy.stack([image] * 3, axis=-1)")
    elif image.shape[2] != 3:
        few = image.shape[2] < 3
        ways.append("numpy.repeat(image[..., :1], 3, axis=-1)" if few else "image[..., :3] leaves out alpha")
    return "; then ".join(ways)


def check_count(n_segments: int, image: Image) -> None:
    """Raise ParameterError unless 1 <= n_segments <= number of pixels."""
    pixels = image.shape[0] * image.shape[1]
    if not isinstance(n_segments, int | np.integer) or isinstance(n_segments, bool):
        raise ParameterError(f"n_segments must be an integer, not {n_segments!r}")
    if not 1 <= n_segments <= pixels:
        raise ParameterError(f"n_segments must be between 1 and the number of pixels, {pixels}, not {n_segments}")


def check_contours(contours: Contours, size: tuple[int, int]) -> None:
    """Raise ImageError unless `contours` are numbers from 0 to 1, (H, W) = size, or (S, H, W) at S scales."""
    if contours.ndim not in (2, 3) or not contours.size or tuple(contours.shape[-2:]) != tuple(size):
        raise ImageError(f"contours must be of the image's size {tuple(size)}, not {tuple(contours.shape)}")
    low, high = float(contours.min()), float(contours.max())
    if not 0 <= low <= high <= 1:
        raise ImageError(f"contours must be numbers from 0 to 1, not {low:g} to {high:g}")


#: Told (steps done, steps in all) by methods that take long for one image.
progress: ContextVar[Callable[[int, int], None]] = ContextVar("progress", default=lambda done, total: None)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A superpixel method. Subclasses declare parameters with `param` and write `assign`.

    An instance is immutable, hashable, picklable, and its repr is the provenance that results carry.
    """

    name: ClassVar[str]
    kind: ClassVar[str] = "classical"
    paper: ClassVar[str]
    # The method is asked for this many times n_segments, and the finishing stage merges them; where it merges
    # along edges of colour, or contours from elsewhere, CELLS times or more.
    oversegmentation: ClassVar[float] = 1.25
    # Whether no label has had a part in its defaults: weights, contours, and the expected loss of merging.
    label_free: ClassVar[bool] = False
    # Whether the expected loss merges along edges of colour where no contours are given.
    by_edges: ClassVar[bool] = True
    # Whether it is a network that can have learned where objects end: `contour_map` then says so of an image.
    sees_contours: ClassVar[bool] = False

    merge: str = param(
        LOSS, "cost of a merge: loss (pixels expected to be lost), ward, or the path of weights for the expected loss"
    )
    border_price: float = param(0.0, BORDER_PRICE, ge=0, le=1000)

    def __post_init__(self) -> None:
        params.check(self)
        if self.merge == WARD and self.border_price not in (0, type(self).border_price):
            raise ParameterError("border_price is weighed against expected loss; merge=ward knows none")

    def identity(self) -> str:
        """Return in words all that decides the maps, so that two methods of one identity make the same."""
        return f"{self.placed()!r}{self.weights_identity()}"

    def placed(self) -> Self:
        """Return an equal method that names its device by what it is, not as asked for."""
        return replace(self, device=device.of(self)) if getattr(self, "device", None) == "auto" else self  # type: ignore[call-arg]

    def weights_identity(self) -> str:
        """Return in words what the weights behind the parameters are, by content; '' where there are none."""
        return merge_identity(self.merge)

    def fresh(self) -> Self:
        """Return an equal method that holds nothing read from files yet."""
        return self

    @abstractmethod
    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return about n_segments labels for a valid image, and the features in which to finish them."""

    def segment(
        self,
        image: Image,
        n_segments: int = 200,
        *,
        native_count: bool = False,
        raw: bool = False,
        contours: Along = None,
    ) -> Labels:
        """Return exactly n_segments 4-connected regions, int32 (H, W); see `spx_cli.segment`."""
        check_image(image)
        check_count(n_segments, image)
        native = native_count or raw
        assignment = self.assign(image, self.asked(image, n_segments, contours, native=native))
        if raw:
            return np.asarray(on_host(assignment.labels), np.int32)
        assignment = self.along(assignment, image, contours, native=native)
        return self.finish(assignment, n_segments, native_count=native_count)

    def segment_counts(self, image: Image, counts: Sequence[int]) -> list[Labels]:
        """Return a label map for each count; methods that can share work between counts override it."""
        return [self.segment(image, count) for count in counts]

    def asked(self, image: Image, n_segments: int, contours: Along, *, native: bool) -> int:
        """Return how many superpixels `assign` is asked for, so that merging brings them to n_segments.

        native : the method's own count is kept.
        """
        if native:
            return int(n_segments)
        merged_finely = contours is not None or (self.by_edges and self.merge != WARD)
        blind = isinstance(contours, str) and contours == NONE
        factor = max(self.oversegmentation, CELLS) if merged_finely and not blind else self.oversegmentation
        pixels: int = image.shape[0] * image.shape[1]
        return min(ceil(factor * n_segments), pixels)

    def along(self, assignment: Assignment, image: Image, contours: Along, *, native: bool = False) -> Assignment:
        """Return the assignment with the contours along which its regions merge.

        contours : an array; `EDGES` of colour; `NONE`; or None for what the method knows, else edges of colour where
            they are its habit and its count is not kept.
        """
        if contours is None:
            if native or not self.by_edges or self.merge == WARD or assignment.contours is not None:
                return assignment
            contours = EDGES
        if not isinstance(contours, str):
            check_contours(contours, image.shape[:2])
            return assignment._replace(contours=contours, embedding=None, edges=False)
        if contours not in (EDGES, NONE):
            raise ParameterError(f"contours must be an array, {EDGES!r} or {NONE!r}, not {contours!r}")
        strength = colour_edges(rgb_to_lab(image)) if contours == EDGES else None
        return assignment._replace(contours=strength, embedding=None, edges=contours == EDGES)

    def segment_batch(
        self,
        images: Sequence[Image],
        n_segments: int = 200,
        *,
        native_count: bool = False,
        raw: bool = False,
        contours: Sequence[Along] | None = None,
    ) -> list[Labels]:
        """Return the label map of each image; methods that gain from images of one size together override it."""
        guides = [None] * len(images) if contours is None else contours
        return [
            self.segment(image, n_segments, native_count=native_count, raw=raw, contours=guide)
            for image, guide in zip(images, guides, strict=True)
        ]

    def finish(self, assignment: Assignment, n_segments: int, *, native_count: bool = False) -> Labels:
        """Return what leaves `segment` for an assignment."""
        judge = None if native_count else judge_for(assignment, self.merge, self.border_price)
        return finish(assignment, int(n_segments), judge, exact=not native_count)


@lru_cache(maxsize=16)
def resident(method: Method, identity: str) -> Method:
    """Return one method for all of this identity: each task brings a copy, and only one should load its network."""
    return method.fresh()
