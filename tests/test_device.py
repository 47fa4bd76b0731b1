"""Devices by name, and what they say when their memory does not suffice."""

import numpy as np
import pytest

from spx_cli import device
from spx_cli.errors import DeviceError, OutOfMemory, ParameterError
from spx_cli.methods import create


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
