"""A page that needs nothing else: sections of tables, lists, charts and pictures in one HTML file."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from spx_cli.reports._jinja import write
from spx_cli.reports.charts import COLOURS, Chart, draw
from spx_cli.reports.tables import Table
from spx_cli.types import Image

LONG_SIDE = 480  # pixels of a picture in the page


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    template: ClassVar = "note.html"
    text: str


@dataclass(frozen=True)
class Listing:
    """A list of lines."""

    template: ClassVar = "listing.html"
    lines: Sequence[str]


@dataclass(frozen=True)
class Checks:
    """A list of lines, each with whether it passed."""

    template: ClassVar = "checks.html"
    checks: Sequence[tuple[bool, str]]


@dataclass(frozen=True)
class Figure:
    """A chart, its name and a text below; a `wide` one stands alone in its row."""

    chart: Chart
    name: str = ""
    text: str = ""
    wide: bool = False

    @property
    def svg(self) -> str:
        """The chart as it stands in a page."""
        return draw(self.chart)


@dataclass(frozen=True)
class Charts:
    """Charts side by side. names : of their lines, for one legend above them all."""

    template: ClassVar = "charts.html"
    figures: Sequence[Figure]
    names: Sequence[str] = ()
    colours: ClassVar = COLOURS


@dataclass(frozen=True)
class Picture:
    """A picture, its name, a figure to read at a glance and a text; without an image the text says why."""

    name: str
    image: Image | None
    value: str = ""
    text: str = ""

    @property
    def address(self) -> str:
        """The picture, made small, as the address of an <img>."""
        if self.image is None:
            return ""
        picture = Pillow.fromarray(self.image)
        picture.thumbnail((LONG_SIDE, LONG_SIDE))
        return address(np.asarray(picture))


@dataclass(frozen=True)
class Cut:
    """Lines over the photograph of a row, a text, and whose they are; without an address the text says why."""

    name: str
    address: str
    text: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of a wall: the name of a photograph, its address, and the lines over it."""

    name: str
    address: str
    cuts: Sequence[Cut]


@dataclass(frozen=True)
class Wall:
    """Photographs in rows, whose lines over them in columns; each opens in full size."""

    template: ClassVar = "wall.html"
    names: Sequence[str]
    strips: Iterable[Strip]


@dataclass(frozen=True)
class Controls:
    """What a live page shows: which names, and which counts."""

    template: ClassVar = "controls.html"
    names: Sequence[str]
    counts: Sequence[int] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures under a heading; they are asked for one by one as the page is written."""

    template: ClassVar = "gallery.html"
    head: str
    pictures: Iterable[Picture]


Block = Note | Listing | Checks | Charts | Controls | Gallery | Table | Wall


@dataclass(frozen=True)
class Section:
    """A heading and what stands below."""

    head: str
    blocks: Iterable[Block]


@dataclass(frozen=True)
class Page:
    """What made it, what it is about, whether all passed (None: nothing to pass), its sections and its small print.

    live : whether tables can be sorted, names shown and hidden, pictures opened; all of it works from the file.
    """

    command: str
    about: str
    passed: bool | None
    sections: Iterable[Section]
    footer: str
    live: bool = False


def address(image: Image, *, quality: int = 82) -> str:
    """Return a picture as the address of an <img>, as JPEG."""
    data = BytesIO()
    Pillow.fromarray(image).save(data, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + b64encode(data.getvalue()).decode()


def clear_address(picture: NDArray[np.uint8]) -> str:
    """Return a picture (H, W, 4) with its opacities as the address of an <img>: PNG, in at most 256 colours."""
    colours, ids = np.unique(picture.reshape(-1, 4), axis=0, return_inverse=True)
    if len(colours) > 256:
        made = Pillow.fromarray(picture).quantize(256, Pillow.Quantize.FASTOCTREE)
        transparency = None
    else:
        made = Pillow.fromarray(ids.reshape(picture.shape[:2]).astype(np.uint8), "P")
        made.putpalette(colours[:, :3].astype(np.uint8).tobytes())
        transparency = colours[:, 3].astype(np.uint8).tobytes()
    data = BytesIO()
    made.save(data, "PNG", optimize=True, **({} if transparency is None else {"transparency": transparency}))
    return "data:image/png;base64," + b64encode(data.getvalue()).decode()


def write_page(page: Page, file: TextIO) -> None:
    """Write the page as HTML."""
    write("page.html", file, page=page)
