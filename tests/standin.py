"""A method without kernels, and functions that worker processes can import: for the tests of the batch engine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from spx_cli.errors import WeightsError
from spx_cli.methods.base import Method, check_count
from spx_cli.params import param
from spx_cli.pool import cores, workers


@dataclass(frozen=True, kw_only=True)
class StandIn(Method):
    """Cuts the image into bands. A red first pixel is an error, a green one bad weights, a blue one death."""

    name: ClassVar[str] = "standin"
    kind: ClassVar[str] = "test"
    paper: ClassVar[str] = "none"
    groups: ClassVar[list[list[tuple[int, ...]]]] = []

    seed: int = param(0, "for --seed")
    weights: str = param("", "for --weights")

    def identity(self):
        return f"{self!r} {Path(self.weights).read_bytes() if Path(self.weights).is_file() else b''}"

    def assign(self, image, n_segments):
        raise NotImplementedError

    def segment(self, image, n_segments=200, *, native_count=False, raw=False, contours=None):
        return self.segment_batch([image], n_segments)[0]

    def segment_batch(self, images: Sequence, n_segments=200, *, native_count=False, raw=False, contours=None):
        self.groups.append([image.shape[:2] for image in images])
        if any((image[0, 0] == (255, 0, 0)).all() for image in images):
            raise RuntimeError("red makes me fail")
        if any((image[0, 0] == (0, 0, 255)).all() for image in images):
            os._exit(9)
        if any((image[0, 0] == (0, 255, 0)).all() for image in images):
            raise WeightsError("broken.safetensors is damaged")
        for image in images:
            check_count(n_segments, image)
        return [
            np.arange(im.size // 3, dtype=np.int32).reshape(im.shape[:2]) * n_segments // (im.size // 3)
            for im in images
        ]


def double(number: int) -> int:
    return 2 * number


def double_or_die(number: int) -> int:
    if number == 3:
        os._exit(9)
    return 2 * number


def threads(_: int) -> str:
    import numba

    return f"{os.environ['OMP_NUM_THREADS']} {numba.config.NUMBA_NUM_THREADS}"


def leave_pid(folder: Path) -> None:
    Path(folder, str(os.getpid())).touch()
    import time

    time.sleep(600)


def share(number: int) -> tuple[int, int]:
    return workers(), cores()
