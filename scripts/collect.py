#!/usr/bin/env python
"""Make the tidy tables of all trials: `python scripts/collect.py [--runs FOLDER]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.configuration.schema import PROJECT_ROOT
from harness.errors import RequestError
from harness.store.tables import collect
from harness.store.trials import Store


def main(arguments: list[str] | None = None) -> int:
    """Write runs/tables/{trials,curves,layers}.parquet."""
    parser = argparse.ArgumentParser(
        description="Write the tables of all trials, curves and layers to RUNS/tables as Parquet."
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=PROJECT_ROOT / "runs",
        help="the folder that holds trials/ (default: the project's runs)",
    )
    options = parser.parse_args(arguments)
    try:
        tables = collect(Store.existing(options.runs))
        paths = tables.write(options.runs / "tables")
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, table in zip(paths, (tables.trials, tables.curves, tables.layers), strict=True):
        print(f"{path}: {len(table)} rows, {len(table.columns)} columns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
