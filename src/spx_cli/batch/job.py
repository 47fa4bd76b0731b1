"""What is done to every image of a batch, and what became of one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

from spx_cli import params
from spx_cli._version import __version__
from spx_cli.batch.plan import Task
from spx_cli.device import pick
from spx_cli.methods.base import Method
from spx_cli.options import SegmentOptions


class Failure(NamedTuple):
    """Why there is no result, and what a command returns for it."""

    error: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one input.

    output, overlay : paths; for a failed input those that were planned, '' where there was no plan.
    k : number of regions, None unless done or skipped.
    seconds : segmentation alone, without decoding and encoding; for a group of images the share of each.
    exit_code : what the error alone would make a command return; 0 where there is none.
    """

    input: str
    output: str
    overlay: str
    method: str
    params: Mapping[str, Any]
    repr: str
    device: str
    k_requested: int
    k: int | None = None
    seconds: float | None = None
    status: Literal["done", "skipped", "planned", "failed"] = "done"
    error: str | None = None
    exit_code: int = 0
    version: str = __version__

    def as_json(self) -> dict[str, Any]:
        """Return what `spx segment --json` prints; paths that do not exist are null."""
        fields = asdict(self)
        del fields["exit_code"]
        return fields | {name: fields[name] or None for name in ("output", "overlay")}


@dataclass(frozen=True)
class Job:
    """What is done to every image: `method` under `options`, in which nothing is left to choose by itself.

    identity : what the method was when the work began, whatever becomes of the files that it names.
    """

    method: Method
    options: SegmentOptions
    identity: str

    @property
    def device(self) -> str:
        """Where the method works."""
        device: str = getattr(self.method, "device", "cpu")
        return str(pick(device)) if device == "auto" else device

    def recipe(self) -> str:
        """Return in words all that decides the bytes of an output, but for its input."""
        options = self.options
        parts = [f"spx {__version__}", self.identity, f"k={options.n_segments}", str(options.format)]
        parts += [name for name in ("native_count", "raw") if getattr(options, name)]
        if options.overlay:
            parts.append(f"overlay={options.overlay}:{options.color or ''}")
        if options.value_range:
            parts.append(f"range={options.value_range}")
        return " ".join(parts)

    def result(self, task: Task, failure: Failure | None = None, **outcome: Any) -> Result:
        """Return the result of one task of this job."""
        if failure:
            outcome |= {"status": "failed", "error": failure.error, "exit_code": failure.exit_code}
        return Result(
            input=task.source,
            output=str(task.output),
            overlay=str(task.overlay or ""),
            method=self.method.name,
            params={name: getattr(self.method, name) for name in params.fields(type(self.method))},
            repr=repr(self.method),
            device=self.device,
            k_requested=self.options.n_segments,
            **outcome,
        )


def digest(data: bytes) -> str:
    """Return what tells one content of a file from another."""
    return blake2b(data, digest_size=16).hexdigest()
