#!/usr/bin/env python
"""How fast: `python scripts/benchmark.py [--quick] [--device cpu|cuda] [--repeats N] [--out FOLDER] [--json]`.

Measures what a user waits for (the main job, a full probe, a diagnosis); plain PyTorch, this harness one trial at a time, and packs,
in turns within one run, with everything logged; then how the work around the training grows with the number of trials.
Half an hour and more on two quiet cores; `--quick` shows the shape.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from harness.configuration.result_folder import writable_folder
from harness.configuration.schema import PROJECT_ROOT
from harness.errors import RequestError

_SIZES = (10, 100, 1_000, 10_000)
_QUICK_SIZES = (10, 100)


def main(arguments: list[str] | None = None) -> int:
    """Print the page, or the numbers as JSON, and say where both and the figure are."""
    parser = argparse.ArgumentParser(
        description="Trials per minute of plain PyTorch, of this harness, and of packs; and how everything grows with the number of trials."
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="short trials, few pack sizes, one repeat: the shape of the answer, not the answer",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument(
        "--repeats", type=int, help="how often everything is measured (default: 3, with --quick 1)"
    )
    parser.add_argument(
        "--part",
        choices=("all", "jobs", "throughput", "growth"),
        default="all",
        help="measure only this (default: all)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=PROJECT_ROOT / "runs" / "benchmark",
        help="the folder to write (default: runs/benchmark)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the numbers as JSON instead of the page"
    )
    options = parser.parse_args(arguments)
    try:
        folder = writable_folder(options.out)
        if options.repeats is not None and options.repeats < 1:
            raise RequestError(f"--repeats {options.repeats}: expected an integer of at least 1")
        return _measure(options, folder)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(options: argparse.Namespace, folder: Path) -> int:
    from harness.training import (
        devices,
    )  # torch takes seconds, which a wrong request need not wait for

    device = devices.resolve(options.device)
    from harness.benchmark import cases, growth, jobs, machine, summary, throughput

    repeats = options.repeats or (1 if options.quick else 3)
    described = machine.describe(device)
    waited, results, grown = [], [], []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        if options.part == "jobs" or options.part == "all" and not options.quick:
            waited = jobs.measure(device, Path(scratch), _say)
        if options.part in ("all", "throughput"):
            for number, case in enumerate(cases.chosen(device.type, options.quick)):
                place = Path(scratch) / str(number)
                place.mkdir()
                results.append(throughput.measure(case, device, repeats, place, _say))
        if options.part in ("all", "growth"):
            grown = [
                growth.measure(size, Path(scratch), _say)
                for size in (_QUICK_SIZES if options.quick else _SIZES)
            ]
    folder.mkdir(parents=True, exist_ok=True)
    page, numbers = (
        summary.markdown(described, waited, results, grown, repeats),
        summary.as_dict(described, waited, results, grown),
    )
    (folder / "benchmark.md").write_text(page)
    (folder / "benchmark.json").write_text(json.dumps(numbers, indent=1) + "\n")
    if results:
        summary.plot(results, folder / "throughput.png")
    print(json.dumps(numbers, indent=1) if options.json else page)
    _say(f"Written to {folder}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
