"""`selu-collect`: writes the tidy tables of all trials."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from harness.commands.runs_option import add_runs_option
from harness.errors import RequestError
from harness.store.tables import collect
from harness.store.trials import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Writes RUNS/tables/{trials,curves,layers,histograms}.parquet and returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Write the tables of all trials and their layers to RUNS/tables as Parquet."
    )
    add_runs_option(parser)
    options = parser.parse_args(argv)
    try:
        tables = collect(Store.existing(options.runs))
        paths = tables.write(options.runs / "tables")
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in paths:
        table = getattr(tables, path.stem)
        print(f"{path}: {len(table)} rows, {len(table.columns)} columns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
