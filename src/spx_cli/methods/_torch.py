"""What the methods with a trained network share: weights, device, recipes, and the network itself."""

import re
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spx_cli import device, weights
from spx_cli.errors import OutOfMemory, ParameterError, WeightsError
from spx_cli.methods._contours import chances
from spx_cli.methods._pieces import pieces
from spx_cli.methods._recipe import Recipe
from spx_cli.methods._resize import resize_image
from spx_cli.methods._tensors import stack
from spx_cli.methods.base import Along, Method, check_assignment, check_count, guides_of
from spx_cli.options import check_scales
from spx_cli.params import param
from spx_cli.pool import workers
from spx_cli.regions.finish import on_host
from spx_cli.types import Assignment, Contours, Image, Labels, check_image


@dataclass(frozen=True, kw_only=True)
class TorchMethod(Method):
    """A method with a network. Subclasses write `build`, `loss` and `assign_batch`, and offer `recipes`.

    `build` gives a fresh network and `load` one with the weights: ordinary modules, whose soft outputs carry gradients.
    `network` is the cached one that segments; unless it was bound, it stays behind when the method is pickled.

    The same image gives the same bytes with the same number of threads. With another number a pixel of a few images may
    move, where two superpixels are as good as equal: oneDNN then adds up the products of a convolution otherwise.

    Once a network has run, a process forked from this one waits for ever for PyTorch's threads, which a fork does not
    have: start others with `spawn`, as spx does.
    """

    kind: ClassVar[str] = "learned"
    by_edges: ClassVar[bool] = False
    # Whether contours of images are what its network learns from.
    by_contours: ClassVar[bool] = False
    recipes: ClassVar[Mapping[str, Recipe]]  # the first is the paper's

    weights: str = param("", "bundled weights by name, or the path of a .safetensors file")
    device: str = param("auto", "auto, cpu, cuda or cuda:N")
    # On a CPU that computes in it, bfloat16 doubles the speed and keeps ASA; it moves 2 to 4 % of the pixels. On CUDA,
    # tf32 is float32 whose products are rounded to 10 bits; the CPU knows no such thing.
    precision: str = param("float32", "arithmetic of the network", choices=("float32", "tf32", "bfloat16"))

    def __post_init__(self) -> None:
        super().__post_init__()
        device.check(self.device)

    def placed(self) -> Self:
        """Return an equal method that names its device by what it is, not as asked for."""
        return self if self.bound else super().placed()

    def weights_identity(self) -> str:
        """Return in words what the weights behind the parameters are, by content; '' where there are none."""
        if self.bound:
            own = f" bound to {weights.digest(self.network.state_dict())}"
        else:
            own = f" weights {weights.sha256(weights.path(self.weights))}" if self.weights else ""
        return own + super().weights_identity()

    def fresh(self) -> Self:
        """Return an equal method that reads its weights anew, unless it is bound to a network."""
        return self if self.bound else replace(self)

    @property
    def bound(self) -> bool:
        """Whether `bind` gave the method its network, which its fields then do not tell."""
        return "_bound" in self.__dict__

    @abstractmethod
    def build(self) -> nn.Module:
        """Return a fresh network; torch's global random state decides its weights."""

    @abstractmethod
    def loss(self, network: nn.Module, images: Tensor, truth: Tensor | None) -> Tensor:
        """Return the training loss, a scalar.

        images : uint8 (B, 3, H, W), RGB, on the network's device.
        truth : int64 (B, H, W), negative = unlabelled, or what `teacher` gives; None for methods that need none.
        """

    @property
    def steps_per_batch(self) -> int:
        """How many steps in a row a batch is learned from before the next one comes."""
        return 1

    def before_step(self, network: nn.Module, step: int) -> None:
        """Prepare the network for a step of a training run, counted from 0: say which parts are to learn in it."""

    def teacher(self) -> Callable[[Image, np.random.Generator], NDArray[Any]] | None:
        """Return what annotates the images for a method that learns from them alone; None for one that needs labels.

        It gives ids, int (H, W), or strengths, float32 (H, W).
        """
        return None

    @abstractmethod
    def assign_batch(self, images: Sequence[Image], n_segments: int) -> list[Assignment]:
        """Return the assignments of images of one size, computed together."""

    def contour_scores(self, images: Tensor) -> Tensor:
        """Return the scores (logits) of contours, float (B, H, W), for uint8 RGB images (B, 3, H, W) of any size.

        Raises ParameterError where the network has not learned any.
        """
        raise ParameterError(f"{self.name} {self.weights!r} has learned no contours")

    def contour_map(self, image: Image, *, scales: Sequence[float] = (1.0,), mirrored: bool = False) -> Contours:
        """Return how likely each pixel lies on the border of an object, float32 (H, W), 0 to 1.

        scales : the network sees the image at these sizes, relative to its own; the mean of all chances is returned.
        mirrored : it sees each of them from left to right and from right to left.

        Large images are seen in pieces that overlap, so that memory does not grow with them.
        """
        check_image(image)
        check_scales(scales)
        out = np.empty(image.shape[:2], np.float32)
        for piece, around, inside in pieces(image.shape[:2]):
            seen = np.ascontiguousarray(image[around])
            out[piece] = self._contour_piece(seen, scales, mirrored)[inside]
        return out

    def _contour_piece(self, image: Image, scales: Sequence[float], mirrored: bool) -> Contours:
        size, where = image.shape[:2], self.where
        with device.turn(where, self.precision), torch.inference_mode():
            total = torch.zeros(size, device=where)
            for scale in scales:
                scaled = max(1, round(scale * size[0])), max(1, round(scale * size[1]))
                seen = stack([image if scale == 1 else resize_image(image, scaled)], where)
                for view in (seen, seen.flip(3)) if mirrored else (seen,):
                    found = chances(self.contour_scores(view), size)[0]
                    total += found if view is seen else found.flip(1)
            return (total / (len(scales) * (1 + mirrored))).cpu().numpy()

    def deploy(self, network: nn.Module) -> nn.Module:
        """Return what segments in place of `network`, which it may change: as fast, and as small, as can be."""
        return fold(network).to(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The type that `precision` names."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return about n_segments labels and the features in which to finish them."""
        return self._tasks([image], n_segments)[0]()

    def segment_batch(
        self,
        images: Sequence[Image],
        n_segments: int = 200,
        *,
        native_count: bool = False,
        raw: bool = False,
        contours: Sequence[Along] | None = None,
    ) -> list[Labels]:
        """Return the label map of each image; those of one size go through the network together.

        Threads may call it side by side: one has the GPU while others finish their maps on the CPU.
        """
        for image in images:
            check_image(image)
        if len({image.shape for image in images}) != 1:
            return super().segment_batch(images, n_segments, native_count=native_count, raw=raw, contours=contours)
        check_count(n_segments, images[0])
        native = native_count or raw
        guides = guides_of(images, contours)
        asked = self.asked(images[0], n_segments, guides[0], native=native)

        def done(work: tuple[Callable[[], Assignment], Image, Along]) -> Labels:
            task, image, guide = work
            assignment = task()
            check_assignment(assignment, image.shape[:2])
            if raw:
                return np.asarray(on_host(assignment.labels), np.int32)
            assignment = self.along(assignment, image, guide, native=native)
            return self.finish(assignment, n_segments, native_count=native_count)

        return device.each(self.where, done, zip(self._tasks(images, asked), images, guides, strict=True))

    def tasks(self, images: Sequence[Image], n_segments: int) -> Sequence[Callable[[], Assignment]]:
        """Return for each image what is left to do on the CPU for its assignment."""
        with device.turn(self.where, self.precision):
            return [partial(_same, assignment) for assignment in self.assign_batch(images, n_segments)]

    def _tasks(self, images: Sequence[Image], n_segments: int) -> Sequence[Callable[[], Assignment]]:
        try:
            return self.tasks(images, n_segments)
        except OutOfMemory as error:
            height, width, _ = images[0].shape
            many = f"{len(images)} images" if len(images) > 1 else "an image"
            smaller = "fewer at a time (--batch-size 1), " if len(images) > 1 else ""
            smaller += "fewer processes (--jobs), " if workers() > 1 else ""
            help = f"{smaller}-p precision=bfloat16 or the CPU (--device cpu) may do"
            raise OutOfMemory(f"not enough GPU memory for {many} of {height} x {width}: {help}. {error}") from None

    @property
    def where(self) -> torch.device:
        """The device of the network."""
        return next((p.device for p in self.network.parameters()), device.pick(self.device))

    def load(self) -> nn.Module:
        """Return the network with its weights, on the CPU, ready to be trained on or built into another."""
        if self.weights.startswith(_BOUND):
            raise WeightsError("a copy by dataclasses.replace lacks the bound network; spx_cli.create keeps it")
        network = self._unfilled()
        if list(network.parameters()):
            state = weights.load(self.weights, self.name)
            shaped = self._shaped(state, f"weights {self.weights!r}")
            network = network if shaped == self else shaped._unfilled()
            fill(network, state, f"weights {self.weights!r}")
        return network

    def fit(self, state: Mapping[str, Tensor], source: str) -> nn.Module:
        """Return the network with the authors' state dict; WeightsError names `source` if it does not fit."""
        state = self.convert(state)
        network = self._shaped(state, f"weights {source!r}")._unfilled()
        fill(network, state, f"weights {source!r}")
        return network

    def like(self, state: Mapping[str, Tensor]) -> Self:
        """Return the method with those options of its network that a state dict shows, by names and shapes."""
        return self

    def _shaped(self, state: Mapping[str, Tensor], source: str) -> Self:
        """Return `like(state)`; WeightsError where it is not as asked for: a default gives way, a choice not."""
        try:
            shaped = self.like(state)
        except ParameterError as error:
            raise WeightsError(f"{source}: no network of {self.name}: {error}") from None
        for field in fields(self):
            asked, found = getattr(self, field.name), getattr(shaped, field.name)
            if found != asked != field.default and field.name != "contours":
                raise WeightsError(f"{source}: {field.name}={asked} is not that of the network, which has {found}")
        return shaped

    @staticmethod
    def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the authors' state dict under our names, less what their network owns and never uses."""
        return dict(state)

    def _unfilled(self) -> nn.Module:
        # Weights are about to replace the random numbers, so none are taken from the caller's sequence.
        with torch.random.fork_rng(devices=[]):
            return self.build().float()  # whatever PyTorch's default is, the weights are float32

    @cached_property
    def network(self) -> nn.Module:
        """The network as it segments: on `device`, in eval mode, without gradients."""
        with _loading:  # of threads that come together the first loads it
            loaded = self.__dict__.get("network")
            return self._ready(self.load(), device.pick(self.device)) if loaded is None else loaded

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All networks that segment."""
        return (self.network,)

    def bind(self, network: nn.Module) -> Self:
        """Return a copy that segments with the present weights of `network`, as training does to validate.

        network : as `load` and `build` give it, or wrapped by PyTorch. Its weights are not told by a name: `weights`
            of the copy tells them from others. WeightsError for a network of something else.
        """
        if not isinstance(network, nn.Module):
            raise WeightsError(f"a network to bind must be an nn.Module, not {network!r}")
        state = {_WRAPPED.sub("", name): value.detach().cpu().clone() for name, value in network.state_dict().items()}
        state.pop("n_averaged", None)  # of AveragedModel
        return self._bound_to(state, next((p.device for p in network.parameters()), torch.device("cpu")))

    def _bound_to(self, state: Mapping[str, Tensor], where: torch.device) -> Self:
        shaped = self._shaped(state, "the network to bind")
        own = shaped._unfilled()
        fill(own, state, "the network to bind")
        # as asked for: a network may see contours in vain
        told: dict[str, Any] = {name: value for name, value in vars(self).items() if name == "contours"}
        bound = replace(shaped, weights=f"{_BOUND}{weights.digest(state)[:16]}", **told)
        bound.__dict__.update(network=self._ready(own, where), _bound=state)
        return bound

    def changed(self, **given: Any) -> Self:
        """Return a copy with other parameters; that of a bound method has the same weights, WeightsError if not."""
        copy = super().changed(**given)
        if self.bound and "weights" not in given:
            where = self.where if copy.device == self.device else device.pick(copy.device)
            copy = copy._bound_to(self.__dict__["_bound"], where)
            for name, value in given.items():
                if getattr(copy, name) != value:
                    raise WeightsError(f"{name}={value} is not that of the network, which has {getattr(copy, name)}")
        return copy

    def _ready(self, network: nn.Module, where: torch.device) -> nn.Module:
        ready = self.deploy(network.eval()).eval().requires_grad_(False)
        with device.within_memory():
            return ready.to(where, memory_format=self.layout(where))  # type: ignore[call-overload, no-any-return]

    def layout(self, where: torch.device) -> torch.memory_format:
        """Return how the network's tensors lie in memory."""
        return torch.channels_last

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("graphs",) if self.bound else ("graphs", "network")
        return {k: v for k, v in self.__dict__.items() if k not in dropped}


_loading = threading.RLock()
_BOUND = "bound "  # in place of the name of weights, before what tells them from others
# What DataParallel, averaging and compiling put into the names of tensors.
_WRAPPED = re.compile(r"^(module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")


def _same(assignment: Assignment) -> Assignment:
    return assignment


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load strictly; WeightsError names the first tensor that does not fit."""
    own = network.state_dict()
    for name in [*own, *state]:
        if name not in state:
            raise WeightsError(f"{source}: {name!r} is missing, which the network needs")
        if name not in own:
            raise WeightsError(f"{source}: {name!r} is none of the network's tensors")
        if own[name].shape != state[name].shape:
            found, needed = tuple(state[name].shape), tuple(own[name].shape)
            raise WeightsError(f"{source}: {name!r} has shape {found}, the network needs {needed}")
    network.load_state_dict(state, strict=True)


def fold(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation that follows a convolution inside an nn.Sequential into it, in place."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network
