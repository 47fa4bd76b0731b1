"""The log of a run: a line of JSON now and then, the same numbers for TensorBoard, and for whoever iterates over it."""

import json
import math
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from spx_cli.errors import MissingExtra, TrainingError
from spx_cli.io.files import atomic, writing
from spx_cli.training.processes import World

LOG = "log.jsonl"


class LogLine(NamedTuple):
    """What one line of the log says; `asa` is that of the last validation, NaN before the first.

    waiting : share of the time in which a step waited for its batch.
    """

    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    images_per_second: float
    seconds_per_step: float
    asa: float
    waiting: float


class Log:
    """Appends to the log in `out`; to be used as a context."""

    def __init__(self, out: Path, world: World, *, tensorboard: bool = False) -> None:
        """Prepare to write; raises MissingExtra where TensorBoard is wanted and not installed."""
        self._path = out / LOG
        self._board: Any = None
        self._opened = _board(out) if tensorboard and world.rank == 0 else nullcontext()
        self._watch, self._writes = _Watch(world.device), world.rank == 0
        self._since, self._seconds = time.monotonic(), 0.0

    def __enter__(self) -> Self:
        self._board = self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    def begin(self, step: int, about: Mapping[str, Any]) -> None:
        """Say that a run starts or goes on at `step`.

        Lines of steps after it, which are about to be made again, are dropped, and a line cut off by a kill.
        """
        kept = []
        for line in self._path.read_bytes().splitlines() if self._path.exists() else ():
            try:
                known = json.loads(line)
                if known.get("step", 0) <= step:
                    kept.append(line + b"\n")
                    self._seconds = float(known.get("seconds", self._seconds))
            except (ValueError, AttributeError, TypeError, RecursionError):
                continue  # torn, or of somebody else
        if kept:
            with atomic(self._path) as temporary:
                temporary.write_bytes(b"".join(kept))
        self.write({"start": step, **about})
        self._since = time.monotonic()

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line; what is not finite becomes null. OutputError where the system refuses."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with writing(self._path), self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(finite) + "\n")

    def add(self, step: int, ids: list[str], loss: Tensor, norm: Tensor) -> None:
        """Take the numbers of a step and its batch. Raises TrainingError where those that are read are not finite."""
        self._watch.add(step, ids, loss, norm)
        if not self._writes:  # nobody will ask for a line
            self._watch.losses.clear()

    def settle(self) -> None:
        """Read what is still to be read, before anyone relies on the weights; raises as `add` does."""
        self._watch.settle()

    def line(self, step: int, steps: int, samples: int, *, lr: float, asa: float, waited: float) -> LogLine:
        """Write and return the line of a step, one of `steps` in all.

        samples : of each step, in all processes. waited : seconds for batches since the last line.
        """
        self.settle()
        now = time.monotonic()
        each = (now - self._since) / len(self._watch.losses)
        line = LogLine(
            step=step,
            steps=steps,
            loss=float(np.mean(self._watch.losses)),
            lr=lr,
            grad_norm=self._watch.norm,
            images_per_second=samples / each,
            seconds_per_step=each,
            asa=asa,
            waiting=waited / max(now - self._since, 1e-9),
        )
        self._seconds += now - self._since
        self._since = now
        self._watch.losses.clear()
        self.write({**line._asdict(), "seconds": self._seconds})
        for name, value in line._asdict().items() if self._board is not None else ():
            if not name.startswith("step") and math.isfinite(value):
                self._board.add_scalar(name, value, step)
        return line


class _Watch:
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


def _board(out: Path) -> AbstractContextManager[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("TensorBoard is not installed: pip install 'spx-cli[tensorboard]'") from None
    return SummaryWriter(str(out))
