"""Soft contour maps for many images, by the same engine as label maps."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from spx_cli import params
from spx_cli.batch.engine import Run
from spx_cli.batch.job import Job
from spx_cli.batch.plan import Kind, Task, plan
from spx_cli.contours.folder import CONTOURS_MARK
from spx_cli.contours.maps import Maker, make_maker
from spx_cli.contours.picture import draw
from spx_cli.io import CONTOUR_FORMATS, write_contours, write_image
from spx_cli.methods import create
from spx_cli.methods.base import Method
from spx_cli.options import ContourOptions
from spx_cli.regions.overlays import parse_color
from spx_cli.types import Contours, Image

KIND = Kind("contour map", CONTOURS_MARK, {name: (form.suffix,) for name, form in CONTOUR_FORMATS.items()})
INK = "black"


@dataclass(frozen=True)
class ContourJob(Job[ContourOptions]):
    """A soft contour map is made of every image."""

    @cached_property
    def maker(self) -> Maker:
        """What makes the contours."""
        return make_maker(self.method, self.options, self.identity)

    def make(self, images: Sequence[Image], tasks: Sequence[Task]) -> Sequence[Contours]:
        """Return the contours of images."""
        return [self.maker.contours(image) for image in images]

    def write(self, task: Task, image: Image, made: Contours) -> dict[str, Any]:
        """Write a contour map and its picture."""
        write_contours(task.output, made, format=self.options.format or "png")
        if task.overlay:
            write_image(task.overlay, draw(image, made, parse_color(self.options.color or INK)))
        return {}

    def said(self) -> list[str]:
        """Return in words all options that decide the bytes of an output."""
        picture = [f"overlay={self.options.color or INK}"] if self.options.overlay else []
        maker = self.maker
        done = f"nms={maker.nms} threshold={maker.threshold} thin={maker.thin}"
        return [str(maker.source), done, str(self.options.format), *picture]


def contour_files(
    method: str | Method,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    options: ContourOptions | None = None,
    *,
    executor: Executor | None = None,
    **changes: Any,
) -> Run:
    """Return the work of `spx contours`: iterate over it and each image gives a Result, in the order they are done.

    inputs, out, executor : as in `segment_files`; for one image the default is STEM.contours.png.
    options, changes : the fields of ContourOptions, also by keyword.

    Raises, before any work starts, what `plan.plan` raises, and ParameterError for a method, colour or option that
    cannot be.
    """
    method = method if isinstance(method, Method) else create(method)
    options = params.change(ContourOptions, options, "contour_files", changes)
    parse_color(options.color or INK)
    make_maker(method, options)
    planned = plan(inputs, out, options, options.format, options.overlay, KIND)
    job = ContourJob(method, replace(options, format=planned.format), method.identity())
    return Run(job=job, plan=planned, executor=executor)
