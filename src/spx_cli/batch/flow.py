"""Read, segment, write: some images go through threads of this process, each as its turn comes.

A file that fails becomes a Result that says so, and the rest goes on.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from spx_cli.batch.job import Failure, Job, Result
from spx_cli.batch.plan import Task
from spx_cli.errors import DeviceError, MissingExtra, SpxError, WeightsError, is_interrupt
from spx_cli.io import MAX_PIXELS, read_picture
from spx_cli.io.files import files_digest, only_new
from spx_cli.io.remarks import Traits
from spx_cli.methods.base import resident
from spx_cli.pool import cores
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


class Outcome(NamedTuple):
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


def in_threads(job: Job[Any], tasks: Iterator[Task]) -> Generator[Outcome]:
    """Work in this thread while others read what comes and write what is done.

    With a GPU others work, too: it works on one group while the CPU finishes the one before.
    """
    job = replace(job, method=resident(job.method, job.identity))
    gpu, size = job.device.startswith("cuda"), job.together
    ahead = _CUDA_GROUPS * size + 1 if gpu else size + 1
    groups: dict[tuple[int, ...], list[_Part]] = {}
    making: deque[Future[list[_Made]]] = deque()
    writing: deque[Future[Outcome]] = deque()
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
                    if isinstance(loaded, Outcome):
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


def _read(job: Job[Any], task: Task) -> _Loaded | Outcome:
    limit = job.options.max_pixels or MAX_PIXELS

    def load() -> _Loaded:
        data = content(task)
        file = _NamedBytes(data, task.source)
        image, traits = read_picture(file, max_pixels=limit, value_range=job.options.value_range)
        traits = traits._replace(orientation=1)  # maps are made of it upright
        return _Loaded(task, image, job.digest(task, data), traits, job.parts(image))

    loaded = _attempt(task, load)
    return Outcome(task, job.result(task, loaded)) if isinstance(loaded, Failure) else loaded


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


def _write(job: Job[Any], loaded: _Loaded) -> Outcome:
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
        return Outcome(task, job.result(task, done), traits=traits)
    said, written = done
    return Outcome(task, job.result(task, seconds=round(loaded.seconds, 6), **said), loaded.digest, traits, written)


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


def content(task: Task) -> bytes:
    """Return the bytes of the image: those that came on standard input, or those of its file now."""
    return task.data if task.data is not None else Path(task.source).read_bytes()
