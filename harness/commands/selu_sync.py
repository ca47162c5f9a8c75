"""`selu-sync`: sends finished trials to MLflow that it does not have yet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from harness import tracking
from harness.commands.runs_option import add_runs_option
from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store.trials import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Sends every finished trial that was not sent to this place before.

    Returns the exit code, which is 1 where some could not be sent.
    """
    options = _parser().parse_args(argv)
    settings = TrackingConfig(uri=options.uri, experiment=options.experiment)
    try:
        store = Store.existing(options.runs.resolve())
        finished = [record.trial_id for record in store.records() if record.finished]
        tracker = tracking.open(settings, store.runs)
        sent = tracker.log(store, finished)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not tracker.connected:
        return 1
    print(f"{sent} trials sent, {len(finished) - sent} were there")
    for line in tracker.links():
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Send finished trials to MLflow that it does not have yet."
    )
    add_runs_option(parser)
    parser.add_argument("--uri", help="the tracking server or database (default: RUNS/mlflow.db)")
    parser.add_argument(
        "--experiment",
        default=TrackingConfig.experiment,
        help="the experiment's name (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
