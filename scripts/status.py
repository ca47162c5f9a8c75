#!/usr/bin/env python
"""How far a sweep is: `python scripts/status.py [--runs FOLDER] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harness.configuration.schema import PROJECT_ROOT
from harness.errors import RequestError
from harness.store import status as progress
from harness.store.trials import Store
from harness.sweeps.progress import answer


def main(arguments: list[str] | None = None) -> int:
    """Print the counts, the failures and every cell's progress."""
    parser = argparse.ArgumentParser(
        description="Counts of trials, failures with their last error line, progress by cell."
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=PROJECT_ROOT / "runs",
        help="the folder that holds trials/ (default: the project's runs)",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    options = parser.parse_args(arguments)
    try:
        state = progress.survey(Store.existing(options.runs))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    answer(json.dumps(state.as_dict(), indent=1) if options.json else "\n".join(state.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
