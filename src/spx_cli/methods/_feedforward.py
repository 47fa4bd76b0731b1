"""Methods whose network sees an image once: prepared on the CPU, labelled on the device, finished on the CPU."""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spx_cli import device
from spx_cli.errors import OutOfMemory
from spx_cli.methods._association import fused_kernels
from spx_cli.methods._graphs import Graphs
from spx_cli.methods._tensors import stack
from spx_cli.methods._torch import TorchMethod
from spx_cli.types import Assignment, Image

# A larger input keeps the GPU busy for longer than it takes to queue its work.
_LARGEST_GRAPH = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FeedForward(TorchMethod):
    """Subclasses write `prepare`, `infer` and `complete`; of these only `infer` runs on the device.

    On CUDA a single image replays a graph from the second one of its size on, and the CPU's parts run in threads.
    """

    def prepare(self, image: Image, n_segments: int) -> Image:
        """Return what the network sees of an image, uint8 (h, w, 3)."""
        return image

    @abstractmethod
    def infer(self, images: Tensor, size: tuple[int, int], n_segments: int) -> Sequence[Tensor]:
        """Return what `complete` needs of each image, first of all labels; each tensor has one entry per image.

        images : uint8 (B, 3, h, w), prepared, on the device. size : (height, width) of the images themselves.
        Nothing in it may wait for the device or copy from the CPU, lest no graph could hold it.
        """

    @abstractmethod
    def complete(self, image: Image, *outputs: NDArray[Any]) -> Assignment:
        """Return the assignment of an image from its entries of what `infer` returned."""

    def assign_batch(self, images: Sequence[Image], n_segments: int) -> list[Assignment]:
        """Return the assignments of images of one size, computed together."""
        return [task() for task in self.tasks(images, n_segments)]

    def tasks(self, images: Sequence[Image], n_segments: int) -> Sequence[Callable[[], Assignment]]:
        """Return for each image what is left to do on the CPU for its assignment."""
        height, width, _ = images[0].shape
        where = self.where
        prepared = device.each(where, partial(self.prepare, n_segments=n_segments), images)
        infer = partial(self.infer, size=(height, width), n_segments=n_segments)
        key, layout = (height, width, n_segments), self.layout(where)
        arrays = run(infer, prepared, where, self.graphs, key, precision=self.precision, layout=layout)
        return [partial(self.complete, image, *(a[i] for a in arrays)) for i, image in enumerate(images)]

    def layout(self, where: torch.device) -> torch.memory_format:
        """Return how the network's tensors lie in memory."""
        # The matrix units want channels last; exact float32 runs without them, and on an H100 up to a third faster so.
        planes = where.type == "cuda" and self.precision == "float32"
        return torch.contiguous_format if planes else torch.channels_last

    @cached_property
    def graphs(self) -> Graphs:
        """The CUDA graphs of the sizes that were met."""
        return Graphs()


def run(
    infer: Callable[[Tensor], Sequence[Tensor]],
    images: Sequence[Image],
    where: torch.device,
    graphs: Graphs,
    key: Hashable,
    *,
    precision: str = "float32",
    layout: torch.memory_format = torch.channels_last,
) -> list[NDArray[Any]]:
    """Return as arrays what `infer` makes of images of one size, uint8 (B, 3, H, W) in `layout`, on a device.

    graphs, key : where graphs of single images are kept, and what tells this function and size from others there.
    """
    try:
        with device.turn(where, precision), torch.inference_mode():
            x = stack(images, where).contiguous(memory_format=layout)
            if len(x) == 1 and x.numel() <= 3 * _LARGEST_GRAPH and fused_kernels(where):
                return _fetch(graphs.run(key, infer, x), where)
            return _fetch(infer(x), where)
    except OutOfMemory:
        with device.turn(where):  # another thread may be at the graphs
            graphs.clear()
            torch.cuda.empty_cache()
        raise


def _fetch(outputs: Sequence[Tensor], where: torch.device) -> list[NDArray[Any]]:
    """Return tensors as arrays on the CPU, all copied at once and waited for once."""
    if where.type != "cuda":
        return [x.numpy() for x in outputs]
    copies = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True) for x in outputs]
    torch.cuda.current_stream(where).synchronize()
    return [x.numpy() for x in copies]


def inward(x: Tensor) -> Tensor:
    """Give the outermost pixels of x (..., H, W), in place, what the next ones have; return x.

    There a network sees its own padding as much as the image, and superpixels would have tails along the frame.
    """
    for axis in (-2, -1):
        if x.shape[axis] > 2:
            x.select(axis, 0).copy_(x.select(axis, 1))
            x.select(axis, -1).copy_(x.select(axis, -2))
    return x
