"""The parts of the benchmark, measured in turn and written to a folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.benchmark import (
    durability,
    growth,
    jobs,
    machine,
    network_kinds,
    summary,
    throughput,
)
from harness.benchmark.cases import cases_for
from harness.benchmark.summary import Results
from harness.benchmark.throughput_figure import plot

# Numbers of trials for which growth is measured.
_SIZES = (10, 100, 1_000, 10_000)
_QUICK_SIZES = (10, 100)
_REPEATS = 3
_QUICK_REPEATS = 1


@dataclass(frozen=True)
class _Extent:
    """The parts that are measured, and how thoroughly; see `measure_and_write`."""

    part: str
    quick: bool
    repeats: int

    def includes(self, part: str, when_quick: bool = True) -> bool:
        """Returns whether a part is measured.

        Args:
            part: its name.
            when_quick: whether it belongs to the whole benchmark in its quick form, too.
        """
        return self.part == part or (self.part == "all" and (when_quick or not self.quick))


def measure_and_write(
    folder: Path,
    device: torch.device,
    part: str,
    quick: bool,
    repeats: int | None,
    say: Callable[[str], None],
) -> tuple[str, dict[str, Any]]:
    """Measures parts of the benchmark, and writes the page, the numbers and the figure.

    Args:
        folder: receives `benchmark.md`, `benchmark.json` and `throughput.png`, after every part.
        device: the device that is measured.
        part: `jobs`, `throughput`, `networks`, `growth`, `durability`, or `all`.
        quick: measures short trials, few pack sizes and few trials: the shape of the answer. The
            jobs, the kinds of networks and durability are then left out of `all`.
        repeats: how often everything is measured; None for the usual number.
        say: is told every result as it comes.

    Returns:
        The page and the numbers.
    """
    if repeats is None:
        repeats = _QUICK_REPEATS if quick else _REPEATS
    extent = _Extent(part, quick, repeats)
    results = Results(machine.describe(device))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for _ in _measured(results, device, extent, Path(scratch), say):
            # Whoever stops a benchmark of an hour keeps what it has.
            _write(folder, results, repeats)
    return summary.markdown(results, repeats), summary.as_dict(results)


def _measured(
    results: Results,
    device: torch.device,
    extent: _Extent,
    scratch: Path,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Adds one part after the other to the results, and yields after each."""
    repeats = extent.repeats
    if extent.includes("jobs", when_quick=False):
        results.jobs = jobs.measure(device, scratch, say)
        yield
    if extent.includes("throughput"):
        for number, case in enumerate(cases_for(device.type, extent.quick)):
            case_folder = scratch / str(number)
            case_folder.mkdir()
            results.throughput.append(throughput.measure(case, device, repeats, case_folder, say))
            yield
    if extent.includes("networks", when_quick=False):
        results.networks = network_kinds.measure(device, repeats, scratch, say)
        yield
    if extent.includes("growth"):
        sizes = _QUICK_SIZES if extent.quick else _SIZES
        results.growth = [growth.measure(size, scratch, say) for size in sizes]
        yield
    if extent.includes("durability", when_quick=False):
        results.durability = durability.measure(device, scratch, extent.quick, say)
        yield


def _write(folder: Path, results: Results, repeats: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.md").write_text(summary.markdown(results, repeats))
    numbers = json.dumps(summary.as_dict(results), indent=1)
    (folder / "benchmark.json").write_text(f"{numbers}\n")
    if results.throughput:
        plot(results.throughput, folder / "throughput.png")
