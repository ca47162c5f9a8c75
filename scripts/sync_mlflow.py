#!/usr/bin/env python
"""Send to MLflow what it does not have yet: `python scripts/sync_mlflow.py [--runs DIR] [--uri URI] [--experiment NAME]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness import tracking
from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store.trials import Store


def main(arguments: list[str] | None = None) -> int:
    """Send every finished trial that was not sent to this place before; exit code 1 when some could not be sent."""
    parser = argparse.ArgumentParser(
        description="Send finished trials to MLflow that it does not have yet."
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        help="the folder that holds trials/ (default: runs)",
    )
    parser.add_argument("--uri", help="the tracking server or database (default: RUNS/mlflow.db)")
    parser.add_argument(
        "--experiment",
        default=TrackingConfig.experiment,
        help="the experiment's name (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        store = Store.existing(options.runs.resolve())
        finished = [record.trial_id for record in store.records() if record.finished]
        tracker = tracking.open(
            TrackingConfig(uri=options.uri, experiment=options.experiment), store.runs
        )
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


if __name__ == "__main__":
    sys.exit(main())
