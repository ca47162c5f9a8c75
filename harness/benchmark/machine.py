"""The machine in words and in numbers: what it is, and the matrix products that it reaches."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

import torch

from harness.training import devices

# Large enough for the best rate of either kind of device, small enough for a fraction of a second.
_SIDE = {"cpu": 2048, "cuda": 8192}
_SECONDS = 0.5


def describe(device: torch.device) -> dict[str, str | int | float]:
    """Processor, cores, threads, memory, device and versions."""
    words: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "device": devices.describe(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        words |= {
            "cuda": str(torch.version.cuda),
            "device_memory_gib": round(
                torch.cuda.get_device_properties(device).total_memory / 2**30, 1
            ),
        }
    return words


def product_rate(device: torch.device, precision: str = "float32") -> float:
    """FLOP/s of one large square matrix product, the best of half a second of repeats: what the machine reaches for this precision."""
    devices.prepare(device, precision)
    side = _SIDE[device.type]
    left, right = (
        torch.randn(
            side,
            side,
            device=device,
            dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32,
        )
        for _ in range(2)
    )
    out = torch.empty_like(left)
    return 2 * side**3 / _best_seconds(lambda: torch.mm(left, right, out=out), device)


def batched_rate(device: torch.device, trials: int, batch: int, units: int) -> float:
    """FLOP/s of the products of one square layer of a pack, forward and back: the limit for networks of such layers."""
    inputs, gradient = (torch.randn(trials, batch, units, device=device) for _ in range(2))
    weight = torch.randn(trials, units, units, device=device)

    def layer() -> None:
        torch.bmm(inputs, weight.transpose(1, 2))
        torch.bmm(gradient, weight)
        torch.bmm(gradient.transpose(1, 2), inputs)

    return 3 * 2 * trials * batch * units**2 / _best_seconds(layer, device)


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that the GPU's allocator held since `reset_peak_memory`, or the most that the process ever held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peak so far, where the system allows that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # some sandboxes forbid it: the peak is then that of the whole process so far
        return


def cpu_seconds() -> float:
    """Processor time of this process so far, all threads together."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _best_seconds(work, device: torch.device) -> float:
    work()
    best, ends = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < ends:
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
