"""`selu-verify`: checks that every done trial is whole, and in MLflow as it is in the store."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from harness import tracking
from harness.commands.runs_option import add_runs_option
from harness.commands.tracking_options import add_tracking_options
from harness.configuration.schema import TrackingConfig
from harness.errors import NotStored, RequestError
from harness.store import verification
from harness.store.records import Record
from harness.store.trials import Store
from harness.sweeps.progress import answer
from harness.tracking.run_verification import Runs, missing


def main(argv: Sequence[str] | None = None) -> int:
    """Prints every problem and the counts; returns the exit code.

    The exit code is 0 where all is well or everything was repaired, 1 where something is wrong, and
    2 for a wrong request.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s")
    settings = TrackingConfig(uri=options.uri, experiment=options.experiment)
    try:
        store = Store.existing(options.runs.resolve())
        records, problems = verification.problems(store)
        runs = Runs(settings, store.runs)
        unsent = missing(runs, records) if runs.exist else {}
        lines = list(problems.values())
        lines += [f"trial {trial_id} {problem}" for trial_id, problem in unsent.items()]
        lines.append(_summary(records, runs, len(problems) + len(unsent)))
        answer("\n".join(lines))
        if not options.repair:
            return 1 if problems or unsent else 0
        left = _set_aside(store, list(problems))
        by_id = {record.trial_id: record for record in records}
        left += _send(store, settings, runs, [by_id[trial_id] for trial_id in unsent])
    except (RequestError, NotStored) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    return 1 if left else 0


def _set_aside(store: Store, names: Sequence[str]) -> int:
    """Moves what is damaged out of the way; returns how many could not be moved."""
    left = 0
    for name in names:
        try:
            place = verification.set_aside(store, name)
        except verification.RepairedMeanwhile:
            answer(f"{name}: repaired meanwhile; left alone")
            continue
        if place is None:
            left += 1
            answer(f"{name}: a sweep is training it; left alone")
        else:
            answer(f"{name}: moved to {place}; the next sweep that asks for it makes it again")
    return left


def _send(store: Store, settings: TrackingConfig, runs: Runs, records: Sequence[Record]) -> int:
    """Sends trials again; returns the number of those that could not be sent."""
    if not records:
        return 0
    for record in records:
        runs.release(record)
    tracker = tracking.open(settings, store.runs, cells=[record.axes for record in records])
    sent = tracker.log(store, [record.trial_id for record in records], last=True)
    if tracker.refusal is not None:
        return len(records)
    answer(f"{sent} trials sent to MLflow")
    return len(tracker.missing) + len(tracker.faults)


def _summary(records: Sequence[Record], runs: Runs, problems: int) -> str:
    done = sum(record.finished for record in records)
    place = f"compared with {runs.shown}" if runs.exist else "no tracking store to compare with"
    problem_word = "problem" if problems == 1 else "problems"
    return f"{done} done trials are whole, {place}; {problems} {problem_word}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Check every done trial: whole, consistent with its id and its MLflow run."
    )
    add_runs_option(parser)
    add_tracking_options(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="send to MLflow what is missing there, and move what is damaged to RUNS/set_aside,"
        " so that the next sweep trains it again; nothing is deleted",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
