"""`selu-sync`: sends finished trials to MLflow that it does not have yet."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from tqdm import tqdm

from harness import tracking
from harness.commands.runs_option import add_runs_option
from harness.commands.set_aside import name_set_aside
from harness.commands.tracking_options import add_tracking_options
from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store import searches
from harness.store.trials import Store
from harness.sweeps.progress import answer

# Seconds between two lines of progress where there is no terminal.
_PLAIN_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Sends every finished trial that the tracking store does not have.

    Returns the exit code: 1 where some could not be sent or were set aside, 2 for a wrong request.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s")
    settings = TrackingConfig(uri=options.uri, experiment=options.experiment)
    try:
        store = Store.existing(options.runs.resolve())
        records, set_aside = store.read_all()
        set_aside |= searches.read_all(store.runs)[1]
        name_set_aside(set_aside)
        finished = [record.trial_id for record in records if record.finished]
        cells = [record.axes for record in records if record.finished]
        if not finished:
            answer(f"no finished trial in {store.runs}; nothing to send")
            return 1 if set_aside else 0
        tracker = tracking.open(settings, store.runs, cells=cells, at_once=False)
        with _bar(len(finished)) as bar:
            sent = tracker.log(store, finished, last=True, progress=bar.update)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if tracker.refusal is not None:
        return 2
    if not tracker.connected:
        return 1
    answer(_summary(sent, len(finished), len(tracker.faults)))
    for line in tracker.links():
        answer(line)
    return 1 if tracker.faults or set_aside else 0


def _bar(trials: int) -> tqdm:
    """Returns the progress on standard error; a line every ten seconds without a terminal."""
    live = sys.stderr.isatty()
    return tqdm(
        total=trials,
        unit=" trials",
        desc="MLflow",
        delay=0.5 if live else _PLAIN_SECONDS,
        mininterval=0.2 if live else _PLAIN_SECONDS,
        leave=False,
    )


def _summary(sent: int, finished: int, faults: int) -> str:
    text = f"{sent} trials sent, {finished - sent - faults} were there"
    return f"{text}, {faults} cannot be sent" if faults else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Send finished trials to MLflow that it does not have yet."
    )
    add_runs_option(parser)
    add_tracking_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
