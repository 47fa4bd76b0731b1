"""What a run of training is at one moment (network, mean of its weights, optimiser, step), in memory and on disk."""

import copy
import hashlib
import json
import math
import pickle
from collections.abc import Iterator, Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spx_cli import weights
from spx_cli._version import __version__
from spx_cli.device import within_memory
from spx_cli.errors import ParameterError, WeightsError
from spx_cli.io import atomic
from spx_cli.io.files import DAMAGE
from spx_cli.methods._muon import Muon
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._torch import TorchMethod, fill

CHECKPOINT, BEST, LAST = "checkpoint.pt", "best.safetensors", "last.safetensors"
# What a resumed run may change: no weight depends on it, but for steps, which stretch or shorten the rest of the run.
FREE = ("steps", "validate_every", "validate_counts", "validate_images", "log_every", "checkpoint_minutes")

# What is told by a hash, where both sides know one, and what it says if they differ.
HASHES = {
    "order": "other images or annotations are trained on (--data, --split)",
    "content": "images or annotations have another content",
    "validated": "images or annotations to validate on have another content",
    "start": "it began from other --weights",
}


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

    network is trained, ema is the running mean of its weights: it is validated and exported.
    """

    def __init__(
        self, method: TorchMethod, recipe: Recipe, device: torch.device, start: Mapping[str, Tensor] | None
    ) -> None:
        """Make the network with the recipe's seed, or with the weights to start from."""
        # not torch.manual_seed, which would also seed a CUDA that the caller has yet to initialise
        torch.default_generator.manual_seed(recipe.seed)
        if device.type == "cuda":
            torch.cuda.manual_seed_all(recipe.seed)
        network = method.build()
        if start is not None:
            fill(network, start, "the weights to start from")
        with within_memory():
            self.network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
            self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = make_optimizer(self.network, recipe)
        self._recipe = recipe
        self.step = 0
        self.asa = math.nan
        self.best: dict[str, Any] = {}

    def average(self, decay: float) -> None:
        """Move the mean towards the network: by all of the difference at first, then by 1 - decay of it."""
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
        return zip(self.ema.state_dict().values(), self.network.state_dict().values(), strict=True)

    def judge(self, asa: float) -> bool:
        """Take the ASA of a validation; return whether it is the best yet."""
        self.asa = asa
        better: bool = asa > self.best.get("asa", -math.inf)
        if better:
            self.best = {"asa": asa, "step": self.step}
        return better

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write the checkpoint; a process killed meanwhile leaves the one before."""
        content = {
            "about": dict(about),
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "asa": self.asa,
            "best": self.best,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        }
        written = BytesIO()  # in a file, torch would make errors of its own of those of the system
        torch.save(content, written)
        with atomic(path) as temporary:
            temporary.write_bytes(written.getbuffer())

    def load(self, path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
        """Take up the run of a checkpoint; return what the run is about: `about`, and what it started from.

        Raises WeightsError for a damaged file, ParameterError where method, recipe or data are not those of the run.
        """
        content = _read(path)
        then, now = _flat(content["about"]), _flat(about)
        fixed = [k for k in dict.fromkeys((*now, "contours")) if k not in (*FREE, *HASHES)]
        changed = [f"{k} was {then.get(k)!r}, is {now.get(k)!r}" for k in fixed if then.get(k) != now.get(k)]
        changed += (HASHES[k] for k in HASHES if k in then and k in now and then[k] != now[k])
        if "start" in now and "start" not in then:
            changed.append("it began without --weights")
        if changed:
            raise ParameterError(f"cannot resume {path.parent}: {'; '.join(changed)}")
        if wrong := self._misfit(content):
            raise WeightsError(f"{path} is damaged: {wrong}")
        self.network.load_state_dict(content["network"])
        self.ema.load_state_dict(content["ema"])
        # Of the groups only the learning rate changes, and it follows from the step.
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": content["optimizer"]["state"]})
        self.step, self.asa, self.best = content["step"], content["asa"], content["best"]
        torch.set_rng_state(content["rng"])
        devices = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
        for device, state in zip(range(devices), content["cuda_rng"], strict=False):
            torch.cuda.set_rng_state(state, device)
        return {**about, **{k: then[k] for k in ("start", "validated") if k in then}}

    def _misfit(self, content: Mapping[str, Any]) -> str:
        """Return what in a checkpoint of this run does not fit, '' where all does."""
        known, saved = self._first_step(), content["optimizer"]["state"]
        parts = {
            "network": (content["network"], self.network.state_dict()),
            "ema": (content["ema"], self.ema.state_dict()),
            "optimizer": (saved, {i: known.get(i) for i in saved}),
            "rng": (content["rng"], torch.get_rng_state()),
        }
        wrong = [name for name, (found, own) in parts.items() if not _alike(found, own)]
        if not wrong and not _is_random_state(content["rng"]):
            wrong = ["rng"]
        return f"its {wrong[0]} does not fit the run" if wrong else ""

    def _first_step(self) -> dict[int, dict[str, Any]]:
        """Return what the optimiser would know after a step, by the number of the parameter."""
        network = copy.deepcopy(self.network)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer = make_optimizer(network, self._recipe)
        optimizer.step()
        known: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
        return known


def _is_random_state(state: Tensor) -> bool:
    try:
        torch.Generator().set_state(state)
    except RuntimeError:
        return False
    return True


def _alike(found: Any, own: Any) -> bool:
    """Whether two values are of one kind: mappings of the same names to like values, tensors of one shape and type."""
    if isinstance(own, Mapping):
        return isinstance(found, Mapping) and found.keys() == own.keys() and all(_alike(found[k], own[k]) for k in own)
    if isinstance(own, Tensor):
        return isinstance(found, Tensor) and (found.shape, found.dtype) == (own.shape, own.dtype)
    return type(found) is type(own)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, every part of its kind; WeightsError for a damaged file."""
    kinds = {"about": dict, "network": dict, "ema": dict, "optimizer": dict, "step": int, "asa": float, "best": dict}
    try:
        content = weights.unpickle(path)
        whole = all(isinstance(content[name], kind) for name, kind in {**kinds, "cuda_rng": list}.items())
        whole = whole and isinstance(content["about"]["recipe"], dict) and content["step"] > 0
        whole = whole and isinstance(content["optimizer"]["state"], dict) and "rng" in content
        whole = whole and {name: type(value) for name, value in content["best"].items()} in _BEST
        json.dumps(content["about"])
    except (*DAMAGE, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is not a checkpoint, or damaged ({type(error).__name__})") from None
    if not whole:
        raise WeightsError(f"{path} is not a checkpoint of a run, or damaged")
    return dict(content)


_BEST: tuple[dict[str, type], ...] = ({}, {"asa": float, "step": int})


def export(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any], *, half: bool = False) -> str:
    """Write tensors with their provenance as safetensors and return the file's sha256.

    about : what the weights are (method, recipe, data, steps, ASA); kept in the file's metadata, as JSON.
    half : store tensors of two and more axes as float16.
    """
    tensors = {k: t.half() if half and t.ndim >= 2 else t for k, t in state.items()}
    provenance = {k: v if isinstance(v, str) else json.dumps(v) for k, v in {**about, "spx": __version__}.items()}
    return weights.save(path, tensors, provenance)


def digest(state: Mapping[str, Tensor]) -> str:
    """Return what tells one set of tensors from another."""
    content = hashlib.sha256()
    for name, tensor in state.items():
        content.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:16]


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in about.items() if k != "recipe"}, **about["recipe"]}
