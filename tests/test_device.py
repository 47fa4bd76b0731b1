"""Devices by name, and what they say when their memory does not suffice."""

import sys
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spx_cli import device
from spx_cli.errors import DeviceError, OutOfMemory, ParameterError
from spx_cli.methods import _association, _feedforward, create
from spx_cli.methods._graphs import Graphs
from spx_cli.pool import cores


def test_device_names():
    assert device.pick("cpu").type == "cpu"
    assert device.pick("auto").type in ("cpu", "cuda")
    with pytest.raises(ParameterError, match="auto, cpu, cuda"):
        create("ssn", device="gpu")
    with pytest.raises(DeviceError, match="cuda:99"):
        device.pick("cuda:99")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.18 GiB",
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in the documentation.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_want_of_memory_is_told_in_whatever_words(said):
    with pytest.raises(OutOfMemory) as caught, device.within_memory():
        raise RuntimeError(said)
    assert str(caught.value) in said
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="another error"), device.within_memory():
        raise RuntimeError("another error")


def test_no_silent_fallback(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA"):
        create("ssn", device="cuda").segment(np.zeros((40, 60, 3), np.uint8), 4)


def test_what_a_failed_attempt_holds_is_given_back():
    held = []

    def attempt():
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise RuntimeError("in some library\nCUDA error: out of memory")

    with pytest.raises(OutOfMemory, match=r"^CUDA error: out of memory$"), device.within_memory():
        attempt()
    assert held[0]() is None


def test_want_of_memory_is_no_want_of_triton(monkeypatch):
    def full(*args, **options):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(_association, "torch", SimpleNamespace(zeros=full))
    monkeypatch.setitem(sys.modules, "spx_cli.methods._association.fused", SimpleNamespace())
    monkeypatch.setattr(_association, "fused", SimpleNamespace(hard_labels=full), raising=False)
    with pytest.raises(RuntimeError, match="out of memory"):
        _association.fused_kernels(torch.device("cuda"))


def test_graphs_are_dropped_in_ones_turn(monkeypatch):
    inside = []

    @contextmanager
    def turn(*args):
        inside.append(True)
        try:
            yield
        finally:
            inside.pop()

    class Kept(Graphs):
        def clear(self):
            assert inside
            cleared.append(True)

    def infer(images):
        raise OutOfMemory("full")

    cleared = []
    monkeypatch.setattr(device, "turn", turn)
    with pytest.raises(OutOfMemory):
        _feedforward.run(infer, [np.zeros((4, 4, 3), np.uint8)], torch.device("cpu"), Kept(), "key")
    assert cleared


@pytest.mark.parametrize("name", ["rim", "slic"])
def test_identities_name_the_device_by_what_it_is(name):
    assert f"device='{device.of(create(name, device='auto'))}'" in create(name, device="auto").identity()


def test_processes():
    with_gpu, without = SimpleNamespace(device="cuda:0"), SimpleNamespace()
    assert device.processes(3, [with_gpu]) == 3
    assert device.processes(0, [without]) == cores()
    assert device.processes(0, [without, with_gpu]) == max(1, cores() // 4)
