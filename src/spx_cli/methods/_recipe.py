"""How a network is trained, as data: a method offers named recipes, a TOML file and NAME=VALUE texts change them."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from spx_cli import params
from spx_cli.errors import FormatError, ParameterError
from spx_cli.params import param
from spx_cli.registry import unknown


class TomlRecipe:
    """A dataclass of `params.param` fields that can be written down as a TOML file."""

    def to_toml(self) -> str:
        """Return the recipe as a TOML file that `choose` reads, each field with its help."""
        lines = []
        for name, field in params.fields(type(self)).items():
            value, limits = json.dumps(getattr(self, name)), params.bounds(field)
            lines.append(f"{name} = {value}  # {field.metadata['help']}{f' ({limits})' if limits else ''}\n")
        return "".join(lines)


T = TypeVar("T", bound=TomlRecipe)


@dataclass(frozen=True, kw_only=True)
class Recipe(TomlRecipe):
    """Everything that decides the weights, apart from the network, its loss and the data."""

    steps: int = param(100_000, "optimiser steps; 0 = once over all samples", ge=0, le=10**9)
    batch_size: int = param(8, "samples per step and process", ge=1, le=4096)
    optimizer: str = param(
        "adam", "adam adds the decay to the gradient, adamw and muon to the step", choices=("adam", "adamw", "muon")
    )
    lr: float = param(1e-4, "learning rate; the peak where the schedule is one-cycle", gt=0, le=100)
    weight_decay: float = param(0.0, "weight decay", ge=0, le=100)
    decay: str = param(
        "matrices",
        "what decays: tensors of two and more axes, all but the biases, or all",
        choices=("matrices", "weights", "all"),
    )
    schedule: str = param(
        "constant",
        "one-cycle rises linearly, then falls as a cosine to a thousandth of the peak",
        choices=("constant", "halve", "one-cycle"),
    )
    halve_at: int = param(200_000, "step after which the rate of schedule halve is halved", ge=1, le=10**9)
    warmup: float = param(0.1, "share of the steps in which one-cycle rises", ge=0, le=1)
    clip: float = param(0.0, "largest norm of the gradient; 0 = no limit", ge=0, le=1e9)
    ema: float = param(
        0.0, "decay per step of the averaged weights, which are validated and exported; 0 = off", ge=0, le=1
    )
    amp: str = param(
        "none",
        "arithmetic of the forward pass; tf32 is for CUDA, and means none elsewhere",
        choices=("none", "tf32", "bf16"),
    )
    crop: int = param(0, "side of the random square crop, pixels; 0 = whole images", ge=0, le=8192)
    scale_min: float = param(1.0, "smallest random magnification", ge=0.01, le=16)
    scale_max: float = param(1.0, "largest random magnification", ge=0.01, le=16)
    scale_sd: float = param(
        0.0,
        "standard deviation of the magnification around 1, cut to its bounds; 0 = uniform in the logarithm",
        ge=0,
        le=16,
    )
    flips: str = param("none", "random mirroring, each axis with probability one half", choices=("none", "h", "hv"))
    rotate: float = param(0.0, "largest random turn, degrees; what lies outside the image is unlabelled", ge=0, le=180)
    jitter: float = param(0.0, "spread of random brightness, contrast, gamma and colour balance", ge=0, le=1)
    seed: int = param(0, "of the first weights, the order of the samples, and their crops", ge=0, le=2**63 - 1)
    validate_every: int = param(1000, "steps between validations; 0 = never", ge=0, le=10**9)
    validate_counts: str = param("200", "numbers of superpixels at which to validate, with commas between")
    validate_images: int = param(
        0, "number of validation images, evenly spaced over the split; 0 = all", ge=0, le=10**9
    )
    log_every: int = param(10, "steps between lines of the log", ge=1, le=10**9)
    checkpoint_minutes: float = param(10.0, "minutes between checkpoints; 0 = after each step", ge=0, le=10**6)

    def __post_init__(self) -> None:
        params.check(self)
        if self.scale_min > self.scale_max:
            raise ParameterError(f"scale_min {self.scale_min} must not be larger than scale_max {self.scale_max}")
        _ = self.counts

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of superpixels at which to validate; ParameterError where the text holds anything else."""
        parts = [part.strip() for part in self.validate_counts.split(",")]
        if not all(re.fullmatch("0*[1-9][0-9]{,8}", part) for part in parts):
            raise ParameterError(f"validate_counts must be like 100,200 not {self.validate_counts!r}")
        return tuple(int(part) for part in parts)


def choose(
    recipes: Mapping[str, T],
    name: str = "",
    *,
    config: Path | None = None,
    overrides: Iterable[str] = (),
    fields: Mapping[str, Any] | None = None,
) -> T:
    """Return the recipe called `name` (the first without one), changed by a file, by 'name=value' texts, by `fields`.

    config : a TOML file of `name = value` lines, the fields of the recipe. fields : None stands for no change.
    Raises UnknownName for a recipe or field that does not exist, ParameterError for a value of the wrong type or out
    of bounds, FormatError for a file that is not TOML.
    """
    if name and name not in recipes:
        raise unknown("recipe", name, recipes)
    recipe = recipes[name] if name else next(iter(recipes.values()))
    values = {} if config is None else _read(config)
    values.update(params.parse(type(recipe), "the recipe", overrides))
    values.update({field: value for field, value in (fields or {}).items() if value is not None})
    return params.create(type(recipe), "the recipe", {**vars(recipe), **values})


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"no such file: {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not TOML: {error}") from None
