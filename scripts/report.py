#!/usr/bin/env python
"""Write the report: `python scripts/report.py [--runs DIR] [--out FOLDER] [--where axis=value,value ...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.errors import RequestError
from harness.reports.evidence import gather
from harness.store.tables import collect
from harness.store.trials import Store


def main(arguments: list[str] | None = None) -> int:
    """Print where the report is."""
    parser = argparse.ArgumentParser(
        description="One self-contained HTML report of all finished trials, with its tables as CSV."
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        help="the folder that holds trials/ (default: runs)",
    )
    parser.add_argument(
        "--out", type=Path, help="the folder to write (default: RUNS/reports/latest)"
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="AXIS=VALUE[,VALUE]",
        help="only trials with these values; may be repeated",
    )
    parser.add_argument(
        "--title",
        default="When do SELU's assumptions hold, and does it matter?",
        help="the report's title",
    )
    parser.add_argument("--quiet", action="store_true", help="print the path alone")
    options = parser.parse_args(arguments)
    folder = options.out or options.runs / "reports" / "latest"
    try:
        evidence = gather(
            collect(Store.existing(options.runs)), dict(_condition(text) for text in options.where)
        )
        from harness.reports import (
            report,
        )  # matplotlib takes a second, which a wrong request need not wait for

        path = report.write(evidence, folder, options.title)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: --out {folder} cannot be written: {error.strerror}; give a writable folder",
            file=sys.stderr,
        )
        return 2
    print(path.resolve() if options.quiet else f"Report: {path.resolve()}")
    return 0


def _condition(text: str) -> tuple[str, list[str]]:
    axis, equals, values = text.partition("=")
    if not equals or not values:
        raise RequestError(f"--where {text}: expected axis=value or axis=value,value")
    return axis, values.split(",")


if __name__ == "__main__":
    sys.exit(main())
