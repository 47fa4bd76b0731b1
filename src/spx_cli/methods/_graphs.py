"""CUDA graphs: a network on one small image is a hundred short kernels, which take longer to queue than to run."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

Function = Callable[[Tensor], Sequence[Tensor]]

_KEPT = 8  # graphs; each holds the memory of one pass
_REMEMBERED = 64  # keys that were met once


class Graphs:
    """Graphs of functions of one tensor, for the keys that came at least twice: to capture one costs many passes."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Hashable, Graph] = OrderedDict()
        self._met: OrderedDict[Hashable, None] = OrderedDict()
        self._works = True

    def __len__(self) -> int:
        return len(self._graphs)

    def run(self, key: Hashable, function: Function, x: Tensor) -> Sequence[Tensor]:
        """Return function(x); what it returns is overwritten by the next run of the same key.

        key : stands for the function and for the shape and type of x. To be called by one thread at a time.
        """
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key](x)
        if key not in self._met or not self._works:
            self._met[key] = None
            if len(self._met) > _REMEMBERED:
                self._met.popitem(last=False)
            return function(x)
        try:
            graph = Graph(function, x)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operation that this PyTorch cannot capture
            self._works = False
            _log.warning("CUDA graphs do not work here, single images take longer: %s", error)
            torch.cuda.synchronize()
            return function(x)
        self._graphs[key] = graph
        if len(self._graphs) > _KEPT:
            self._graphs.popitem(last=False)
        return graph(x)

    def clear(self) -> None:
        """Give the memory of all graphs back."""
        self._graphs.clear()
        self._met.clear()


class Graph:
    """A function of one tensor, captured for tensors like an example."""

    def __init__(self, function: Function, example: Tensor) -> None:
        self._x = example.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is set up on first use must not be captured
            for _ in range(2):
                function(self._x)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may prepare their own batches meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(self._x)

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        """Return the function of x, in tensors that the next call overwrites."""
        self._x.copy_(x)
        self._graph.replay()
        return self._outputs
