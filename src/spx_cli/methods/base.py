"""What every method is: a frozen dataclass whose fields are its parameters and whose `assign` is its algorithm."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any, ClassVar, Self

import numpy as np

from spx_cli import device, params
from spx_cli.color import rgb_to_lab
from spx_cli.errors import ImageError, LabelError, ParameterError
from spx_cli.methods._merging import LOSS, WARD, judge_for, merge_identity
from spx_cli.methods._unlabelled import colour_edges
from spx_cli.params import param
from spx_cli.regions.finish import finish, on_host
from spx_cli.types import Assignment, Contours, Image, Labels, check_image

# glibc gives memory back to the system, and asks for it anew page by page, beyond twice the largest block ever freed
# before. This block nobody touches, so it takes no time; without it each call pays for its pages again.
np.empty(2**25 - 2**14, np.uint8)

CELLS = 6.0
# What `border_price` is; methods have defaults of their own.
BORDER_PRICE = "pixels of expected loss that a pixel side of border less is worth; up to 0.02 is free, more is rounder"
EDGES, NONE = "edges", "none"
Along = Contours | str | None  # `Method.along` says what it may be


def check_count(n_segments: int, image: Image) -> None:
    """Raise ParameterError unless 1 <= n_segments <= number of pixels."""
    pixels = image.shape[0] * image.shape[1]
    if not isinstance(n_segments, int | np.integer) or isinstance(n_segments, bool):
        raise ParameterError(f"n_segments must be an integer, not {n_segments!r}")
    if not 1 <= n_segments <= pixels:
        raise ParameterError(f"n_segments must be between 1 and the number of pixels, {pixels}, not {n_segments}")


def check_contours(contours: Contours, size: tuple[int, int]) -> None:
    """Raise ImageError unless `contours` are numbers from 0 to 1, (H, W) = size, or (S, H, W) at S scales."""
    if not isinstance(contours, np.ndarray) or contours.dtype.kind not in "biuf":
        found = contours.dtype if isinstance(contours, np.ndarray) else f"a {type(contours).__name__}"
        raise ImageError(
            f"contours must be an array of numbers, not {found}; spx_cli.segment also takes names and paths"
        )
    if isinstance(contours, np.ma.MaskedArray):
        raise ImageError("contours must not be masked; contours.filled(0) says that there is none")
    if contours.ndim not in (2, 3) or not contours.size or tuple(contours.shape[-2:]) != tuple(size):
        raise ImageError(f"contours must be of the image's size {tuple(size)}, not {tuple(contours.shape)}")
    low, high = float(contours.min()), float(contours.max())
    if not 0 <= low <= high <= 1:
        raise ImageError(f"contours must be numbers from 0 to 1, not {low:g} to {high:g}")


def guides_of(images: Sequence[Image], contours: Sequence[Along] | None) -> Sequence[Along]:
    """Return along what to merge each image; ParameterError where there are more or fewer than images."""
    if contours is None:
        return [None] * len(images)
    if len(contours) != len(images):
        raise ParameterError(f"{len(contours)} contours for {len(images)} images; None stands for what a method knows")
    return contours


def check_assignment(assignment: Assignment, size: tuple[int, int]) -> None:
    """Raise LabelError unless what a method's `assign` gave is of the image's size; kernels read what it says."""
    if not isinstance(assignment, Assignment):
        raise LabelError(f"a method's assign returns an Assignment, not a {type(assignment).__name__}")
    for name, axes in (("labels", 2), ("features", 3), ("lab", 3)):
        array = getattr(assignment, name)
        if array is None and name == "lab":
            continue
        shape = tuple(getattr(array, "shape", ()))
        if len(shape) != axes or shape[:2] != tuple(size) or 0 in shape:
            wanted = f"{tuple(size)} and channels" if axes == 3 else tuple(size)
            raise LabelError(f"a method's {name} must be of the image's size, {wanted}, not {shape}")
    if not str(assignment.labels.dtype).removeprefix("torch.").startswith(("int", "uint", "bool")):
        raise LabelError(f"a method's labels must be whole numbers, not {assignment.labels.dtype}")
    contours = assignment.contours
    if contours is not None and (contours.ndim not in (2, 3) or tuple(contours.shape[-2:]) != tuple(size)):
        raise LabelError(f"a method's contours must be of the image's size, {tuple(size)}, not {tuple(contours.shape)}")


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

    def changed(self, **given: Any) -> Self:
        """Return a copy with other parameters, as `create` does."""
        return params.create(type(self), self.name, {**asdict(self), **given})

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
        check_assignment(assignment, image.shape[:2])
        if raw:
            return np.asarray(on_host(assignment.labels), np.int32)
        assignment = self.along(assignment, image, contours, native=native)
        return self.finish(assignment, n_segments, native_count=native_count)

    def segment_counts(self, image: Image, counts: Iterable[int]) -> list[Labels]:
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
            return assignment._replace(contours=np.asarray(contours, np.float32), embedding=None, edges=False)
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
        guides = guides_of(images, contours)
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
