"""Trials of a store become runs: read, judged, begun, given their files, and ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from harness.store import searches
from harness.store.trials import Store
from harness.tracking import contents, histogram_figure, profile_figure, run_files, trial_page
from harness.tracking.failures import first_line
from harness.tracking.metric_batches import batches
from harness.tracking.outgoing import Outgoing
from harness.tracking.presence import Run
from harness.tracking.run_writer import Begun, RunWriter

# The number of trials in a group: large enough that what is done once for a group costs little,
# small enough that a lock is soon free again.
GROUP = 64
_COLUMNS = {
    *contents.COLUMNS,
    *histogram_figure.COLUMNS,
    *profile_figure.COLUMNS,
    *trial_page.columns(),
}


class Sent(NamedTuple):
    """A trial with its complete run, or with the fault for which it has none.

    `ended` is when the training ended that the run tells of, in ISO 8601, or None.
    """

    trial_id: str
    run_id: str = ""
    fault: str = ""
    ended: str | None = None


class TrialSender:
    """Sends trials of a store that have no run yet.

    Args:
        writer: writes the runs.
        store: the trials.
        figures: gives runs a figure and a page.
        differing: the axes that names of runs begin with.
    """

    def __init__(
        self, writer: RunWriter, store: Store, *, figures: bool, differing: Sequence[str]
    ) -> None:
        self._writer = writer
        self._store = store
        self._figures = figures
        self._differing = differing

    def send(self, trial_ids: Sequence[str]) -> Iterator[Sent]:
        """Sends trials; gives each when its run is complete, or with its fault.

        Raises:
            Exception: whatever stopped it at the next trial; those before are complete.
        """
        for group in batches(trial_ids, GROUP):
            trials = []
            for trial_id in group:
                try:
                    trials.append(self._prepared(trial_id))
                except Exception as error:  # of any kind: the other trials are none the worse
                    yield Sent(trial_id, fault=first_line(error))
            size = GROUP if self._writer.in_bulk else 1
            for part in batches(self._with_runs(self._with_verdicts(trials)), size):
                yield from self._ended(part)

    def _prepared(self, trial_id: str) -> Outgoing:
        record = self._store.read(trial_id)
        layers = record.columns("layers", _COLUMNS)
        run = contents.contents(record, layers, self._differing)
        run.tags.update(searches.tags(self._store.runs, trial_id))
        return Outgoing(record, layers, run)

    def _with_verdicts(self, trials: Sequence[Outgoing]) -> list[Outgoing]:
        """Returns the trials with the verdicts of those whose run gets a figure and a page."""
        if not self._figures:
            return list(trials)
        drawn = [trial for trial in trials if len(trial.layers["layer"])]
        others = [trial for trial in trials if not len(trial.layers["layer"])]
        try:
            verdicts = trial_page.judge([trial.layers for trial in drawn])
        except Exception:  # of any kind: it is one of them that cannot be judged
            return others + [_judged_alone(trial) for trial in drawn]
        judged = [replace(trial, judged=one) for trial, one in zip(drawn, verdicts, strict=True)]
        return sorted(others + judged, key=lambda trial: trial.record.trial_id)

    def _with_runs(self, trials: Sequence[Outgoing]) -> Iterator[Outgoing]:
        """Gives the trials with their runs begun and their files written."""
        for faulty in trials:
            if faulty.fault:
                yield faulty
        sound = [trial for trial in trials if not trial.fault]
        size = GROUP if self._writer.in_bulk else 1
        for part in batches(sound, size):
            begun = self._writer.begin([trial.contents for trial in part])
            for trial, run in zip(part, begun, strict=True):
                yield self._with_files(trial, run)

    def _with_files(self, trial: Outgoing, run: Begun) -> Outgoing:
        trial = replace(trial, run_id=run.run_id, place=run.place, fault=run.fault)
        if trial.fault:
            return trial
        try:
            with run_files.folder_of(self._writer.client, trial) as folder:
                run_files.write(folder, trial)
        except (OSError, MlflowException):
            # Of the tracking store's making, unless the trial's own files cannot be read.
            damage = self._store.damage(trial.record.trial_id, thorough=True)
            if damage is None:
                raise
            self._writer.delete([Run(trial.run_id, "")])
            return replace(trial, fault=damage)
        except Exception as error:  # of any kind: this trial cannot be drawn
            self._writer.delete([Run(trial.run_id, "")])
            return replace(trial, fault=first_line(error))
        return trial

    def _ended(self, trials: Sequence[Outgoing]) -> Iterator[Sent]:
        sound = [trial for trial in trials if not trial.fault]
        self._writer.end({trial.run_id: trial.contents.ended for trial in sound})
        for trial in trials:
            record = trial.record
            yield Sent(record.trial_id, trial.run_id, trial.fault, record.ended)


def _judged_alone(trial: Outgoing) -> Outgoing:
    try:
        verdicts: list[Mapping[str, NDArray]] = [*trial_page.judge([trial.layers])]
    except Exception as error:  # of any kind: this is the one
        return replace(trial, fault=first_line(error))
    return replace(trial, judged=verdicts[0])
