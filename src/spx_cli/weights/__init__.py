"""Trained weights: what is bundled, where it comes from, and reading and writing safetensors with their provenance."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spx_cli.errors import WeightsError
from spx_cli.io.files import DAMAGE, atomic, make_folder
from spx_cli.registry import unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

BUNDLED = Path(__file__).parent
SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A bundled file: the method that can load it, the sha256 of the file, and how good it was found.

    How it came about (recipe, data, steps, ASA on validation images, spx version) stands in the file: `provenance`.
    """

    method: str
    sha256: str
    score: str
    licence: str = "MIT"


WEIGHTS: dict[str, Record] = {
    "elm": Record(
        method="elm",
        sha256="7765790d5920355f230322f0309fd8ea3324b68f4c6843faa409eb70c88a2fcd",
        score="trained on val, too; without it mean ASA at 200 and 600 was .9703 on BSDS500 val",
    ),
    "fcn": Record(
        method="fcn",
        sha256="5a531df5c92780aaefe68633f9489b8b5a63800a22b6215c9adc5727c5127392",
        score="trained on val, too; without it ASA was .9645 at 200 and .9744 at 600 on BSDS500 val",
    ),
    "lnsnet": Record(
        method="lnsnet",
        sha256="d7bb1145459e3567b5823235c566f14f625a5b425f23510f229daa456f8f8cd7",
        score="ASA .9592 on 25 of BSDS500 val at 200; no labels",
    ),
    "merge": Record(
        method="merge",
        sha256="ad0ecc48db9cf0575674dcd46a9cf2d8c9197abcb4a6be8c3766221e008bc92f",
        score="without contours; fitted to BSDS500 train",
    ),
    "merge-contours": Record(
        method="merge",
        sha256="24e6e0618ea8a2421f6142009fa2c58979840e13d982eb1d297643b0544ef773",
        score="ASA .9660 of lsc, slic and snic at 200 and 600 on BSDS500 val, each half by a fit to the other",
    ),
    "merge-edges": Record(
        method="merge",
        sha256="67368a0b99155fc9c6b9d7bdb3c8f2699f341b4140722a5a33b16ea9cd87a9b5",
        score="along edges of colour; fitted to BSDS500 train",
    ),
    "sen": Record(
        method="sen",
        sha256="7a54749f77cdc7517020fb552677458a2bf434392475d4f1b73b04b1364c7c5d",
        score="F1 .378 on BSDS500 test at 50, protocol sen; no labels",
    ),
    "merge-elm": Record(
        method="merge",
        sha256="fe306aa7065483749891fe01882bd2e86ff26a7a59b9e946bbf48397dda2a3e9",
        score="mean ASA of elm at 200 and 600 .9703 on BSDS500 val, each half by the fit to the other",
    ),
    "sin": Record(
        method="sin",
        sha256="196a1f852c5ca2755facda86253c41f7800e7524840154a477705b79aa7c1bf2",
        score="trained on val, too; without it ASA was .9602 at 200 and .9723 at 600 on BSDS500 val",
    ),
    "ssn": Record(
        method="ssn",
        sha256="03bbd18f9c29c0f221205d2e584af2e8e9ad9734a976519f69b729bc83b8495f",
        score="trained on val, too; ASA .9599 at 200 and .9715 at 600 on BSDS500 test",
    ),
}


def path(source: str) -> Path:
    """Return the file that holds the weights `source`: a bundled name, or the path of a .safetensors file."""
    if source in WEIGHTS:
        return BUNDLED / f"{source}{SUFFIX}"
    if not source.endswith(SUFFIX) and not Path(source).exists():
        raise unknown(f"bundled weights (nor is it the path of a {SUFFIX} file)", source, WEIGHTS)
    return Path(source)


def load(source: str, method: str) -> "dict[str, Tensor]":
    """Return the tensors of bundled weights or of a file, on the CPU.

    Raises WeightsError for a file that is missing, damaged, or says that it belongs to another method.
    """
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = _load(source, method, load_file)
    return tensors


def load_arrays(source: str, method: str) -> "dict[str, NDArray[Any]]":
    """Return the same as arrays, for weights that need no torch; raises as `load` does."""
    from safetensors.numpy import load_file

    arrays: dict[str, NDArray[Any]] = _load(source, method, load_file)
    return arrays


def _load(source: str, method: str, load_file: Callable[[Path], Any]) -> Any:
    from safetensors import SafetensorError

    file = path(source)
    owner = provenance(file).get("method", method)
    if owner != method:
        raise WeightsError(f"{file} holds weights of method {owner!r}, not of {method!r}")
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read as {SUFFIX[1:]}: {error}") from None


def provenance(file: Path) -> dict[str, str]:
    """Return what the file says about itself: method, recipe, data, steps, score ... as training wrote it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            return dict(opened.metadata() or {})
    except FileNotFoundError:
        raise WeightsError(f"no such weights file: {file}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read as {SUFFIX[1:]}: {error}") from None


def read_checkpoint(file: Path) -> "dict[str, Tensor]":
    """Return the tensors of a checkpoint of PyTorch (.pth, .tar ...), or of a .npz or .safetensors file.

    A state dict may stand under 'state_dict' or 'model', and its names may begin with 'module.'. Pickled code is never
    run. Raises WeightsError for a file that is missing, damaged, or holds anything but tensors there; beside them there
    may be numbers, NumPy's too.
    """
    import pickle

    import numpy as np
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: object
    try:
        if file.suffix == SUFFIX:
            state = load_file(file)
        elif file.suffix == ".npz":
            with np.load(file) as arrays:
                state = {name: torch.from_numpy(arrays[name]) for name in arrays}
        else:
            with torch.serialization.safe_globals(_numbers()):
                state = unpickle(file)
    except FileNotFoundError:
        raise WeightsError(f"no such checkpoint: {file}") from None
    except (*DAMAGE, SafetensorError, pickle.UnpicklingError) as x:
        reason = type(x).__name__
        raise WeightsError(f"{file} is damaged, or not a checkpoint of tensors and numbers alone ({reason})") from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise WeightsError(f"{file} holds no state dict; save network.state_dict() alone")
    return {name.removeprefix("module."): value for name, value in state.items()}


def unpickle(file: Path) -> Any:
    """Return what torch.save wrote, on the CPU, without running pickled code and without PyTorch's remarks on it."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)


def _numbers() -> list[Any]:
    """Return what may stand in a checkpoint beside tensors: numbers and arrays as any NumPy pickles them."""
    import numpy as np

    known: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}]
    core = np._core if hasattr(np, "_core") else np.core
    for name in ("scalar", "_reconstruct"):
        make = getattr(core.multiarray, name)
        known += [(make, f"{place}.multiarray.{name}") for place in ("numpy.core", "numpy._core")]
    return known


def save(file: Path, state: "Mapping[str, Tensor]", about: Mapping[str, str]) -> str:
    """Write tensors and their provenance (`method` at least) in one step, and return the sha256 of the file.

    The same tensors and provenance give the same bytes.
    """
    from safetensors.torch import save as serialise

    content = _in_order(serialise({k: v.detach().cpu().contiguous() for k, v in state.items()}, dict(about)))
    make_folder(file.parent)
    with atomic(file) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _in_order(content: bytes) -> bytes:
    """Return safetensors with what they say about themselves in the order of names; the library's own is random."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors are to begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def sha256(file: Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise WeightsError(f"no such weights file: {file}") from None
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from None


def digest(state: "Mapping[str, Tensor]") -> str:
    """Return the sha256 of tensors and their names as hexadecimal text."""
    from safetensors.torch import save as serialise

    content = serialise({k: v.detach().cpu().contiguous() for k, v in state.items()})
    return hashlib.sha256(content).hexdigest()


def verify(name: str) -> None:
    """Raise WeightsError unless the bundled file is what its record says."""
    if name not in WEIGHTS:
        raise unknown("bundled weights", name, WEIGHTS)
    found = sha256(path(name))
    if found != WEIGHTS[name].sha256:
        raise WeightsError(f"{path(name)} is damaged: its sha256 is {found}, not {WEIGHTS[name].sha256}")
