"""CUDA graphs, for many short kernels that take longer to queue than to run: a network on one image, an optimiser."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from spx_cli.device import lacks_memory

_log = logging.getLogger(__name__)

Function = Callable[..., Sequence[Tensor]]

_KEPT = 8  # graphs; each holds the memory of one pass
_REMEMBERED = 64  # keys that were met once


class Graphs:
    """Graphs of functions of tensors, for the keys that came at least twice: to capture one costs many passes."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Hashable, Graph] = OrderedDict()
        self._met: OrderedDict[Hashable, None] = OrderedDict()
        self._works = True

    def __len__(self) -> int:
        return len(self._graphs)

    def run(self, key: Hashable, function: Function, *tensors: Tensor) -> Sequence[Tensor]:
        """Return function(*tensors); what it returns is overwritten by the next run of the same key.

        key : stands for the function and for the shapes and types of the tensors. To be called by one thread at a time.
        """
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key](*tensors)
        if key not in self._met or not self._works:
            self._met[key] = None
            if len(self._met) > _REMEMBERED:
                self._met.popitem(last=False)
            return function(*tensors)
        try:
            graph = Graph(function, *tensors)
        except RuntimeError as error:
            if lacks_memory(error):
                raise
            self._works = False  # an operation that this PyTorch cannot capture
            _log.warning("CUDA graphs do not work here, single images take longer: %s", error)
            torch.cuda.synchronize()
            return function(*tensors)
        self._graphs[key] = graph
        if len(self._graphs) > _KEPT:
            self._graphs.popitem(last=False)
        return graph(*tensors)

    def clear(self) -> None:
        """Give the memory of all graphs back."""
        self._graphs.clear()
        self._met.clear()


class Graph:
    """A function of tensors, captured for tensors like the examples."""

    def __init__(self, function: Function, *examples: Tensor) -> None:
        self._given = [x.clone() for x in examples]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is set up on first use must not be captured
            for _ in range(2):
                function(*self._given)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may prepare their own batches meanwhile. The stream is of this device: that which PyTorch would
        # take is of the first device of the process.
        with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
            self._outputs = function(*self._given)

    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        """Return the function of tensors, in tensors that the next call overwrites."""
        torch._foreach_copy_(self._given, tensors)
        self._graph.replay()
        return self._outputs
