"""What is done to every image of a batch, and what became of one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from spx_cli import device, params
from spx_cli._version import __version__
from spx_cli.batch.manifest import Made
from spx_cli.batch.plan import Task
from spx_cli.contours.guide import Guide, taking_part
from spx_cli.datasets import Entry
from spx_cli.io import write_image, write_labels
from spx_cli.methods.base import Along, Method
from spx_cli.options import FileOptions, SegmentOptions
from spx_cli.regions.overlays import render
from spx_cli.types import Image, Labels

Options = TypeVar("Options", bound=FileOptions)


class Failure(NamedTuple):
    """Why there is no result, and what a command returns for it."""

    error: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one input.

    output, overlay : paths; for a failed input those that were planned, '' where there was no plan.
    seconds : the method alone, without decoding and encoding; for a group of images the share of each. On a GPU groups
        wait for each other, and the waiting counts.
    exit_code : what the error alone would make a command return; 0 where there is none.
    """

    input: str
    output: str
    overlay: str
    method: str
    params: Mapping[str, Any]
    repr: str
    device: str
    seconds: float | None = None
    status: Literal["done", "skipped", "planned", "failed"] = "done"
    error: str | None = None
    exit_code: int = 0
    version: str = __version__

    def as_json(self) -> dict[str, Any]:
        """Return what a command prints with --json; paths that do not exist are null."""
        fields = asdict(self)
        del fields["exit_code"]
        return fields | {name: fields[name] or None for name in ("output", "overlay")}

    def __str__(self) -> str:
        return f"made in {1000 * (self.seconds or 0):.1f} ms on {self.device}"


@dataclass(frozen=True)
class Job(ABC, Generic[Options]):
    """What is done to every image: `method` under `options`, in which nothing is left to choose by itself.

    identity : what the method was when the work began, whatever becomes of the files that it names.
    """

    method: Method
    options: Options
    identity: str

    @property
    def device(self) -> str:
        """Where the method works."""
        return device.of(self.method)

    @property
    def methods(self) -> Sequence[Method]:
        """All methods that have a part in it."""
        return [self.method]

    @property
    def together(self) -> int:
        """How many images of one size are worked on together."""
        return 1

    def parts(self, image: Image) -> Sequence[Image]:
        """Return what goes to the method of the image of a file: all of it, unless a job works on tiles."""
        return [image]

    def join(self, image: Image, made: Sequence[Any]) -> Any:
        """Return what was made of an image, of what was made of its parts."""
        (whole,) = made
        return whole

    @abstractmethod
    def make(self, images: Sequence[Image], tasks: Sequence[Task]) -> Sequence[Any]:
        """Return what is made of images of one size, each of its task."""

    def digest(self, task: Task, data: bytes) -> str:
        """Return what tells one content of all that is read for a task from another; data : the bytes of its image."""
        return digest(data)

    @abstractmethod
    def write(self, task: Task, image: Image, made: Any) -> dict[str, Any]:
        """Write what was made of an image; return what the result says of it."""

    @abstractmethod
    def said(self) -> list[str]:
        """Return in words all options that decide the bytes of an output."""

    def recipe(self) -> str:
        """Return in words all that decides the bytes of an output, but for its input."""
        parts = [f"spx {__version__}", self.identity, *self.said()]
        if self.options.value_range:
            parts.append(f"range={self.options.value_range}")
        return " ".join(parts)

    def result(self, task: Task, failure: Failure | None = None, **outcome: Any) -> Result:
        """Return the result of one task of this job."""
        return Result(**self.facts(task, failure), **outcome)

    def facts(self, task: Task, failure: Failure | None) -> dict[str, Any]:
        """Return what every result says."""
        failed = {"status": "failed", "error": failure.error, "exit_code": failure.exit_code} if failure else {}
        return {
            "input": task.source,
            "output": str(task.output),
            "overlay": str(task.overlay or ""),
            "method": self.method.name,
            "params": {name: getattr(self.method, name) for name in params.fields(type(self.method))},
            "repr": repr(self.method),
            "device": self.device,
            **failed,
        }

    def skipped(self, task: Task, entry: Made) -> Result:
        """Return the result of a task that an earlier run has done."""
        return self.result(task, status="skipped")


@dataclass(frozen=True, kw_only=True)
class Segmented(Result):
    """What became of one input that is segmented. k : number of regions, None unless done or skipped."""

    k_requested: int
    k: int | None = None

    def __str__(self) -> str:
        return f"{self.k} superpixels in {1000 * (self.seconds or 0):.1f} ms on {self.device}"


@dataclass(frozen=True)
class SegmentJob(Job[SegmentOptions]):
    """A label map is made of every image."""

    guide: Guide | None = None

    @property
    def methods(self) -> Sequence[Method]:
        """All methods that have a part in it."""
        return taking_part(self.method, self.guide)

    @property
    def together(self) -> int:
        """How many images of one size are worked on together."""
        return self.options.batch_size or 1

    def make(self, images: Sequence[Image], tasks: Sequence[Task]) -> Sequence[Labels]:
        """Return the label maps of images of one size."""
        options, guide = self.options, self.guide
        along: list[Along] | None = None
        if guide is not None:
            along = [guide.along(image, entry_of(task)) for image, task in zip(images, tasks, strict=True)]
        return self.method.segment_batch(
            images, options.n_segments, native_count=options.native_count, raw=options.raw, contours=along
        )

    def digest(self, task: Task, data: bytes) -> str:
        """Return what tells one content of the image, and of its contour map, from another."""
        file = self.guide.file(entry_of(task)) if self.guide else None
        return digest(data if file is None else data + digest(file.read_bytes()).encode())

    def write(self, task: Task, image: Image, made: Labels) -> dict[str, Any]:
        """Write a label map and its overlay; return the number of its regions."""
        options = self.options
        k = len(np.unique(made)) if options.raw else int(made.max()) + 1
        facts = {
            "spx": __version__,
            "method": repr(self.method),
            "k_requested": options.n_segments,
            "k": k,
            "input": task.source,
        }
        write_labels(task.output, made, format=options.format, metadata=facts)
        if task.overlay and options.overlay:
            picture = render(image, made, options.overlay, color=options.color, thickness=options.thickness)
            write_image(task.overlay, picture)
        return {"k": k}

    def said(self) -> list[str]:
        """Return in words all options that decide the bytes of an output."""
        options = self.options
        parts = [f"k={options.n_segments}", str(options.format)]
        parts += [name for name in ("native_count", "raw") if getattr(options, name)]
        parts += [f"contours={self.guide.identity}"] if self.guide else []
        lines = f"{options.color or ''}" + (f":{options.thickness}" if options.thickness else "")
        return parts + ([f"overlay={options.overlay}:{lines}"] if options.overlay else [])

    def result(self, task: Task, failure: Failure | None = None, **outcome: Any) -> Segmented:
        """Return the result of one task of this job."""
        return Segmented(**self.facts(task, failure), k_requested=self.options.n_segments, **outcome)

    def skipped(self, task: Task, entry: Made) -> Segmented:
        """Return the result of a task that an earlier run has done."""
        return self.result(task, status="skipped", k=entry.k)


def entry_of(task: Task) -> Entry | None:
    """Return the image of a task as contour maps are named after it; None for one without a name."""
    return None if task.data is not None else Entry(Path(task.source).stem, Path(task.source))


def digest(data: bytes) -> str:
    """Return what tells one content of a file from another."""
    return blake2b(data, digest_size=16).hexdigest()
