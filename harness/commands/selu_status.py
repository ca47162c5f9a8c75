"""`selu-status`: shows the progress of a sweep."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from harness.commands.runs_option import add_runs_option
from harness.errors import RequestError
from harness.store.status import survey
from harness.store.trials import Store
from harness.sweeps.progress import answer


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the counts, the failures and every cell's progress; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Counts of trials, failures with their last error line, progress by cell."
    )
    add_runs_option(parser)
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    options = parser.parse_args(argv)
    try:
        progress = survey(Store.existing(options.runs))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        answer(json.dumps(progress.as_dict(), indent=1))
    else:
        answer("\n".join(progress.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
