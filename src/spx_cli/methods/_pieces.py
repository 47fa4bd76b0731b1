"""Large images seen piece by piece, so that memory does not grow with them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

# Sides of the pieces in which large images are seen, and what is seen around each, in pixels.
_PIECE, _AROUND = 1536, 256

Window = tuple[slice, slice]


def pieces(size: tuple[int, int], beyond: int = _AROUND) -> Iterator[tuple[Window, Window, Window]]:
    """Return the pieces in which large images are seen.

    Each is a window of an image of (height, width) = size, the same with what is seen around it, `beyond` pixels more
    on each side, and where it lies in that. Images of up to 1,536 pixels a side are one piece.
    """
    for corner in product(*(range(0, side, _PIECE) for side in size)):
        starts = [max(c - beyond, 0) for c in corner]
        ends = [min(c + _PIECE, side) for c, side in zip(corner, size, strict=True)]
        y, x = map(slice, corner, ends)
        top, left = (slice(start, end + beyond) for start, end in zip(starts, ends, strict=True))
        below, right = (slice(c - s, e - s) for c, s, e in zip(corner, starts, ends, strict=True))
        yield (y, x), (top, left), (below, right)


def in_pieces(see: Callable[[Tensor, tuple[int, int]], Sequence[Tensor]], images: Tensor, reach: int) -> list[Tensor]:
    """Return the maps (B, ..., h, w) that `see` makes of images (B, 3, h, w), of large ones piece by piece.

    see : is given a piece, and the row and column of its first pixel. reach : how many pixels away its network looks.
    """
    size = images.shape[2], images.shape[3]
    places = list(pieces(size, reach))
    if len(places) == 1:
        return list(see(images, (0, 0)))
    whole: list[Tensor] = []
    for window, (y, x), inside in places:
        for i, made in enumerate(see(images[:, :, y, x], (y.start, x.start))):
            if i == len(whole):
                shape, last = (*made.shape[:-2], *size), made.is_contiguous(memory_format=torch.channels_last)
                layout = torch.channels_last if last else torch.contiguous_format
                whole.append(torch.empty(shape, dtype=made.dtype, device=made.device, memory_format=layout))
            whole[i][..., *window] = made[..., *inside]
    return whole
