"""Label maps for many images: every path is planned first, then images are read, segmented and written as they come.

A file that fails becomes a Record that says so, and the rest goes on. Memory holds a few images, however many come.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from hashlib import blake2b
from io import BytesIO
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from spx_cli import params
from spx_cli._version import __version__
from spx_cli.batch.manifest import Entry, Manifest
from spx_cli.batch.plan import Plan, Task, plan
from spx_cli.device import pick
from spx_cli.errors import DeviceError, MissingExtra, ParameterError, SpxError, WeightsError
from spx_cli.io import MAX_PIXELS, read_image, write_image, write_labels
from spx_cli.methods import create
from spx_cli.methods.base import Method
from spx_cli.pool import cores, spread
from spx_cli.regions.overlays import render
from spx_cli.types import Image, Labels

_log = logging.getLogger(__name__)
R = TypeVar("R")

# Threads that decode, encode and wait for the disk beside the one that segments; a GPU takes more to feed.
_IO_THREADS, _FEEDING_THREADS = 2, 8
# What a worker gets at a time lasts about so long: little to lose, enough to overlap one image with the next.
_PORTION_SECONDS = 0.1
# Images of one size that a GPU gets together, unless the caller says otherwise.
_CUDA_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Record:
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


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done to every image."""

    method: Method
    n_segments: int
    format: str
    overlay: str
    color: str
    native_count: bool
    raw: bool
    max_pixels: int
    value_range: tuple[float, float] | None
    batch_size: int

    def recipe(self) -> str:
        """Return in words all that decides the bytes of an output, but for its input."""
        parts = [f"spx {__version__}", repr(self.method), f"k={self.n_segments}", self.format]
        weights = getattr(self.method, "weights", "")
        if weights and Path(weights).is_file():
            parts.append(f"weights={_digest(Path(weights).read_bytes())}")
        parts += [name for name in ("native_count", "raw") if getattr(self, name)]
        if self.overlay:
            parts.append(f"overlay={self.overlay}:{self.color}")
        if self.value_range:
            parts.append(f"range={self.value_range}")
        return " ".join(parts)

    def record(self, task: Task, failure: "_Failure | None" = None, **outcome: Any) -> Record:
        """Return the record of one task of this job."""
        if failure:
            outcome |= {"status": "failed", "error": failure.error, "exit_code": failure.exit_code}
        return Record(
            input=task.source,
            output=str(task.output),
            overlay=str(task.overlay or ""),
            method=self.method.name,
            params={name: getattr(self.method, name) for name in params.fields(type(self.method))},
            repr=repr(self.method),
            device=_device(self.method),
            k_requested=self.n_segments,
            **outcome,
        )


class _Outcome(NamedTuple):
    """A record, its task and, where it is done, the digest of the input."""

    task: Task
    record: Record
    digest: str = ""


class _Loaded(NamedTuple):
    task: Task
    image: Image
    digest: str


class _Failure(NamedTuple):
    error: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Iterate over it to do the work: one Record for each image as it is done. Its length is known before."""

    job: Job
    plan: Plan
    resume: bool
    dry_run: bool
    max_failures: int | None
    jobs: int
    executor: Executor | None

    def __len__(self) -> int:
        return len(self.plan.tasks) + len(self.plan.barren)

    def __iter__(self) -> Iterator[Record]:
        failures = 0
        with closing(self._records()) as records:
            for record in records:
                yield record
                failures += record.status == "failed"
                if self.max_failures is not None and failures > self.max_failures:
                    return

    def _records(self) -> Generator[Record]:
        for source in self.plan.barren:
            nowhere = self.job.record(Task(source, Path(), None), _Failure(f"{source}: no images in there", 1))
            yield replace(nowhere, output="")
        manifest = Manifest(self.plan.folder) if self.plan.is_tree or self.resume else None
        recipe = self.job.recipe()
        left = []
        for task in self.plan.tasks:
            entry = manifest.get(task.output) if manifest and self.resume else None
            if entry and entry.recipe == recipe and _is_done(task, entry):
                yield self.job.record(task, status="skipped", k=entry.k)
            elif self.dry_run:
                yield self.job.record(task, status="planned")
            else:
                left.append(task)
        if not left:
            return
        with manifest or nullcontext():
            for outcome in self._outcomes(left, manifest, recipe):
                if manifest and outcome.record.k is not None:
                    manifest.done(outcome.task.output, Entry(recipe, outcome.digest, outcome.record.k))
                yield outcome.record

    def _outcomes(self, tasks: Sequence[Task], manifest: Manifest | None, recipe: str) -> Iterator[_Outcome]:
        def begin(task: Task) -> Task:
            if manifest:
                manifest.begin(task.output, recipe)
            return task

        if self.executor is None and (self.jobs == 1 or len(tasks) == 1):
            return _in_threads(self.job, map(begin, tasks))
        return _in_processes(self.job, tasks, begin, self.jobs, self.executor)


def segment_files(
    method: str | Method,
    inputs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    n_segments: int = 200,
    format: str | None = None,
    overlay: str | None = None,
    color: str | None = None,
    native_count: bool = False,
    raw: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    max_failures: int | None = None,
    jobs: int = 1,
    batch_size: int | None = None,
    executor: Executor | None = None,
    max_pixels: int = MAX_PIXELS,
    value_range: tuple[float, float] | None = None,
) -> Batch:
    """Return the work of `spx segment`: iterate over it and each image gives a Record, in the order they are done.

    inputs : files, folders, glob patterns, or - for one image on standard input.
    out : for one image a file, or nothing; else the folder in which the tree of the inputs is mirrored.
    overlay : a name from OVERLAYS, to write such a picture beside each label map.
    overwrite, resume : replace outputs that exist; pass over those that were made of the same input with the same
        parameters, and make anew what an earlier run left unfinished or made otherwise.
    max_failures : stop after more failures than this.
    jobs : worker processes; 1 works in this process, 0 takes one for each core.
    batch_size : images of one size that a learned method gets together; by default 16 on CUDA, else 1.
    executor : where to work instead, such as that of a Dask cluster; `jobs` is then the number of its workers.

    Raises, before any work starts, what `plan.plan` raises, and ParameterError for a method, format, overlay, colour,
    count or range that cannot be. While it works, errors that concern every image alike (device, weights) pass through.
    """
    method = method if isinstance(method, Method) else create(method)
    if n_segments < 1:
        raise ParameterError(f"n_segments must be at least 1, not {n_segments}")
    if value_range is not None and not value_range[0] < value_range[1]:
        raise ParameterError(f"value_range must be two numbers, black below white, not {value_range}")
    if overlay is not None:  # on one pixel, to learn now whether mode and colour exist
        render(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.int32), overlay, color=color)
    planned = plan(
        [str(source) for source in inputs],
        out,
        format=format,
        overlay=overlay is not None,
        overwrite=overwrite,
        resume=resume,
    )
    jobs = jobs or cores()
    job = Job(
        method=method,
        n_segments=n_segments,
        format=planned.format,
        overlay=overlay or "",
        color=color or "",
        native_count=native_count,
        raw=raw,
        max_pixels=max_pixels,
        value_range=value_range,
        batch_size=batch_size or _default_batch(method, jobs),
    )
    return Batch(
        job=job,
        plan=planned,
        resume=resume,
        dry_run=dry_run,
        max_failures=max_failures,
        jobs=jobs,
        executor=executor,
    )


def _device(method: Method) -> str:
    device: str = getattr(method, "device", "cpu")
    return str(pick(device)) if device == "auto" else device


def _default_batch(method: Method, jobs: int) -> int:
    # With worker processes torch is theirs: to load it here, for the meaning of "auto", would hold them up.
    device = _device(method) if jobs == 1 else getattr(method, "device", "cpu")
    return _CUDA_BATCH if device.startswith("cuda") else 1


def _is_done(task: Task, entry: Entry) -> bool:
    if not entry.digest or not all(path.is_file() for path in task.outputs()):
        return False
    try:
        return _digest(_bytes(task)) == entry.digest
    except OSError:
        return False


def _in_threads(job: Job, tasks: Iterator[Task]) -> Iterator[_Outcome]:
    """Segment in this thread while others read what comes and write what is done."""
    ahead = job.batch_size + 1
    groups: dict[tuple[int, ...], list[_Loaded]] = {}
    writing: deque[Future[_Outcome]] = deque()
    with ThreadPoolExecutor(_IO_THREADS if job.batch_size == 1 else min(_FEEDING_THREADS, cores())) as threads:
        reading = deque(threads.submit(_read, job, task) for task in islice(tasks, ahead))
        try:
            while reading or groups:
                if reading:
                    loaded = reading.popleft().result()
                    reading.extend(threads.submit(_read, job, task) for task in islice(tasks, 1))
                    if isinstance(loaded, _Outcome):
                        yield loaded
                    else:
                        groups.setdefault(loaded.image.shape, []).append(loaded)
                for group in _due(groups, job.batch_size, last=not reading):
                    writing.extend(threads.submit(_write, job, *result) for result in _segment(job, group))
                while writing and (len(writing) > ahead or writing[0].done()):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _due(groups: dict[tuple[int, ...], list[_Loaded]], size: int, *, last: bool) -> Iterator[list[_Loaded]]:
    """Take out the groups that are full, and the oldest where too many images wait or no more will come."""
    for shape in [shape for shape, group in groups.items() if len(group) >= size]:
        yield groups.pop(shape)
    while groups and (last or sum(map(len, groups.values())) > 2 * size):
        yield groups.pop(next(iter(groups)))


def _in_processes(
    job: Job, tasks: Sequence[Task], begin: Callable[[Task], Task], jobs: int, executor: Executor | None
) -> Iterator[_Outcome]:
    """Deal tasks out to workers, several at a time where they are quick, so that a worker can overlap them too."""
    fastest = inf

    def portions() -> Iterator[Sequence[Task]]:
        start = 0
        while start < len(tasks):
            share = min(_PORTION_SECONDS / fastest, (len(tasks) - start) / (4 * jobs))
            portion = tasks[start : start + max(job.batch_size, int(share))]
            for task in portion:
                begin(task)
            yield portion
            start += len(portion)

    suspects: list[Sequence[Task]] = []
    for portion, outcomes in spread(partial(_work, job), portions(), jobs=jobs, executor=executor):
        if outcomes is not None:
            fastest = min([fastest, *(outcome.record.seconds for outcome in outcomes if outcome.record.seconds)])
            yield from outcomes
        elif len(portion) > 1:  # one of them is to blame
            suspects += ([task] for task in portion)
        else:
            yield _dead(job, portion[0])
    for (task,), outcomes in spread(partial(_work, job), suspects, jobs=1, executor=executor):
        yield from outcomes or [_dead(job, task)]


def _dead(job: Job, task: Task) -> _Outcome:
    reason = "its worker process died, perhaps for want of memory; try it alone, with --jobs 1"
    return _Outcome(task, job.record(task, _Failure(f"{task.source}: {reason}", 1)))


def _work(job: Job, tasks: Sequence[Task]) -> list[_Outcome]:
    """Read, segment and write some images in a worker process."""
    return list(_in_threads(replace(job, method=_resident(job.method)), iter(tasks)))


@lru_cache(maxsize=1)
def _resident(method: Method) -> Method:
    """Return the first method equal to this one: each task brings a copy, and only one should load its network."""
    return method


def _read(job: Job, task: Task) -> _Loaded | _Outcome:
    def load() -> _Loaded:
        data = _bytes(task)
        file = _NamedBytes(data, task.source)
        return _Loaded(task, read_image(file, max_pixels=job.max_pixels, value_range=job.value_range), _digest(data))

    loaded = _attempt(task, load)
    return _Outcome(task, job.record(task, loaded)) if isinstance(loaded, _Failure) else loaded


def _segment(job: Job, group: Sequence[_Loaded]) -> list[tuple[_Loaded, Labels | _Failure, float]]:
    """Return the label map of each image, or why there is none, and the seconds it took."""
    started = time.perf_counter()
    segment = partial(job.method.segment_batch, native_count=job.native_count, raw=job.raw)
    maps = _attempt(group[0].task, partial(segment, [loaded.image for loaded in group], job.n_segments))
    seconds = round((time.perf_counter() - started) / len(group), 6)
    if not isinstance(maps, _Failure):
        return [(loaded, labels, seconds) for loaded, labels in zip(group, maps, strict=True)]
    if len(group) == 1:
        return [(group[0], maps, seconds)]
    return [result for loaded in group for result in _segment(job, [loaded])]


def _write(job: Job, loaded: _Loaded, labels: Labels | _Failure, seconds: float) -> _Outcome:
    task, image, digest = loaded
    if isinstance(labels, _Failure):
        return _Outcome(task, job.record(task, labels))
    k = len(np.unique(labels)) if job.raw else int(labels.max()) + 1
    facts = {
        "spx": __version__,
        "method": repr(job.method),
        "k_requested": job.n_segments,
        "k": k,
        "input": task.source,
    }

    def write() -> None:
        task.output.parent.mkdir(parents=True, exist_ok=True)
        write_labels(task.output, labels, format=job.format, metadata=facts)
        if task.overlay:
            write_image(task.overlay, render(image, labels, job.overlay, color=job.color or None))

    failure = _attempt(task, write)
    if failure is not None:
        return _Outcome(task, job.record(task, failure))
    return _Outcome(task, job.record(task, k=k, seconds=seconds), digest)


def _attempt(task: Task, action: Callable[[], R]) -> R | _Failure:
    """Return what `action` returns, or why it failed; only what would fail for every image alike passes through."""
    code = 1
    try:
        return action()
    except (DeviceError, MissingExtra, WeightsError):
        raise
    except SpxError as error:
        reason, code = str(error), error.exit_code
    except OSError as error:
        reason = f"{error.filename or task.source}: {error.strerror or error}"
    except MemoryError:
        reason = "not enough memory"
    except Exception as error:
        _log.exception("a bug in spx, please report it: %s", task.source)
        reason = f"{type(error).__name__}: {error}"
    reason = " ".join(reason.split())
    return _Failure(reason if reason.startswith(task.source) else f"{task.source}: {reason}", code)


class _NamedBytes(BytesIO):
    """The content of a file, with the name that errors shall give it."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def _bytes(task: Task) -> bytes:
    return task.data if task.data is not None else Path(task.source).read_bytes()


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
