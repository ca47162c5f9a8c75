"""A CUDA device that this machine only pretends to have.

Most machines that run these tests have no GPU, yet most mistakes of code for a GPU are visible
without one: a tensor made on the host that meets one on the device, or an operation that makes the
host wait for a number. So within `with gpu:` there is a device "cuda" whose tensors lie in the
host's memory and only say that they lie on the device. Their numbers are real: a whole training
runs through the branches for a GPU, and must end as it ends on a CPU.

Two modes of torch see everything that happens meanwhile. One sees each call from Python, and so
knows which tensors are made on or moved to the device. The other sees each operation, those of the
backward pass included: it refuses to mix tensors of two places, puts results where the operands
lie, and notes what would make the host wait.

Pretended are the place of tensors, waiting, and free memory; not CUDA graphs, streams, pinned
memory, kernels, or their rounding. Training steps are launched, never recorded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import optimizer as torch_optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from harness.data import batches
from harness.training import capture, devices

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
# Operations that ask a GPU for a number, or for a shape that depends on numbers.
WAITING_OPERATIONS = {
    "_local_scalar_dense",
    "equal",
    "nonzero",
    "masked_select",
    "unique_dim",
    "_unique2",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
}
# Operations that may take tensors of two devices.
MOVING_OPERATIONS = {"copy_", "_to_copy"}


class MixedDevicesError(RuntimeError):
    """An operation was given tensors of two devices."""


class PretendedCuda:
    """Within `with gpu:` there is a device "cuda".

    Every block of memory has a place: "device", "host", or "either". The last is memory that torch
    made for itself within an operation; it is the device's once it meets a tensor of the device.

    Attributes:
        waits: the names of the calls and operations that made the host wait for the device.
        device: the device as tensors name it.
        error: what is raised where devices are mixed.
    """

    device = CUDA
    error = MixedDevicesError

    def __init__(self) -> None:
        self.waits: list[str] = []
        # By the address of the memory; the weak reference keeps the address from being used again.
        self._places: dict[int, tuple[StorageWeakRef, str]] = {}

    def __enter__(self) -> PretendedCuda:
        self._modes = _OperationMode(self), _CallMode(self)
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def put(self, tree: Any, place: str) -> None:
        """Sets the place of all tensors in nested lists, tuples and dicts."""
        for tensor in tensors_in(tree):
            unwrapped = _without_vmap(tensor)
            if not unwrapped.is_meta:
                storage = StorageWeakRef(unwrapped.untyped_storage())
                self._places[storage.cdata] = storage, place

    def place(self, tensor: Tensor) -> str:
        """Returns the place of a tensor; one that was never put anywhere is the host's."""
        unwrapped = _without_vmap(tensor)
        if unwrapped.is_meta:
            return "host"
        _, place = self._places.get(unwrapped.untyped_storage()._cdata, (None, "host"))
        return place

    def has(self, tensor: Tensor) -> bool:
        """Returns whether a tensor lies on the device."""
        return self.place(tensor) == "device"


def tensors_in(tree: Any) -> list[Tensor]:
    """Returns all tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if not isinstance(tree, (list, tuple)):
        return []
    tensors = []
    for part in tree:
        tensors += tensors_in(part)
    return tensors


def _without_vmap(tensor: Tensor) -> Tensor:
    """Returns a tensor without the wrappers of `vmap`, which torch opens by private names only."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


class _OperationMode(TorchDispatchMode):
    """Sees every operation: its tensors must lie in one place, and its results lie there too."""

    def __init__(self, gpu: PretendedCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        operands: dict[str, list[Tensor]] = {"device": [], "host": [], "either": []}
        for tensor in tensors_in((args, kwargs)):
            operands[self.gpu.place(tensor)].append(tensor)
        if operands["device"] and name not in MOVING_OPERATIONS:
            self._refuse_host_tensors(function, operands["host"])
            self._note_wait(name, args)
        if name == "copy_" and operands["device"] and operands["host"]:
            self.gpu.waits.append(name)
        output = function(*args, **(kwargs or {}))
        if name == "copy_":
            return output
        if operands["device"]:
            self.gpu.put((operands["either"], output), "device")
        elif not operands["host"]:
            self.gpu.put(output, "either")
        return output

    def _refuse_host_tensors(self, function, tensors: list[Tensor]) -> None:
        # A tensor without dimensions is handed to a kernel by value, wherever it lies.
        if any(tensor.dim() for tensor in tensors):
            raise MixedDevicesError(
                f"{function}: expected all tensors to be on the same device, "
                f"but found at least two, {CUDA} and {CPU}"
            )

    def _note_wait(self, name: str, args: tuple) -> None:
        indexes_by_mask = name.startswith("index") and any(
            index.dtype == torch.bool for index in tensors_in(args[1:])
        )
        if name in WAITING_OPERATIONS or indexes_by_mask:
            self.gpu.waits.append(name)


class _CallMode(TorchFunctionMode):
    """Sees every call from Python.

    It puts tensors that are made with `device="cuda"` or moved to it on the device, and answers
    where a tensor lies.
    """

    def __init__(self, gpu: PretendedCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if function == torch.Tensor.device.__get__:
            return CUDA if self.gpu.has(args[0]) else function(*args)
        if function == torch.Tensor.is_cuda.__get__:
            return self.gpu.has(args[0])
        if name == "pin_memory":
            return args[0]
        kwargs.pop("pin_memory", None)
        if name in ("numpy", "__array__") and self.gpu.has(args[0]):
            raise MixedDevicesError(
                "can't convert cuda:0 device type tensor to numpy. "
                "Use Tensor.cpu() to copy the tensor to host memory first."
            )
        if name == "tolist" and self.gpu.has(args[0]):
            self.gpu.waits.append(name)
        device = self._named_device(name, args, kwargs)
        if device is None or device.type == "meta":
            output = function(*args, **kwargs)
            if not tensors_in((args, kwargs)):
                self.gpu.put(output, "host")
            return output
        return self._call_for_device(function, args, kwargs, device)

    def _call_for_device(self, function, args: tuple, kwargs: dict, device: torch.device) -> Any:
        """Makes a call that names a device, in the host's memory."""
        place = "device" if device.type == "cuda" else "host"
        tensors = tensors_in((args, kwargs))
        output = function(*tree_map(_in_host_memory, args), **tree_map(_in_host_memory, kwargs))
        if not tensors and function is torch.tensor and place == "device":
            # The numbers come from Python, so the host waits until they are copied.
            self.gpu.waits.append("tensor")
        if tensors and {self.gpu.place(tensors[0]), place} == {"device", "host"}:
            if not kwargs.get("non_blocking"):
                self.gpu.waits.append(function.__name__)
            output = output.clone()  # otherwise one block of memory would lie in two places
        self.gpu.put(output, place)
        return output

    def _named_device(self, name: str, args: tuple, kwargs: dict) -> torch.device | None:
        """Returns the device that a call names, if any."""
        if name in ("cpu", "cuda"):
            return torch.device(name)
        candidates = [kwargs.get("device")]
        if name == "to":
            candidates += args[1:]
        for candidate in candidates:
            if isinstance(candidate, Tensor):
                return CUDA if self.gpu.has(candidate) else candidate.device
            if isinstance(candidate, (torch.device, str)):
                return torch.device(candidate)
        return None


def _in_host_memory(argument: Any) -> Any:
    """Returns the CPU for an argument that names the pretended device."""
    if isinstance(argument, (torch.device, str)) and str(argument).startswith("cuda"):
        return CPU
    return argument


class _SameThreadExecutor:
    """An executor without a thread, because a mode of torch sees its own thread alone."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __enter__(self) -> _SameThreadExecutor:
        return self

    def __exit__(self, *error: object) -> None: ...

    def submit(self, function, *args) -> _Done:
        return _Done(function(*args))


@dataclasses.dataclass
class _Done:
    outcome: Any

    def result(self) -> Any:
        return self.outcome


def _forget_cached_tensors() -> None:
    """Empties the caches of the probes, which keep tensors by device."""
    for name, module in list(sys.modules.items()):
        if name.startswith("harness.probes"):
            for member in list(vars(module).values()):
                if hasattr(member, "cache_clear"):
                    member.cache_clear()


@pytest.fixture
def gpu(monkeypatch) -> Iterator[PretendedCuda]:
    """A pretended device, with the functions of `torch.cuda` that the harness calls."""
    pretended = PretendedCuda()
    real_grouping = torch_optimizer._group_tensors_by_device_and_dtype

    def group_by_device(tensors, with_indices=False):
        # torch groups an optimizer's tensors in C++, where the modes cannot say where they lie.
        groups = {}
        for (device, dtype), group in real_grouping(tensors, with_indices).items():
            first_tensor = group[0][0][0]
            groups[CUDA if pretended.has(first_tensor) else device, dtype] = group
        return groups

    monkeypatch.setattr(torch_optimizer, "_group_tensors_by_device_and_dtype", group_by_device)
    monkeypatch.setattr(capture.CapturedStep, "__call__", lambda step: step.step())
    monkeypatch.setattr(batches, "ThreadPoolExecutor", _SameThreadExecutor)
    monkeypatch.setattr(devices, "on_thread_stream", contextlib.nullcontext)
    monkeypatch.setattr(devices, "wait_for_thread", lambda device: None)
    for name, answer in {
        "device_count": 1,
        "mem_get_info": (2**33, 2**34),
        "get_device_name": "pretended",
        "synchronize": None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda device=None, answer=answer: answer)
    _forget_cached_tensors()
    yield pretended
    _forget_cached_tensors()
