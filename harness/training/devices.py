"""Which device a trial runs on, and what has to be set there once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from harness.data.gpu_memory import free_gpu_memory
from harness.errors import RequestError

_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


def resolve(device: str, precision: str = "float32") -> torch.device:
    """The device that `device=auto|cpu|cuda|cuda:N` names; auto is the first GPU where there is one.

    Raises:
        RequestError: a device that is not there, or a precision that it does not offer.
    """
    try:
        chosen = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        )
    except RuntimeError:
        raise RequestError(f"device={device}: expected auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda":
        there = torch.cuda.device_count()
        if (chosen.index or 0) >= there:
            raise RequestError(
                f"device={device} is not there: this machine has {there} CUDA device(s); use device=auto or device=cpu"
            )
    elif precision != "float32":
        raise RequestError(
            f"precision={precision} needs a CUDA device, and this runs on {chosen}; use precision=float32"
        )
    return chosen


def prepare(device: torch.device, precision: str) -> None:
    """Set the process-wide switches for numbers: no denormals on a CPU, where they cost a hundredfold, and tf32 only by choice."""
    torch.set_flush_denormal(True)
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        torch.backends.cudnn.conv.fp32_precision = "tf32" if precision == "tf32" else "ieee"


@contextlib.contextmanager
def exact_products(device: torch.device, precision: str) -> Iterator[None]:
    """Within the context float32 products are float32 whatever `precision` the training uses: for what is measured."""
    prepare(device, "float32")
    try:
        yield
    finally:
        prepare(device, precision)


def free_memory(device: torch.device) -> int:
    """Bytes that a pack may hope for: free memory of a GPU, or available memory of the host."""
    if device.type == "cuda":
        return free_gpu_memory(device)
    with open("/proc/meminfo") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: torch's allocators say it, and so do the driver and libraries with memory of their own."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in str(error) for words in _NO_MEMORY
    )


def describe(device: torch.device) -> str:
    """A device in words, for results."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
