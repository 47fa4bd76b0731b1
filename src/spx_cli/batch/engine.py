"""Label maps for many images: every path is planned first, then images are read, segmented and written as they come.

A file that fails becomes a Result that says so, and the rest goes on. Memory holds a few images, however many come.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from spx_cli import device, params
from spx_cli.batch.job import Failure, Job, Result, SegmentJob, entry_of
from spx_cli.batch.manifest import Made, Manifest
from spx_cli.batch.plan import LABELS, Plan, Task, plan
from spx_cli.contours.guide import open_guide
from spx_cli.errors import DeviceError, MissingExtra, ParameterError, SpxError, WeightsError, is_interrupt
from spx_cli.io import FORMATS, MAX_PIXELS, read_picture, sweep
from spx_cli.io.files import files_digest, only_new
from spx_cli.io.remarks import Remarks, Traits
from spx_cli.methods import create
from spx_cli.methods.base import Method, resident
from spx_cli.options import SegmentOptions
from spx_cli.pool import cores, spread
from spx_cli.regions.overlays import render
from spx_cli.types import Image

_log = logging.getLogger(__name__)
R = TypeVar("R")

# Threads that read and decode beside the one that segments; a GPU takes all cores to feed.
_READERS = 2
# Threads that encode and write; most of the time they wait for the disk to have a file for good.
_WRITERS = 16
# Pixels that may wait to be written; two images may in any case, and never more than keep the writers busy.
_BACKLOG = 1 << 24
# Groups under way on a GPU: one there, and two on the CPU before and after.
_CUDA_GROUPS = 3
# What a worker gets at a time lasts about so long: little to lose, enough to overlap one image with the next; on a GPU
# one group of images with the next.
_PORTION_SECONDS, _CUDA_PORTION_SECONDS = 0.1, 1.0
# Images of one size that a GPU gets together, unless the caller says otherwise.
_CUDA_BATCH = 16


class _Outcome(NamedTuple):
    """A result, its task and, where it is done, the digest of the input; the traits of a picture that was read.

    written : the digest of the outputs, where they are files.
    """

    task: Task
    result: Result
    digest: str = ""
    traits: Traits = Traits()
    written: str = ""


@dataclass
class _Loaded:
    """A file that was read: its parts, and what has been made of each so far."""

    task: Task
    image: Image
    digest: str
    traits: Traits
    parts: Sequence[Image]
    made: dict[int, Any] = field(default_factory=dict)
    seconds: float = 0.0


class _Part(NamedTuple):
    """What goes to the method: a part of a file, most often all of it."""

    loaded: _Loaded
    number: int

    @property
    def image(self) -> Image:
        return self.loaded.parts[self.number]


class _Made(NamedTuple):
    part: _Part
    what: Any
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """Iterate over it to do the work: one Result for each image as it is done. Its length is known before."""

    job: Job[Any]
    plan: Plan
    executor: Executor | None

    def __len__(self) -> int:
        return len(self.plan.tasks) + len(self.plan.barren)

    def __iter__(self) -> Iterator[Result]:
        failures, most = 0, self.job.options.max_failures
        with closing(self._results()) as results:
            for result in results:
                yield result
                failures += result.status == "failed"
                if most is not None and failures > most:
                    return

    def _results(self) -> Generator[Result]:
        options = self.job.options
        for source, why in self.plan.barren:
            nowhere = self.job.result(Task(source, Path(), None), Failure(f"{source}: {why}", 1))
            yield replace(nowhere, output="")
        manifest = Manifest(self.plan.folder) if self.plan.is_tree or options.resume else None
        recipe = self.job.recipe()
        left = []
        for task in self.plan.tasks:
            entry = manifest.get(task.output) if manifest and options.resume else None
            if entry and entry.recipe == recipe and _is_done(self.job, task, entry):
                yield self.job.skipped(task, entry)
            elif options.dry_run:
                yield self.job.result(task, status="planned")
            else:
                left.append(task)
        if not left:
            return
        with (
            manifest or nullcontext(),
            _swept(left),
            closing(Remarks()) as remarks,
            closing(self._outcomes(left, manifest, recipe)) as outcomes,
        ):
            for outcome in outcomes:
                remarks.add(outcome.task.source, outcome.traits)
                if manifest and outcome.result.status == "done":
                    k = getattr(outcome.result, "k", None)
                    manifest.done(outcome.task.output, Made(recipe, outcome.digest, k or 0, outcome.written))
                yield outcome.result

    def _outcomes(self, tasks: Sequence[Task], manifest: Manifest | None, recipe: str) -> Generator[_Outcome]:
        def begin(task: Task) -> Task:
            if manifest:
                manifest.begin(task.output, recipe)
            return task

        jobs = device.processes(self.job.options.jobs, self.job.methods)
        if self.executor is None and (jobs == 1 or len(tasks) == 1):
            return _in_threads(self.job, map(begin, tasks))
        return _in_processes(self.job, tasks, begin, jobs, self.executor)


def segment_files(
    method: str | Method,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    options: SegmentOptions | None = None,
    *,
    executor: Executor | None = None,
    **changes: Any,
) -> Run:
    """Return the work of `spx segment`: iterate over it and each image gives a Result, in the order they are done.

    inputs : one or several files, folders, glob patterns, or - for one image on standard input.
    out : for one image a file, or nothing; else the folder in which the tree of the inputs is mirrored.
    options, changes : the fields of SegmentOptions, also by keyword.
    executor : where to work instead, such as that of a Dask cluster; `jobs` is then the number of its workers.

    Raises, before any work starts, what `plan.plan` raises, and ParameterError for a method, overlay, colour or option
    that cannot be. While it works, errors that concern every image alike (device, weights) pass through.
    """
    method = method if isinstance(method, Method) else create(method)
    options = params.change(options or SegmentOptions(), "segment_files", changes)
    if options.overlay is not None:  # on one pixel, to learn now whether mode and colour exist
        render(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.int32), options.overlay, color=options.color)
    planned = plan(inputs, out, options, options.format, options.overlay is not None, LABELS)
    most = FORMATS[planned.format].max_id + 1
    if options.n_segments > most and not (options.native_count or options.raw):
        raise ParameterError(f"{planned.format} holds {most} ids, not {options.n_segments}; use --format tiff or npz")
    size = options.batch_size or _usual_batch(method)
    guide = None
    if options.contours is not None:
        guide = open_guide(options.contours, device=options.guide_device or getattr(method, "device", None))
        guide = guide.among([entry for task in planned.tasks if (entry := entry_of(task))])
    job = SegmentJob(method, replace(options, format=planned.format, batch_size=size), method.identity(), guide)
    return Run(job=job, plan=planned, executor=executor)


def _usual_batch(method: Method) -> int:
    alone = type(method).segment_batch is Method.segment_batch  # it gains nothing from company
    return _CUDA_BATCH if not alone and device.of(method).startswith("cuda") else 1


@contextmanager
def _swept(tasks: Sequence[Task]) -> Iterator[None]:
    """Clear the folders of the results of what killed processes were writing: of an earlier run, or of this one."""
    folders = {path.parent for task in tasks for path in task.outputs()}
    for folder in folders:
        sweep(folder)
    try:
        yield
    except BaseException:
        for folder in folders:
            sweep(folder)
        raise


def _is_done(job: Job[Any], task: Task, entry: Made) -> bool:
    if not entry.digest or not all(path.is_file() for path in task.outputs()):
        return False
    try:
        return files_digest(task.outputs()) == entry.written and job.digest(task, _bytes(task)) == entry.digest
    except (OSError, SpxError):
        return False


def _in_threads(job: Job[Any], tasks: Iterator[Task]) -> Generator[_Outcome]:
    """Work in this thread while others read what comes and write what is done.

    With a GPU others work, too: it works on one group while the CPU finishes the one before.
    """
    job = replace(job, method=resident(job.method, job.identity))
    gpu, size = job.device.startswith("cuda"), job.together
    ahead = _CUDA_GROUPS * size + 1 if gpu else size + 1
    groups: dict[tuple[int, ...], list[_Part]] = {}
    making: deque[Future[list[_Made]]] = deque()
    writing: deque[Future[_Outcome]] = deque()
    room = 2
    with (
        ThreadPoolExecutor(cores() if gpu else _READERS) as readers,
        ThreadPoolExecutor(_WRITERS) as writers,
        _crew(gpu) as crew,
    ):
        reading = deque(readers.submit(_read, job, task) for task in islice(tasks, ahead))
        try:
            while reading or groups or making:
                if reading:
                    loaded = reading.popleft().result()
                    reading.extend(readers.submit(_read, job, task) for task in islice(tasks, 1))
                    if isinstance(loaded, _Outcome):
                        yield loaded
                    else:
                        for part in (_Part(loaded, i) for i in range(len(loaded.parts))):
                            groups.setdefault(part.image.shape, []).append(part)
                        room = max(2, min(2 * _WRITERS, 3 * _BACKLOG // loaded.image.size))
                for group in _due(groups, size, last=not reading):
                    making.append(crew(_make, job, group))
                while making and (not reading or len(making) >= _CUDA_GROUPS or making[0].done()):
                    writing.extend(writers.submit(_write, job, whole) for whole in _complete(making.popleft().result()))
                while writing and (len(writing) > room or writing[0].done()):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
        finally:
            for threads in (readers, writers):
                threads.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _crew(threads: bool) -> Iterator[Callable[..., Future[Any]]]:
    """Yield what calls a function, in threads or at once, and returns the future of its result."""
    if threads:
        with ThreadPoolExecutor(_CUDA_GROUPS) as crew:
            # each with the caller's context, where those are named that watch a method's progress
            yield lambda function, *args: crew.submit(copy_context().run, function, *args)
    else:

        def call(function: Callable[..., R], *args: Any) -> Future[R]:
            done: Future[R] = Future()
            done.set_result(function(*args))
            return done

        yield call


def _due(groups: dict[tuple[int, ...], list[_Part]], size: int, *, last: bool) -> Iterator[list[_Part]]:
    """Take out the groups that are full, and the oldest where too many images wait or no more will come."""
    for shape in [shape for shape, group in groups.items() if len(group) >= size]:
        group = groups.pop(shape)
        full = len(group) - len(group) % size
        yield from (group[start : start + size] for start in range(0, full, size))
        if full < len(group):
            groups[shape] = group[full:]
    while groups and (last or sum(map(len, groups.values())) > 2 * size):
        yield groups.pop(next(iter(groups)))


def _in_processes(
    job: Job[Any], tasks: Sequence[Task], begin: Callable[[Task], Task], jobs: int, executor: Executor | None
) -> Generator[_Outcome]:
    """Deal tasks out to workers, several at a time where they are quick, so that a worker can overlap them too."""
    size = job.together
    fastest, lasting = inf, _CUDA_PORTION_SECONDS if job.device.startswith("cuda") else _PORTION_SECONDS

    def portions() -> Iterator[Sequence[Task]]:
        start = 0
        while start < len(tasks):
            share = min(lasting / fastest, (len(tasks) - start) / (4 * jobs))
            portion = tasks[start : start + max(1, int(share / size)) * size]
            for task in portion:
                begin(task)
            yield portion
            start += len(portion)

    suspects: list[Sequence[Task]] = []
    for portion, outcomes in spread(partial(_work, job), portions(), jobs=jobs, executor=executor):
        if outcomes is not None:
            fastest = min([fastest, *(outcome.result.seconds for outcome in outcomes if outcome.result.seconds)])
            yield from outcomes
        elif len(portion) > 1:  # one of them is to blame
            suspects += ([task] for task in portion)
        else:
            yield _dead(job, portion[0])
    for (task,), outcomes in spread(partial(_work, job), suspects, jobs=1, executor=executor):
        yield from outcomes or [_dead(job, task)]


def _dead(job: Job[Any], task: Task) -> _Outcome:
    reason = "its worker process died, perhaps for want of memory; try it alone, with --jobs 1"
    return _Outcome(task, job.result(task, Failure(f"{task.source}: {reason}", 1)))


def _work(job: Job[Any], tasks: Sequence[Task]) -> list[_Outcome]:
    """Read, segment and write some images in a worker process."""
    return list(_in_threads(job, iter(tasks)))


def _read(job: Job[Any], task: Task) -> _Loaded | _Outcome:
    limit = job.options.max_pixels or MAX_PIXELS

    def load() -> _Loaded:
        data = _bytes(task)
        file = _NamedBytes(data, task.source)
        image, traits = read_picture(file, max_pixels=limit, value_range=job.options.value_range)
        traits = traits._replace(orientation=1)  # maps are made of it upright
        return _Loaded(task, image, job.digest(task, data), traits, job.parts(image))

    loaded = _attempt(task, load)
    return _Outcome(task, job.result(task, loaded)) if isinstance(loaded, Failure) else loaded


def _make(job: Job[Any], group: Sequence[_Part]) -> list[_Made]:
    """Return what is made of each part, or the Failure to make it, and the seconds it took."""
    started = time.perf_counter()
    made = _attempt(
        group[0].loaded.task, partial(job.make, [part.image for part in group], [part.loaded.task for part in group])
    )
    seconds = (time.perf_counter() - started) / len(group)
    if not isinstance(made, Failure):
        return [_Made(part, one, seconds) for part, one in zip(group, made, strict=True)]
    if len(group) == 1:
        return [_Made(group[0], made, seconds)]
    return [result for part in group for result in _make(job, [part])]


def _complete(results: Iterable[_Made]) -> Iterator[_Loaded]:
    """Enter the results; yield each file of which no part is left to do."""
    for (loaded, number), what, seconds in results:
        loaded.made[number] = what
        loaded.seconds += seconds
        if len(loaded.made) == len(loaded.parts):
            yield loaded


def _write(job: Job[Any], loaded: _Loaded) -> _Outcome:
    task, traits = loaded.task, loaded.traits
    made = [loaded.made[number] for number in range(len(loaded.parts))]

    def write() -> tuple[dict[str, Any], str]:
        task.output.parent.mkdir(parents=True, exist_ok=True)
        with nullcontext() if job.options.overwrite or job.options.resume else only_new():
            said = job.write(task, loaded.image, job.join(loaded.image, made))
        return said, files_digest(path for path in task.outputs() if path.is_file())

    failures = [one for one in made if isinstance(one, Failure)]
    done = failures[0] if failures else _attempt(task, write)
    if isinstance(done, Failure):
        return _Outcome(task, job.result(task, done), traits=traits)
    said, written = done
    return _Outcome(task, job.result(task, seconds=round(loaded.seconds, 6), **said), loaded.digest, traits, written)


def _attempt(task: Task, action: Callable[[], R]) -> R | Failure:
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
        if is_interrupt(error):
            raise KeyboardInterrupt from None
        _log.exception("a bug in spx, please report it: %s", task.source)
        reason = f"{type(error).__name__}: {error}"
    reason = " ".join(reason.split())
    return Failure(reason if reason.startswith(task.source) else f"{task.source}: {reason}", code)


class _NamedBytes(BytesIO):
    """The content of a file, with the name that errors shall give it."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def _bytes(task: Task) -> bytes:
    return task.data if task.data is not None else Path(task.source).read_bytes()
