"""`selu-collect`: writes the tidy tables of all trials."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from harness.commands.runs_option import add_runs_option
from harness.commands.set_aside import name_set_aside
from harness.errors import RequestError
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps.progress import answer
from harness.verdicts.judging import judge_tables


def main(argv: Sequence[str] | None = None) -> int:
    """Writes RUNS/tables/{trials,curves,layers,histograms}.parquet and returns the exit code.

    Trials of an earlier version of the criteria are judged anew.
    """
    parser = argparse.ArgumentParser(
        description="Write the tables of all trials and their measurements as Parquet."
    )
    add_runs_option(parser)
    options = parser.parse_args(argv)
    try:
        tables = collect(Store.existing(options.runs))
        trials, layers = judge_tables(tables.trials, tables.layers)
        tables = dataclasses.replace(tables, trials=trials, layers=layers)
        paths = tables.write(options.runs / "tables")
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    name_set_aside(tables.set_aside)
    for path in paths:
        table = getattr(tables, path.stem)
        answer(f"{path}: {len(table)} rows, {len(table.columns)} columns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
