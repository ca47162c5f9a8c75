"""The machine in words and numbers, and the rates of matrix products that it reaches."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from harness.benchmark import jax_peer
from harness.training import devices

# Side of the square matrices: large enough for the best rate of either type of device, small
# enough for a fraction of a second.
_SIDE = {"cpu": 2048, "cuda": 8192}
# A product is repeated for this long.
_SECONDS = 0.5
# Between two looks at the memory of a process.
_LOOK_SECONDS = 0.05


def describe(device: torch.device) -> dict[str, str | int | float]:
    """Returns processor, cores, threads, memory, load, device and versions, by name."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    description: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "device": devices.describe(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_instruction_set": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        device_bytes = torch.cuda.get_device_properties(device).total_memory
        description["cuda"] = str(torch.version.cuda)
        description["device_memory_gib"] = round(device_bytes / 2**30, 1)
    return description


def product_rate(device: torch.device) -> float:
    """Returns the FLOP/s of one large square float32 matrix product: what the machine reaches.

    It is the best of half a second of repeats of each library that is there, because none is the
    fastest on every processor.
    """
    devices.prepare(device, "float32")
    side = _SIDE[device.type]
    left = torch.randn(side, side, device=device)
    right = torch.randn(side, side, device=device)
    seconds = [_best_seconds(product, device) for product in _products(left, right)]
    return 2 * side**3 / min(seconds)


def _products(left: Tensor, right: Tensor) -> list[Callable[[], object]]:
    """Returns the product of two matrices, by each library that can be called here."""
    out = torch.empty_like(left)
    products: list[Callable[[], object]] = [lambda: torch.mm(left, right, out=out)]
    if left.device.type != "cpu":
        return products
    if torch.backends.mkldnn.is_available():
        of_one_dnn = left.to_mkldnn(), right.to_mkldnn()
        products.append(lambda: functional.linear(*of_one_dnn))
    if jax_peer.why_absent(left.device) is None:
        import jax

        of_jax = jax.jit(jax.numpy.matmul)
        operands = [jax.numpy.asarray(matrix.numpy()) for matrix in (left, right)]
        products.append(lambda: of_jax(*operands).block_until_ready())
    return products


def batched_rate(device: torch.device, trials: int, batch: int, units: int) -> float:
    """Returns the FLOP/s of the products of one square layer of a pack, forward and backward.

    It is the limit for networks of such layers.

    Args:
        device: where to measure.
        trials: the trials of the pack.
        batch: samples per trial.
        units: inputs and outputs of the layer.
    """
    inputs = torch.randn(trials, batch, units, device=device)
    gradient = torch.randn(trials, batch, units, device=device)
    weight = torch.randn(trials, units, units, device=device)

    def layer() -> None:
        torch.bmm(inputs, weight.transpose(1, 2))
        torch.bmm(gradient, weight)
        torch.bmm(gradient.transpose(1, 2), inputs)

    flops = 3 * 2 * trials * batch * units**2
    return flops / _best_seconds(layer, device)


def peak_memory(device: torch.device) -> int:
    """Returns the most bytes that were held since `reset_peak_memory`.

    Of a GPU those of torch's allocator, else those of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _most_held("self")


def run_to_end(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, int]:
    """Runs a command without its output; returns its seconds and the most bytes that it held.

    The system's own account of a process that ended begins with what its parent held, so the
    process is asked while it runs.

    Raises:
        RuntimeError: it fails.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    most = 0
    while process.poll() is None:
        most = max(most, _most_held(str(process.pid)))
        time.sleep(_LOOK_SECONDS)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, most


def _most_held(process: str) -> int:
    """Returns the most bytes that a process held since its peak was forgotten; 0 at its end."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    status = dict(line.split(":", 1) for line in lines)
    kibibytes = status.get("VmHWM", "0 kB").split()[0]
    return int(kibibytes) * 1024


def reset_peak_memory(device: torch.device) -> None:
    """Forgets the peak so far, where the system allows that.

    Some sandboxes forbid it; the peak is then that of the whole process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Returns the seconds of the fastest of half a second of calls."""
    work()
    best = float("inf")
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        devices.wait(device)
        started = time.perf_counter()
        work()
        devices.wait(device)
        best = min(best, time.perf_counter() - started)
    return best


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
