#!/usr/bin/env python
"""Prints what a monitor costs in a training loop.

Usage: `python scripts/benchmark_monitor.py [--steps STEPS]`.
"""

from __future__ import annotations

import argparse
import sys

from harness.benchmark.monitor_cost import measure_monitor
from harness.sweeps.progress import answer


def main(arguments: list[str] | None = None) -> int:
    """Prints the monitor's share of the loop's time."""
    parser = argparse.ArgumentParser(description="The time that a monitor takes of a loop.")
    parser.add_argument("--steps", type=int, default=2_000, help="steps of the loop")
    options = parser.parse_args(arguments)
    cost = measure_monitor(options.steps)
    answer(
        f"{cost.steps} steps take {cost.alone:.2f} s alone and {cost.watched:.2f} s with a monitor "
        f"of {cost.probes} probes: {cost.share:.1%} (target: below 5 %); the first and the last "
        f"probe take {cost.ends:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
