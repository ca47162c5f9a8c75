"""Verification of runs: every done trial has one complete run, which says what the trial says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store.records import Record
from harness.tracking import address
from harness.tracking.contents import TRIAL_TAG, score_metrics
from harness.tracking.failures import cause

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

# A run that no longer stands for its trial keeps the trial's id under this tag.
_FORMER_TAG = "former_trial_id"
# Two ways of writing one number differ by less.
_TOLERANCE = 1e-9


class Runs:
    """The runs of an experiment, by the id of their trial.

    Args:
        settings: the tracking store and the experiment.
        runs: the folder of the store.

    Raises:
        RequestError: the tracking store cannot be asked.
    """

    def __init__(self, settings: TrackingConfig, runs: Path) -> None:
        self._place = address.resolve(settings, runs)
        self._runs: dict[str, list[Run]] = {}
        self._client: MlflowClient | None = None
        if not self.exist:
            return
        # MLflow takes seconds to import, which a wrong request need not wait for.
        from harness.tracking.connection import client_of

        try:
            self._client = client_of(self._place)
            self._ask(self._client)
        except RequestError:
            raise
        except Exception as error:  # of any kind: all of them are the store's
            reason = self._place.without_password(cause(error))
            message = f"cannot read from MLflow at {self._place.shown}: {reason}"
            raise RequestError(message) from error

    @property
    def exist(self) -> bool:
        """False where there is no tracking store yet, as where no trial was ever sent."""
        return self._place.file is None or self._place.file.exists()

    @property
    def shown(self) -> str:
        """The address for messages."""
        return f"{self._place.shown}, experiment {self._place.experiment}"

    def problem(self, record: Record) -> str | None:
        """Returns what is wrong with the run of a done trial; None where nothing is."""
        runs = self._runs.get(record.trial_id, [])
        if not runs:
            return "has no run in MLflow"
        if len(runs) > 1:
            return f"has {len(runs)} runs in MLflow"
        differences = "; ".join(_differences(record, runs[0]))
        if differences:
            return f"differs from its run {runs[0].info.run_id} in MLflow: {differences}"
        return None

    def release(self, record: Record) -> None:
        """Leaves a trial with one of the runs that say what it says, or with none.

        The others are kept without the tag by which a trial's run is found.
        """
        if self._client is None:
            return
        runs = self._runs.get(record.trial_id, [])
        right = [run.info.run_id for run in runs if not any(_differences(record, run))]
        for run in runs:
            if run.info.run_id != min(right, default=None):
                self._client.set_tag(run.info.run_id, _FORMER_TAG, record.trial_id)
                self._client.delete_tag(run.info.run_id, TRIAL_TAG)

    def _ask(self, client: MlflowClient) -> None:
        from harness.tracking.presence import all_runs

        experiment = client.get_experiment_by_name(self._place.experiment)
        if experiment is None:
            return
        for run in all_runs(client, experiment.experiment_id):
            trial_id = run.data.tags.get(TRIAL_TAG)
            if trial_id is not None:
                self._runs.setdefault(trial_id, []).append(run)


def missing(runs: Runs, records: Sequence[Record]) -> dict[str, str]:
    """Returns the problem of every done trial that has one, by its id."""
    problems = {record.trial_id: runs.problem(record) for record in records if record.finished}
    return {trial_id: text for trial_id, text in problems.items() if text is not None}


def _differences(record: Record, run: Run) -> Iterator[str]:
    """Gives what a run says otherwise than its trial: state, tags, scores and files."""
    from harness.tracking import run_files
    from harness.tracking.presence import FINISHED

    if run.info.status != FINISHED:
        yield f"it is {run.info.status}"
        return
    expected = {"cell": record.cell_id, "seed": str(record.seed), "status": record.status}
    for name, value in expected.items():
        if run.data.tags.get(name) != value:
            yield f"its {name} is {run.data.tags.get(name)}, not {value}"
    for name, number in score_metrics(record.summary).items():
        if not _equal(run.data.metrics.get(name), number):
            yield f"its {name} is {run.data.metrics.get(name)}, not {number}"
    folder = run_files.local_folder(run.info.artifact_uri)
    # Files on a server would have to be fetched.
    if folder is None:
        return
    for name in (run_files.RECORD, *run_files.TABLES):
        if not (folder / name).is_file():
            yield f"its file {name} is missing"
        elif name in run_files.TABLES and not _same_content(folder / name, record.folder / name):
            yield f"its file {name} is another"


def _equal(value: Any, number: float) -> bool:
    return value is not None and math.isclose(value, number, rel_tol=_TOLERANCE, abs_tol=0.0)


def _same_content(first: Path, second: Path) -> bool:
    return first.read_bytes() == second.read_bytes()
