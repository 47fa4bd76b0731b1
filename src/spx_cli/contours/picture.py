"""Pictures of contour maps."""

import numpy as np

from spx_cli.types import Contours, Image


def draw(image: Image, contours: Contours, color: tuple[int, int, int] = (0, 0, 0)) -> Image:
    """Return the image, paled, with its contours over it; the strongest has the full colour."""
    top = float(contours.max()) or 1.0
    ink = np.minimum(contours / top, 1)[..., None]
    paper = 0.35 * image + 0.65 * 255
    picture: Image = np.rint(ink * np.array(color) + (1 - ink) * paper).astype(np.uint8)
    return picture
