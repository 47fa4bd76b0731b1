"""The one training loop: any learned method, any data set, one process or many (torchrun).

Sample n of a run is a function of (seed, n), the learning rate a function of the step, and a checkpoint holds all the
rest. So on a CPU a run that was killed at any moment and resumed ends with the weights of a run that was not.

A run's folder holds checkpoint.pt, log.jsonl, and once there is something to show best.safetensors (by ASA on the
validation images) and last.safetensors.
"""

import copy
import hashlib
import json
import math
import os
import pickle
import signal
import threading
import time
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from spx_cli import weights
from spx_cli._version import __version__
from spx_cli.datasets import Sample
from spx_cli.device import each, pick, turn
from spx_cli.errors import MissingExtra, OutOfMemory, ParameterError, TrainingError, WeightsError
from spx_cli.io import atomic, sweep
from spx_cli.methods._association import labels_below
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._torch import TorchMethod, fill
from spx_cli.metrics import score
from spx_cli.regions.maps import compact
from spx_cli.training.feed import Feed
from spx_cli.training.muon import Muon
from spx_cli.training.samples import Pairs, Samples

CHECKPOINT, LOG, BEST, LAST = "checkpoint.pt", "log.jsonl", "best.safetensors", "last.safetensors"
# What a resumed run may change: no weight depends on it, but for steps, which stretch or shorten the rest of the run.
FREE = ("steps", "validate_every", "validate_counts", "validate_images", "log_every", "checkpoint_minutes")


class Record(NamedTuple):
    """What one line of the log says; `asa` is that of the last validation, NaN before the first.

    waiting : share of the time in which a step waited for its batch.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    images_per_second: float
    seconds_per_step: float
    asa: float
    waiting: float


class World(NamedTuple):
    """The place of this process among those that train together."""

    rank: int
    size: int


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


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser, with its weight decay on the parameters that it names."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        chosen = {
            "matrices": parameter.ndim >= 2,
            "weights": not name.endswith("bias"),
            "all": True,
        }[recipe.decay]
        (decayed if chosen else spared).append(parameter)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}[recipe.optimizer]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    optimizer: torch.optim.Optimizer = kind([group for group in groups if group["params"]], lr=recipe.lr)
    return optimizer


class State:
    """All that changes while a network is trained: what a checkpoint holds, beside what it must agree with.

    network is trained, shadow is the running mean of its weights: it is validated and exported.
    """

    def __init__(
        self, method: TorchMethod, recipe: Recipe, device: torch.device, start: Mapping[str, Tensor] | None
    ) -> None:
        """Make the network with the recipe's seed, or with the weights to start from."""
        torch.manual_seed(recipe.seed)
        network = method.build()
        if start is not None:
            fill(network, start, "to start from")
        self.network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.shadow = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = make_optimizer(self.network, recipe)
        self.step = 0
        self.seconds = 0.0
        self.asa = math.nan
        self.best: dict[str, Any] = {}

    def average(self, decay: float) -> None:
        """Move the shadow towards the network: by all of the difference at first, then by 1 - decay of it."""
        decay = min(decay, self.step / (self.step + 10))
        means, news = self._floats
        torch._foreach_lerp_(means, news, 1 - decay)
        for mean, new in self._counts:
            mean.copy_(new)

    @cached_property
    def _floats(self) -> tuple[list[Tensor], list[Tensor]]:
        both = [(mean, new) for mean, new in self._both() if mean.is_floating_point()]
        return [mean for mean, _ in both], [new for _, new in both]

    @cached_property
    def _counts(self) -> list[tuple[Tensor, Tensor]]:
        return [(mean, new) for mean, new in self._both() if not mean.is_floating_point()]

    def _both(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.shadow.state_dict().values(), self.network.state_dict().values(), strict=True)

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write the checkpoint; a process killed meanwhile leaves the one before."""
        content = {
            "about": dict(about),
            "network": self.network.state_dict(),
            "shadow": self.shadow.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "asa": self.asa,
            "best": self.best,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        with atomic(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path, about: Mapping[str, Any]) -> None:
        """Take up the run of a checkpoint.

        Raises WeightsError for a damaged file, ParameterError where method, recipe or data are not those of the run.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            then, now = _flat(content["about"]), _flat(about)
        except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, KeyError, TypeError) as error:
            raise WeightsError(f"{path} is not a checkpoint, or damaged: {error}") from None
        changed = [f"{k} was {then.get(k)!r}, is {now[k]!r}" for k in now if k not in FREE and then.get(k) != now[k]]
        if changed:
            raise ParameterError(f"cannot resume {path.parent}: {'; '.join(changed)}")
        self.network.load_state_dict(content["network"])
        self.shadow.load_state_dict(content["shadow"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds, self.asa = content["step"], content["seconds"], content["asa"]
        self.best = content["best"]
        torch.set_rng_state(content["rng"])
        if content["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(content["cuda_rng"])


def train(
    method: TorchMethod,
    train_samples: Samples,
    val_samples: Samples,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    start: Mapping[str, Tensor] | None = None,
    data: str = "",
    half: bool = False,
    tensorboard: bool = False,
) -> Iterator[Record]:
    """Train a method's network and yield a Record for each line of the log.

    val_samples : may be empty; then nothing is validated, and best.safetensors is not written.
    out : folder of the run.
    resume : continue the run in `out`, if there is one; it must have been started with the same arguments, save those
        that only say how long to train and what to report (FREE).
    start : weights to start from, instead of random ones.
    data : what the samples are, for the exported weights.
    half : export tensors of two and more axes as float16.

    Raises ParameterError for an `out` that already holds a run, or that holds another run than the one to resume,
    DataError without samples, TrainingError when the loss is not finite, KeyboardInterrupt after SIGINT or SIGTERM,
    once the checkpoint is written.
    """
    if (out / CHECKPOINT).exists() and not resume:
        raise ParameterError(f"{out} already holds a run; --resume continues it, another --out starts a new one")
    with (
        _join(method.device) as (world, device),
        _stop_signals() as stop,
        _board(out, tensorboard and world.rank == 0) as board,
    ):
        pairs = Pairs(train_samples, method.teacher())
        about = {
            "method": method.name,
            # where the run takes place is not a property of the result; what it starts from is told by its tensors
            "params": {k: v for k, v in asdict(method).items() if k not in ("weights", "device")},
            "recipe": asdict(recipe),
            "data": data,
            "pairs": len(pairs),
            "order": pairs.order,
            "processes": world.size,
        }
        if start is not None:
            about["start"] = _digest(start)
        state = State(method, recipe, device, start)
        if resume and (out / CHECKPOINT).exists():
            state.load(out / CHECKPOINT, about)
        if world.size > 1 and device.type == "cuda":
            # the statistics of a batch are then those of all processes, as if it were one
            state.network = nn.SyncBatchNorm.convert_sync_batchnorm(state.network)
        writes = world.rank == 0
        validation = _spread(val_samples, recipe.validate_images) if writes and recipe.validate_every else []
        if writes:
            out.mkdir(parents=True, exist_ok=True)
            sweep(out)
            _rewind(out / LOG, state.step)
            _append(out / LOG, {"start": state.step, "spx": __version__, **about})
        watch = Watch(device)
        started = saved = time.monotonic()
        with Feed(pairs, recipe, device, state.step, world.rank, world.size) as feed:
            stopped = False
            while state.step < recipe.steps and not stopped:
                stopped = _step(method, recipe, state, feed, world, device, stop, watch)
                last = state.step == recipe.steps
                if validation and (state.step % recipe.validate_every == 0 or last):
                    watch.settle()
                    _validate(method, recipe, state, validation, out, about, half)
                    _append(out / LOG, {"step": state.step, "asa": state.asa, "best": state.best["asa"]})
                if writes and (state.step % recipe.log_every == 0 or last):
                    watch.settle()
                    now = time.monotonic()
                    seconds = (now - started) / len(watch.losses)
                    state.seconds += now - started
                    record = Record(
                        step=state.step,
                        loss=float(np.mean(watch.losses)),
                        lr=rate(recipe, state.step - 1),
                        grad_norm=watch.norm,
                        images_per_second=recipe.batch_size * world.size / seconds,
                        seconds_per_step=seconds,
                        asa=state.asa,
                        waiting=feed.waited / max(now - started, 1e-9),
                    )
                    started, feed.waited = now, 0.0
                    watch.losses.clear()
                    _append(out / LOG, {**record._asdict(), "seconds": state.seconds})
                    if board is not None:
                        _plot(board, record)
                    yield record
                if writes and (last or stopped or time.monotonic() - saved >= 60 * recipe.checkpoint_minutes):
                    watch.settle()
                    state.save(out / CHECKPOINT, about)
                    saved = time.monotonic()
        if writes:
            export(out / LAST, state.shadow.state_dict(), {**about, "steps": state.step, "asa": state.asa}, half=half)
        if stopped:
            raise KeyboardInterrupt


class Watch:
    """Reads the loss and gradient norm of each step: at once on a CPU, one step late on a GPU, which so never waits."""

    def __init__(self, device: torch.device) -> None:
        self._late = 1 if device.type == "cuda" else 0
        self._pending: deque[tuple[int, list[str], Tensor, torch.cuda.Event | None]] = deque()
        #: Of the steps that were read, until someone clears it; and the last norm.
        self.losses: list[float] = []
        self.norm = math.nan

    def add(self, step: int, ids: list[str], loss: Tensor, norm: Tensor) -> None:
        """Take the numbers of a step. Raises TrainingError where those that are read are not finite."""
        numbers, event = torch.stack([loss, norm.float()]), None
        if self._late:
            numbers = torch.empty(2, pin_memory=True).copy_(numbers, non_blocking=True)
            event = torch.cuda.Event(blocking=True)
            event.record()
        self._pending.append((step, ids, numbers, event))
        self._read(self._late)

    def settle(self) -> None:
        """Read what is still to be read, before anyone relies on the weights."""
        self._read(0)

    def _read(self, left: int) -> None:
        while len(self._pending) > left:
            step, ids, numbers, event = self._pending.popleft()
            if event is not None:
                event.synchronize()
            loss, self.norm = numbers.tolist()
            if not (math.isfinite(loss) and math.isfinite(self.norm)):
                raise TrainingError(
                    f"step {step}: loss {loss}, gradient norm {self.norm}; the batch was {', '.join(ids)}. "
                    "A lower lr or a clip often helps; the last checkpoint is untouched"
                )
            self.losses.append(loss)


def _step(
    method: TorchMethod,
    recipe: Recipe,
    state: State,
    feed: Feed,
    world: World,
    device: torch.device,
    stop: threading.Event,
    watch: Watch,
) -> bool:
    """Take one step; return whether to stop, for all processes."""
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp == "bf16")
    try:
        with turn(device, "tf32" if recipe.amp == "tf32" else "float32", tuned=True):
            batch = feed.batch()
            with autocast, labels_below(batch.bound):
                loss = method.loss(state.network, batch.images, batch.truth)
            state.optimizer.zero_grad()
            loss.backward()
            mean, stopped = loss.detach().float(), stop.is_set()
            if world.size > 1:
                mean, stopped = _share(state.network, mean, stopped, world)
            norm = nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip or math.inf)
            watch.add(state.step, batch.ids, mean, norm)
            for group in state.optimizer.param_groups:
                group["lr"] = rate(recipe, state.step)
            with autocast:  # Muon multiplies matrices
                state.optimizer.step()
            state.average(recipe.ema)
    except OutOfMemory as error:
        help = "a smaller --batch-size or --crop, or --amp bf16, needs less"
        raise OutOfMemory(f"not enough GPU memory for steps of {recipe.batch_size} samples: {help}. {error}") from None
    state.step += 1
    return stopped


def _share(network: nn.Module, loss: Tensor, stopped: bool, world: World) -> tuple[Tensor, bool]:
    """Replace the gradients by their mean over all processes; return the mean loss, and whether any is to stop.

    Done by hand, since DistributedDataParallel sees only calls of the network itself, and a loss may call its parts.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    parts = [*gradients, loss.reshape(1), torch.full((1,), float(stopped), device=loss.device)]
    flat = torch.cat([part.reshape(-1).float() for part in parts])
    dist.all_reduce(flat)
    flat /= world.size
    for part, new in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
        part.copy_(new.view_as(part))
    return parts[-2][0], bool(parts[-1].item())


def _validate(
    method: TorchMethod,
    recipe: Recipe,
    state: State,
    samples: Sequence[Sample],
    out: Path,
    about: Mapping[str, Any],
    half: bool,
) -> None:
    """Set the state's ASA, a mean over counts, images and annotations; export the weights if they are the best yet."""
    bound = method.bind(state.shadow)

    def scores(case: tuple[Sample, int]) -> list[float]:
        sample, count = case
        height, width, _ = sample.image.shape
        labels = bound.segment(sample.image, min(count, height * width))
        return [row["asa"] for row in score(labels, sample.truths, metrics=["asa"], ignore_label=sample.ignore_label)]

    found = each(bound.where, scores, [(sample, count) for sample in samples for count in recipe.counts])
    values = [value for case in found for value in case]
    state.asa = float(np.mean(values))
    if state.asa > state.best.get("asa", -math.inf):
        state.best = {"asa": state.asa, "step": state.step}
        export(out / BEST, state.shadow.state_dict(), {**about, "steps": state.step, "asa": state.asa}, half=half)


def export(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any], *, half: bool = False) -> str:
    """Write tensors with their provenance as safetensors and return the file's sha256.

    about : what the weights are (method, recipe, data, steps, ASA); kept in the file's metadata, as JSON.
    half : store tensors of two and more axes as float16.
    """
    tensors = {k: t.half() if half and t.ndim >= 2 else t for k, t in state.items()}
    provenance = {k: v if isinstance(v, str) else json.dumps(v) for k, v in {**about, "spx": __version__}.items()}
    return weights.save(path, tensors, provenance)


def _spread(samples: Samples, limit: int) -> list[Sample]:
    """Return the annotated ones of all samples, or of `limit` of them at even distances.

    Raises LabelError for an annotation that cannot be scored, before hours have gone into the training.
    """
    count = min(limit or len(samples), len(samples))
    chosen = [samples[i * len(samples) // count] for i in range(count)]
    for sample in chosen:
        for i, truth in enumerate(sample.truths):
            compact(truth, ignore_label=sample.ignore_label, what=f"annotation {sample.id}:{i}")
    return [sample for sample in chosen if sample.truths]


def _digest(state: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256()
    for name, tensor in state.items():
        content.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:16]


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in about.items() if k != "recipe"}, **about["recipe"]}


def _append(path: Path, line: Mapping[str, Any]) -> None:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(finite) + "\n")


def _rewind(path: Path, step: int) -> None:
    """Drop the lines of steps after the checkpoint, which are about to be made again, and a line cut off by a kill."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            known = json.loads(line)
        except json.JSONDecodeError:
            continue
        if known.get("step", 0) <= step:
            kept.append(line + "\n")
    with atomic(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


@contextmanager
def _join(name: str) -> Iterator[tuple[World, torch.device]]:
    """Yield the place among the processes that torchrun started, and the device of this one."""
    device = pick(name)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(0, 1), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second acts as it would have without us."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: object) -> None:
        stop.set()
        restore()

    def restore() -> None:
        for known, handler in before.items():
            signal.signal(known, handler)

    if threading.current_thread() is threading.main_thread():
        for known in (signal.SIGINT, signal.SIGTERM):
            before[known] = signal.signal(known, ask)
    try:
        yield stop
    finally:
        restore()


def _board(out: Path, wanted: bool) -> AbstractContextManager[Any]:
    if not wanted:
        return nullcontext()
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("TensorBoard is not installed: pip install 'spx-cli[tensorboard]'") from None
    return SummaryWriter(str(out))


def _plot(board: Any, record: Record) -> None:
    for name, value in record._asdict().items():
        if name != "step" and math.isfinite(value):
            board.add_scalar(name, value, record.step)
