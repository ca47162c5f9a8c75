"""Devices: the one that a trial runs on, and the switches that must be set there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from harness.data.gpu_memory import free_gpu_memory
from harness.errors import RequestError

# Wordings of errors about memory that torch does not raise as its own type: the host's allocator,
# the CUDA driver, and libraries such as cuBLAS that allocate by themselves.
_OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "_STATUS_ALLOC_FAILED",
)


# One stream per device and thread: cuBLAS keeps memory for every stream that it ever saw.
_thread_streams: dict[tuple[torch.device, int], torch.cuda.Stream] = {}


def resolve(device: str, precision: str = "float32") -> torch.device:
    """Returns the device that a request names, after checking that it is there.

    Args:
        device: `auto` (the first GPU where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`.
        precision: `float32`, `tf32` or `bfloat16`; the last two need a GPU.

    Raises:
        RequestError: another device, or one that is not there or does not offer the precision.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    expected = f"device={device}: expected auto, cpu, cuda or cuda:N"
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise RequestError(expected) from None
    # torch knows more devices, on which nothing here was tried.
    if resolved.type not in ("cpu", "cuda"):
        raise RequestError(expected)
    if resolved.type == "cuda":
        count = torch.cuda.device_count()
        if (resolved.index or 0) >= count:
            raise RequestError(
                f"device={device} is not there: this machine has {count} CUDA device(s); "
                "use device=auto or device=cpu"
            )
    elif precision != "float32":
        raise RequestError(
            f"precision={precision} needs a CUDA device, and this runs on {resolved}; "
            "use precision=float32"
        )
    return resolved


def prepare(device: torch.device, precision: str) -> None:
    """Sets the process-wide switches of torch's arithmetic.

    Denormal numbers are flushed to zero, because they slow a CPU down a hundredfold. On a GPU
    products of float32 matrices use TF32 only with `precision="tf32"`.
    """
    torch.set_flush_denormal(True)
    if device.type == "cuda":
        products = "tf32" if precision == "tf32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = products
        torch.backends.cudnn.conv.fp32_precision = products


@contextlib.contextmanager
def exact_products(device: torch.device, precision: str) -> Iterator[None]:
    """Computes float32 products in float32 within the context, whatever training uses.

    Probes and evaluations run in it, so that lower precision in training does not blur what is
    measured. `precision` is the training's, which is set again at the end.
    """
    prepare(device, "float32")
    try:
        yield
    finally:
        prepare(device, precision)


def thread_stream(device: torch.device) -> torch.cuda.Stream:
    """Returns the calling thread's own stream on a GPU, beside the one that all threads share."""
    key = device, threading.get_ident()
    if key not in _thread_streams:
        _thread_streams[key] = torch.cuda.Stream(device)
    return _thread_streams[key]


@contextlib.contextmanager
def on_thread_stream(device: torch.device) -> Iterator[None]:
    """Gives a GPU the work of the context on the thread's own stream.

    The work of several threads then overlaps. What they were given before is finished first, and
    the shared stream goes on behind the context's work. A CPU has no streams.
    """
    if device.type != "cuda":
        yield
        return
    shared, own = torch.cuda.current_stream(device), thread_stream(device)
    own.wait_stream(shared)
    with torch.cuda.stream(own):
        yield
    shared.wait_stream(own)


def free_memory(device: torch.device) -> int:
    """Returns the bytes that a pack may hope for on a GPU, or in the host's memory."""
    if device.type == "cuda":
        return free_gpu_memory(device)
    with open("/proc/meminfo") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    kibibytes = int(fields["MemAvailable"].split()[0])
    return kibibytes * 1024


def out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory did not suffice, on the host or on a GPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY_WORDS)


def describe(device: torch.device) -> str:
    """Returns a device's name for results: the GPU's model, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def wait_for_thread(device: torch.device) -> None:
    """Waits until a GPU has done what the calling thread's current stream was given."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def wait(device: torch.device) -> None:
    """Waits until a GPU has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
