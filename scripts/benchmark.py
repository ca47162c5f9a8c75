#!/usr/bin/env python
"""Measures the speed of this harness beside plain PyTorch.

    python scripts/benchmark.py [--quick] [--device cpu|cuda] [--repeats N] [--out FOLDER]
                                [--readme PAGE] [--json]

It measures what a user waits for (the quickstart's sweep, a full probe, a diagnosis); then plain
PyTorch, this harness one trial at a time, and packs, in turns within one run and with everything
logged; then the training steps of each kind of network; then how the work around the training grows
with the number of trials; then what it costs that nothing is lost. `harness/benchmark` explains the
yardsticks. It takes half an hour and more on two quiet cores; `--quick` shows the shape of the
answer. Run nothing else meanwhile: multi-threaded timings suffer most from contention.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harness.benchmark.headline import headline
from harness.configuration.result_folder import writable_folder
from harness.configuration.schema import PROJECT_ROOT
from harness.errors import RequestError
from harness.reports.marks import with_part
from harness.sweeps.progress import answer


def main(arguments: list[str] | None = None) -> int:
    """Prints the page, or the numbers as JSON, and returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        folder = writable_folder(options.out)
        if options.repeats is not None and options.repeats < 1:
            raise RequestError(f"--repeats {options.repeats}: expected an integer of at least 1")
        # torch takes seconds to load, for which a wrong request need not wait.
        from harness.training import devices

        device = devices.resolve(options.device)
        if options.readme:
            _check_readme(options.readme, options.part)
        from harness.benchmark.parts import measure_and_write

        page, numbers = measure_and_write(
            folder, device, options.part, options.quick, options.repeats, _say
        )
        if options.readme:
            text = options.readme.read_text(encoding="utf-8")
            text = with_part(text, "speed", headline(numbers))
            options.readme.write_text(text, encoding="utf-8")
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    answer(json.dumps(numbers, indent=1) if options.json else page)
    _say(f"Written to {folder}")
    return 0


def _check_readme(path: Path, part: str) -> None:
    """Raises RequestError, before an hour of measuring, unless the page can take the numbers."""
    if part not in ("all", "throughput"):
        raise RequestError(f"--readme {path}: --part {part} measures no number of it")
    try:
        with_part(path.read_text(encoding="utf-8"), "speed", "")
    except OSError as error:
        raise RequestError(f"--readme {path}: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Trials per minute of plain PyTorch, of this harness, and of packs; and how "
        "everything grows with the number of trials."
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
        choices=("all", "jobs", "throughput", "networks", "growth", "durability"),
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
        "--readme",
        type=Path,
        help="also write the throughput in words into this page, between its lines speed:begin and "
        "speed:end",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the numbers as JSON instead of the page"
    )
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
