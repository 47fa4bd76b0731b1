"""Label maps for many images: every path is planned first, then images are read, segmented and written as they come.

Memory holds a few images, however many come.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from spx_cli import device, params
from spx_cli.batch.flow import Outcome, content, in_threads
from spx_cli.batch.job import Failure, Job, Result, SegmentJob, entry_of
from spx_cli.batch.manifest import Made, Manifest
from spx_cli.batch.plan import LABELS, Plan, Task, plan
from spx_cli.contours.guide import open_guide
from spx_cli.errors import ParameterError, SpxError
from spx_cli.io import FORMATS, sweep
from spx_cli.io.files import files_digest
from spx_cli.io.remarks import Remarks
from spx_cli.methods import create
from spx_cli.methods.base import Method
from spx_cli.options import SegmentOptions
from spx_cli.pool import spread
from spx_cli.regions.overlays import render

# What a worker gets at a time lasts about so long: little to lose, enough to overlap one image with the next; on a GPU
# one group of images with the next.
_PORTION_SECONDS, _CUDA_PORTION_SECONDS = 0.1, 1.0
# Images of one size that a GPU gets together, unless the caller says otherwise.
_CUDA_BATCH = 16


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

    def _outcomes(self, tasks: Sequence[Task], manifest: Manifest | None, recipe: str) -> Generator[Outcome]:
        def begin(task: Task) -> Task:
            if manifest:
                manifest.begin(task.output, recipe)
            return task

        jobs = device.processes(self.job.options.jobs, self.job.methods)
        if self.executor is None and (jobs == 1 or len(tasks) == 1):
            return in_threads(self.job, map(begin, tasks))
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
    options = params.change(SegmentOptions, options, "segment_files", changes)
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
        return files_digest(task.outputs()) == entry.written and job.digest(task, content(task)) == entry.digest
    except (OSError, SpxError):
        return False


def _in_processes(
    job: Job[Any], tasks: Sequence[Task], begin: Callable[[Task], Task], jobs: int, executor: Executor | None
) -> Generator[Outcome]:
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


def _dead(job: Job[Any], task: Task) -> Outcome:
    reason = "its worker process died, for want of memory or of code that it could import; try it with --jobs 1"
    return Outcome(task, job.result(task, Failure(f"{task.source}: {reason}", 1)))


def _work(job: Job[Any], tasks: Sequence[Task]) -> list[Outcome]:
    """Read, segment and write some images in a worker process."""
    return list(in_threads(job, iter(tasks)))
