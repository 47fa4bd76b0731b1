"""The one training loop: any learned method, any data set, one process or many (torchrun).

Sample n of a run is a function of (seed, n), the learning rate a function of the step, and a checkpoint holds all the
rest. So on a CPU a run that was killed at any moment and resumed ends with the weights of a run that was not.

A run's folder holds checkpoint.pt, log.jsonl, and once there is something to show best.safetensors (by ASA on the
validation images) and last.safetensors.
"""

import math
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spx_cli._version import __version__
from spx_cli.contours.guide import FileGuide, Habit, NetworkGuide, open_guide
from spx_cli.device import turn
from spx_cli.errors import OutOfMemory, ParameterError
from spx_cli.io.files import alone_in, make_folder, sweep
from spx_cli.methods._association import labels_below
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._torch import TorchMethod
from spx_cli.methods.base import Method
from spx_cli.training.feed import Feed
from spx_cli.training.log import Log, LogLine
from spx_cli.training.processes import World, apart, join, share
from spx_cli.training.samples import Chosen, Pairs, Samples, Splits
from spx_cli.training.state import BEST, CHECKPOINT, LAST, State, digest, export
from spx_cli.training.validation import Validation

Lines = Generator[LogLine, None, None]


def train(
    method: TorchMethod,
    train_samples: Samples,
    val_samples: Samples,
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    start: Mapping[str, Tensor] | None = None,
    data: str = "",
    half: bool = False,
    tensorboard: bool = False,
    contours: str | Path | None = None,
) -> Lines:
    """Train a method's network and yield a LogLine for each line of the log.

    Between the lines torch's random state and the handlers of signals are the caller's, as they were; who stops asking
    for lines leaves a checkpoint. In other threads nothing may draw from torch's random state meanwhile.

    val_samples : may be empty; then nothing is validated, and best.safetensors is not written.
    out : folder of the run.
    resume : continue the run in `out`, if there is one; it must have been started with the same arguments, save those
        that only say how long to train and what to report (FREE).
    start : weights to start from, instead of random ones.
    data : what the samples are, for the exported weights.
    half : export tensors of two and more axes as float16.
    contours : a method that sees contours, or a folder of contour maps named as the images, in place of what the method
        finds itself; for methods that learn from contours (`TorchMethod.by_contours`).

    Raises ParameterError, at once, for arguments of another kind; then for an `out` that already holds a run, or that
    holds another run than the one to resume, DataError without samples, TrainingError when the loss is not finite,
    KeyboardInterrupt after SIGINT or SIGTERM during a step, once the checkpoint is written.
    """
    _check(method, train_samples, val_samples, recipe, out, start)
    run = partial(
        _run, method, train_samples, val_samples, recipe, Path(out),
        resume=resume, start=start, data=data, half=half, tensorboard=tensorboard, contours=contours,
    )  # fmt: skip
    return _joined(method.device, run)


def _check(
    method: object, train_samples: object, val_samples: object, recipe: object, out: object, start: object
) -> None:
    """Raise ParameterError for arguments of another kind than `train` takes."""
    if isinstance(method, Method) and not isinstance(method, TorchMethod):
        raise ParameterError(f"{method.name} is not trained; 'spx methods list' says which methods are learned")
    if not isinstance(method, TorchMethod):
        raise ParameterError(f"method must be a learned one, such as create('ssn'), not {method!r}")
    for name, samples in {"train_samples": train_samples, "val_samples": val_samples}.items():
        sized = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        if not sized or isinstance(samples, str | Splits):
            raise ParameterError(f"{name} must be a sequence of samples, [] for none, not {samples!r}")
    if not isinstance(out, str | Path):
        raise ParameterError(f"out must be a path, not {out!r}")
    if start is not None and not isinstance(start, Mapping):
        raise ParameterError(f"start must be weights by name, as a network's state_dict(), not {start!r}")
    if not isinstance(recipe, Recipe):
        raise ParameterError(f"recipe must be one of method.recipes ({', '.join(method.recipes)}), not {recipe!r}")


def _joined(device: str, run: Callable[[World, threading.Event], Lines]) -> Lines:
    stop = threading.Event()
    with join(device) as world:
        yield from apart(run(world, stop), stop, world)


def _run(
    method: TorchMethod,
    train_samples: Samples,
    val_samples: Samples,
    recipe: Recipe,
    out: Path,
    world: World,
    stop: threading.Event,
    *,
    resume: bool,
    start: Mapping[str, Tensor] | None,
    data: str,
    half: bool,
    tensorboard: bool,
    contours: str | Path | None,
) -> Lines:
    if (out / CHECKPOINT).exists() and not resume:
        raise ParameterError(f"{out} already holds a run; --resume continues it, another --out starts a new one")
    pairs = Pairs(train_samples, method.teacher(), None if contours is None else _guide(method, contours))
    recipe = replace(recipe, steps=recipe.steps or _once(len(pairs), method, recipe, world))
    about = _about(method, recipe, data, pairs, world, start)
    if recipe.validate_every and isinstance(val_samples, Chosen) and len(val_samples):
        about["validated"] = val_samples.content()
    if contours is not None:
        about["contours"] = str(contours)
    state = State(method, recipe, world.device, start)
    if resume and (out / CHECKPOINT).exists():
        about = state.load(out / CHECKPOINT, about)
        if state.step > recipe.steps:
            raise ParameterError(f"{out} has taken {state.step} steps already, more than {recipe.steps}")
    if world.size > 1 and world.device.type == "cuda":
        # the statistics of a batch are then those of all processes, as if it were one
        state.network = nn.SyncBatchNorm.convert_sync_batchnorm(state.network)
    validation = Validation(method, recipe, val_samples, world)
    writes = world.rank == 0
    if writes:
        make_folder(out)
        sweep(out)
    with (
        alone_in(out) if writes else nullcontext(),
        Feed(pairs, recipe, world, state.step, repeat=method.steps_per_batch) as feed,
        Log(out, world, tensorboard=tensorboard) as log,
    ):
        if writes:
            if state.best.get("step") == state.step:  # killed between the two
                _export(out / BEST, state, about, half=half)
            log.begin(state.step, {"spx": __version__, **about})
        saved, stopped = time.monotonic(), False
        while state.step < recipe.steps and not stopped:
            stopped = _step(method, recipe, state, feed, world, stop, log)
            last, better, line = state.step == recipe.steps, False, None
            if validation and (state.step % recipe.validate_every == 0 or last):
                log.settle()
                better = state.judge(validation.asa(state.ema))
                if writes:
                    log.write({"step": state.step, "asa": state.asa, "best": state.best["asa"]})
            if writes and (state.step % recipe.log_every == 0 or last):
                samples, lr = recipe.batch_size * world.size, rate(recipe, state.step - 1)
                line = log.line(state.step, recipe.steps, samples, lr=lr, asa=state.asa, waited=feed.waited)
                feed.waited = 0.0
            due = time.monotonic() - saved >= 60 * recipe.checkpoint_minutes
            if kept := writes and (better or last or stopped or due):
                log.settle()
                state.save(out / CHECKPOINT, about)
                saved = time.monotonic()
            if writes and better:  # only once the checkpoint knows of them, lest they outlive a run taken back
                _export(out / BEST, state, about, half=half)
            if line is not None and not (stopped or stop.is_set()):  # whom a signal stops gets no line, but the signal
                try:
                    yield line
                except GeneratorExit:  # the caller has enough, or was itself interrupted
                    if writes and not kept:
                        log.settle()
                        state.save(out / CHECKPOINT, about)
                    if writes:
                        _export(out / LAST, state, about, half=half)
                    raise
    if writes:
        _export(out / LAST, state, about, half=half)
    if stopped or stop.is_set():
        raise KeyboardInterrupt


def _guide(method: TorchMethod, contours: str | Path) -> NetworkGuide | FileGuide:
    """Return what gives the contours that a method learns from."""
    if not method.by_contours:
        raise ParameterError(f"{method.name} does not learn from contours")
    guide = open_guide(contours, device=method.device)
    if isinstance(guide, Habit):
        raise ParameterError(f"contours must be those of a network or a folder, not {contours!r}; see -p prior")
    return guide


def _once(count: int, method: TorchMethod, recipe: Recipe, world: World) -> int:
    """Return the steps after which each of `count` samples was seen once."""
    return math.ceil(count / (recipe.batch_size * world.size)) * method.steps_per_batch


def _about(
    method: TorchMethod, recipe: Recipe, data: str, pairs: Pairs, world: World, start: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    """Return what decides the weights: what a resumed run must agree with, and what exported weights say."""
    about = {
        "method": method.name,
        # where the run takes place is not a property of the result; what it starts from is told by its tensors
        "params": {k: v for k, v in asdict(method).items() if k not in ("weights", "device")},
        "recipe": asdict(recipe),
        "data": data,
        "pairs": len(pairs),
        "order": pairs.order,
        "content": pairs.content,
        "processes": world.size,
    }
    return about if start is None else {**about, "start": digest(start)}


def _export(path: Path, state: State, about: Mapping[str, Any], *, half: bool) -> None:
    export(path, state.ema.state_dict(), {**about, "steps": state.step, "asa": state.asa}, half=half)


def _step(
    method: TorchMethod,
    recipe: Recipe,
    state: State,
    feed: Feed,
    world: World,
    stop: threading.Event,
    log: Log,
) -> bool:
    """Take one step; return whether to stop, for all processes."""
    autocast = torch.autocast(world.device.type, torch.bfloat16, enabled=recipe.amp == "bf16")
    fed = feed.batch()
    try:
        with turn(world.device, "tf32" if recipe.amp == "tf32" else "float32", tuned=True):
            batch = feed.on_device(fed)
            method.before_step(state.network, state.step)
            with autocast, labels_below(batch.bound):
                loss = method.loss(state.network, batch.images, batch.truth)
            state.optimizer.zero_grad()
            loss.backward()
            mean, stopped = loss.detach().float(), stop.is_set()
            if world.size > 1:
                mean, stopped = share(state.network, mean, stopped, world)
            norm = nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip or math.inf)
            log.add(state.step, batch.ids, mean, norm)
            for group in state.optimizer.param_groups:
                group["lr"] = rate(recipe, state.step)
            with autocast:  # Muon multiplies matrices
                state.optimizer.step()
            state.average(recipe.ema)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        many = f"crop = {recipe.crop} and batch_size = {recipe.batch_size}"
        raise ParameterError(f"{many} are too little for the batch normalisation of {method.name}") from None
    except OutOfMemory as error:
        help = "a smaller --batch-size or --crop, or --amp bf16, needs less"
        raise OutOfMemory(f"not enough GPU memory for steps of {recipe.batch_size} samples: {help}. {error}") from None
    state.step += 1
    return stopped


def rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    if recipe.schedule == "halve":
        return recipe.lr * (0.5 if step >= recipe.halve_at else 1.0)
    if recipe.schedule == "one-cycle":
        rise = recipe.warmup * recipe.steps
        if step < rise:
            return recipe.lr * (0.04 + 0.96 * step / rise)
        fall = (step - rise) / max(recipe.steps - rise, 1)
        return recipe.lr * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * fall)))
    return recipe.lr
