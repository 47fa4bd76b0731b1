"""Pictures of contour maps."""

import numpy as np
from numpy.typing import NDArray

from spx_cli.types import Contours, Image

BLACK = np.zeros(3, np.uint8)


def draw(image: Image, contours: Contours, color: NDArray[np.uint8] = BLACK) -> Image:
    """Return the image, paled, with its contours over it; the strongest has the full colour, (3,)."""
    top = float(contours.max()) or 1.0
    ink = np.minimum(contours / top, 1)[..., None]
    paper = 0.35 * image + 0.65 * 255
    picture: Image = np.rint(ink * color + (1 - ink) * paper).astype(np.uint8)
    return picture
