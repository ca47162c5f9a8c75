#!/usr/bin/env python
"""Prints accuracy and speed of the theory beside their targets.

Usage: `python scripts/benchmark_theory.py [--json]`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from harness.benchmark.theory_targets import Measurement, measure_all
from harness.sweeps.progress import answer


def main(arguments: list[str] | None = None) -> int:
    """Prints every measurement beside its target; returns 1 if one is missed."""
    parser = argparse.ArgumentParser(
        description="Accuracy and speed of the theory against their targets (about a minute)."
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    options = parser.parse_args(arguments)
    measurements = measure_all()
    if options.json:
        rows = [asdict(measurement) | {"met": measurement.met} for measurement in measurements]
        answer(json.dumps(rows, indent=1))
    else:
        for measurement in measurements:
            answer(_line(measurement))
    return 0 if all(measurement.met for measurement in measurements) else 1


def _line(measurement: Measurement) -> str:
    verdict = "met" if measurement.met else "MISSED"
    return (
        f"{measurement.name:<50}{measurement.measured:>10.2e}  "
        f"target {measurement.target:<8.0e}{verdict:<8}{measurement.unit}"
    )


if __name__ == "__main__":
    sys.exit(main())
