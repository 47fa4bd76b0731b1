"""Weights of the expected loss: which ones decide on the merges of an assignment, and what they look like in a file."""

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spx_cli import weights
from spx_cli.errors import WeightsError
from spx_cli.regions.costs import Judge, n_inputs
from spx_cli.types import Assignment

OWNER = "merge"  # whose weights they are, as WEIGHTS and the files say
INPUTS = "2"  # version of `pair_inputs`; weights made for another one mean something else
WARD, LOSS = "ward", "loss"


class Seen(NamedTuple):
    """What weights look at beside the regions.

    scales : at how many there are contours. embedded : whether there is an embedding. edges : whether the contours are
        mere edges of colour.
    """

    scales: int
    embedded: bool
    edges: bool

    def __str__(self) -> str:
        what = "edges of colour" if self.edges else "contours"
        contours = f"{what} at {self.scales} scale{'s' if self.scales > 1 else ''}" if self.scales else "no contours"
        return contours + (" and an embedding" if self.embedded else "")


# The bundled weights for what there is.
BUNDLED = {
    Seen(0, embedded=False, edges=False): "merge",
    Seen(1, embedded=False, edges=True): "merge-edges",
    Seen(1, embedded=False, edges=False): "merge-contours",
    Seen(4, embedded=True, edges=False): "merge-elm",
}


def judge_for(assignment: Assignment, merge: str, border_price: float) -> Judge | None:
    """Return what decides on the merges of an assignment: the expected loss, or None for Ward's cost.

    merge : `WARD`; `LOSS`, the bundled weights that suit; or the name or path of others.
    Raises WeightsError for weights that are damaged, or made for other inputs than the assignment has.
    """
    if merge == WARD:
        return None
    contours = assignment.contours
    scales = 0 if contours is None else contours.shape[0] if contours.ndim == 3 else 1
    seen = Seen(scales, assignment.embedding is not None, assignment.edges)
    if merge == LOSS and seen not in BUNDLED:
        raise WeightsError(f"no bundled weights of the expected loss look at {seen}; give merge a file")
    source = BUNDLED[seen] if merge == LOSS else merge
    judge, made_for = load_judge(source)
    if made_for != seen:
        raise WeightsError(f"{weights.path(source)} looks at {made_for}, but here are {seen}")
    return judge._replace(border_price=border_price)


def merge_identity(merge: str) -> str:
    """Return what the weights behind a `merge` are, by content; '' for Ward's cost. WeightsError: there are none."""
    sources = {WARD: (), LOSS: tuple(BUNDLED.values())}.get(merge, (merge,))
    return "".join(f" merging by {weights.sha256(weights.path(source))}" for source in sources)


def save_judge(file: Path, judge: Judge, made_for: Seen, about: dict[str, str]) -> str:
    """Write the weights and their provenance; return the sha256 of the file."""
    import torch

    arrays = {
        "hidden": judge.hidden,
        "bias": judge.bias,
        "out": judge.out,
        "offset": np.array([judge.offset], np.float32),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    seen = {name: str(int(value)) for name, value in made_for._asdict().items()}
    return weights.save(file, tensors, {"method": OWNER, "inputs": INPUTS, **seen, **about})


def load_judge(source: str) -> tuple[Judge, Seen]:
    """Return weights by bundled name or path, and what they look at."""
    file = weights.path(source)
    try:
        changed = file.stat().st_mtime_ns
    except OSError:
        raise WeightsError(f"no such weights file: {file}") from None
    return _load_judge(source, changed)


@lru_cache(maxsize=8)
def _load_judge(source: str, changed: int) -> tuple[Judge, Seen]:
    file = weights.path(source)
    about, arrays = weights.provenance(file), weights.load_arrays(source, OWNER)
    if about.get("method") != OWNER:
        raise WeightsError(f"{file} holds no weights of the expected loss")
    if about.get("inputs") != INPUTS:
        raise WeightsError(f"{file} was made for inputs of version {about.get('inputs')}, this spx knows {INPUTS}")
    told = [about.get(name, "") for name in Seen._fields]
    if not re.fullmatch("[0-9] [01] [01]", " ".join(told)):
        raise WeightsError(
            f"{file} is damaged, or of an earlier spx: it does not say what it looks at ({', '.join(Seen._fields)})"
        )
    made_for = Seen(int(told[0]), embedded=told[1] == "1", edges=told[2] == "1")
    inputs = n_inputs(made_for.scales, embedded=made_for.embedded)
    width = arrays["bias"].size if "bias" in arrays else 0
    for name, shape in {"hidden": (inputs, width), "bias": (width,), "out": (width,), "offset": (1,)}.items():
        if name not in arrays or arrays[name].shape != shape or arrays[name].dtype != np.float32 or not width:
            raise WeightsError(f"{file} is damaged: {name!r} must be float32 {shape}")
        if not np.isfinite(arrays[name]).all():
            raise WeightsError(f"{file} is damaged: {name!r} is not finite")
    hidden, bias, out = (np.ascontiguousarray(arrays[name]) for name in ("hidden", "bias", "out"))
    return Judge(hidden, bias, out, float(arrays["offset"][0]), 0.0, 0.0), made_for
