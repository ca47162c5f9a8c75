"""`selu-status`: shows the progress of a sweep."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence

from harness.commands.runs_option import add_runs_option
from harness.errors import RequestError
from harness.store.status import Progress, survey
from harness.store.trials import Store
from harness.sweeps.progress import answer

_WATCH_SECONDS = 5.0
_SHORTEST_WATCH = 0.1
# The cursor to the top left, and everything after it cleared.
_CLEAR = "\x1b[H\x1b[2J"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the counts, the failures and every cell's progress; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Counts of trials, failures with their last error line, progress by cell."
    )
    add_runs_option(parser)
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=_WATCH_SECONDS,
        metavar="SECONDS",
        help="show it again every so often until Ctrl-C (default: %(const)g seconds)",
    )
    options = parser.parse_args(argv)
    try:
        # One store for all surveys: it keeps which trials it found whole.
        store = Store.existing(options.runs)
        shown = _show(survey(store), as_json=options.json)
        while shown and options.watch is not None:
            time.sleep(options.watch)
            shown = _begin_page() and _show(survey(store), as_json=options.json)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _show(progress: Progress, *, as_json: bool) -> bool:
    """Prints a survey; returns False where nobody reads any more."""
    text = json.dumps(progress.as_dict(), indent=1) if as_json else "\n".join(progress.lines())
    return answer(text)


def _begin_page() -> bool:
    """Clears a terminal; in a file or a pipe an empty line parts the pages."""
    return answer(_CLEAR if sys.stdout.isatty() else "")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST_WATCH <= seconds < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text}: expected a number of seconds, at least {_SHORTEST_WATCH:g}"
        )
    return seconds


if __name__ == "__main__":
    sys.exit(main())
