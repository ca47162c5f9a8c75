"""A connection to MLflow, which makes a flat run of every trial.

A run is sent in three steps: it is begun (tags, params, metrics and data set), its files are
written, and it is ended. A trial's folder holds a marker that names its run before the run exists
and that says `complete` after its end; so a run that was left unfinished is found and replaced, and
a complete one is never sent twice.

An SQLite file is written in bulk where `bulk` knows its tables: all runs of a group are begun in
one transaction and ended in another. Everywhere else MLflow's client sends one run after the other.
A failure of the bulk path is logged, and the client takes over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

# Before MLflow is imported: nothing is sent that the user did not ask for, and an absent server is
# noticed in seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.tracking import MlflowClient
from sqlalchemy import make_url

from harness.configuration.schema import TrackingConfig
from harness.store import searches, writes
from harness.store.records import Record
from harness.tracking import contents, profile_figure, run_files, trial_page, views
from harness.tracking.failures import first_line
from harness.tracking.outgoing import Outgoing

if TYPE_CHECKING:
    from harness.tracking.bulk import Bulk

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

_LOGGER = logging.getLogger(__name__)
_MARKER = "mlflow.json"
_LOCK = ".mlflow.lock"
_COLUMNS = {*contents.COLUMNS, *profile_figure.COLUMNS, *trial_page.columns()}
# The number of trials in a group: large enough that what is done once for a group costs little,
# small enough that a lock is soon free again.
_GROUP = 64

_Item = TypeVar("_Item")


class Connection:
    """An open tracking store and its experiment.

    Args:
        settings: the address, the name of the experiment, and whether runs get figures.
        runs: the folder of the store whose trials are sent.
        bulk: allows many runs in one transaction.
    """

    def __init__(self, settings: TrackingConfig, runs: Path, *, bulk: bool = True) -> None:
        self.settings = settings
        self.runs = runs
        self.uri = settings.uri or f"sqlite:///{runs / 'mlflow.db'}"
        self._database = _database(self.uri)
        # Processes that make the tables of one store at the same moment ruin it.
        with _locked(self._opening_lock()):
            self.client = MlflowClient(self.uri)
            self.experiment_id = self._experiment()
            views.save(self.client, self.experiment_id)
        self._bulk = self._open_bulk() if bulk else None

    @property
    def in_bulk(self) -> bool:
        """True while many runs are written in one transaction."""
        return self._bulk is not None

    def send(self, records: Iterable[Record]) -> Iterator[bool]:
        """Sends finished trials; gives for each in turn whether it was sent now or before.

        A trial's value is given when its run is complete. A run that an earlier attempt left
        unfinished is replaced.

        Raises:
            Exception: whatever stopped it at the next trial; those before are complete.
        """
        for group in _groups(records):
            # Another sweep may want to send the same trials.
            with _locked(self.runs / _LOCK):
                yield from self._send_group(group)

    def links(self) -> list[str]:
        """Returns lines that say how to open the saved views."""
        saved = views.links(self.experiment_id)
        if self.uri.startswith("http"):
            server = self.uri.rstrip("/")
            return [f"MLflow {name}: {server}/{link}" for name, link in saved]
        lines = [f"MLflow: mlflow ui --backend-store-uri {self.uri}, then"]
        lines += [f"  {name}: http://127.0.0.1:5000/{link}" for name, link in saved]
        return lines

    def _experiment(self) -> str:
        """Returns the id of the experiment, which is made where there is none of its name."""
        present = self.client.get_experiment_by_name(self.settings.experiment)
        if present is not None:
            return present.experiment_id
        place = self.settings.artifacts
        if place is None and self._database is not None:
            # MLflow itself would take a folder of the working directory.
            place = self._database.with_name("mlartifacts").as_uri()
        made = self.client.create_experiment(self.settings.experiment, artifact_location=place)
        self.client.set_experiment_tag(made, "mlflow.note.content", views.DESCRIPTION)
        return made

    def _opening_lock(self) -> Path:
        """Returns the lock of the process that makes the store.

        It stands beside an SQLite file, which several runs folders may share, and otherwise in the
        runs folder.
        """
        if self._database is None:
            return self.runs / _LOCK
        return self._database.with_name(f".{self._database.stem}.lock")

    def _open_bulk(self) -> Bulk | None:
        if not self.uri.startswith("sqlite"):
            return None
        try:
            # Its imports are MLflow's own modules, which another version may have changed.
            from harness.tracking.bulk import Bulk

            return Bulk.fitting(self.client, self.experiment_id)
        except Exception as error:  # of any kind: the client can write without it
            _LOGGER.warning("trials are sent to MLflow one by one: %s", first_line(error))
            return None

    def _send_group(self, records: Sequence[Record]) -> Iterator[bool]:
        for trials in _groups(map(self._prepared, records)):
            trials = self._with_verdicts(trials)
            begun = self._begun_in_bulk(trials)
            if begun is None:
                for trial in trials:
                    yield self._send_one(trial)
            else:
                for whole in _groups(map(self._with_files, begun)):
                    self._end_in_bulk([trial for trial in whole if trial is not None])
                    for trial in whole:
                        yield trial is not None

    def _prepared(self, record: Record) -> Outgoing | None:
        """Returns a trial that is ready to be sent, or None for one that was sent before."""
        marker = record.folder / _MARKER
        earlier = json.loads(marker.read_text()) if marker.exists() else {}
        place = (earlier.get("uri"), earlier.get("experiment_id"))
        if place == (self.uri, self.experiment_id):
            if earlier.get("complete"):
                self._tag_again(record, earlier)
                return None
            # The run of an interrupted attempt, which may never have come to exist.
            with contextlib.suppress(Exception):
                self.client.delete_run(earlier["run_id"])
        layers = record.columns("layers", _COLUMNS)
        run_contents = contents.contents(record, layers)
        run_contents.tags.update(searches.tags(self.runs, record.trial_id))
        return Outgoing(record, layers, run_contents)

    def _tag_again(self, record: Record, marker: dict[str, Any]) -> None:
        """Tags the complete run of a trial that has become part of a search since it was sent."""
        tags = searches.tags(self.runs, record.trial_id)
        if tags and tags != marker.get("search"):
            for name, value in tags.items():
                self.client.set_tag(marker["run_id"], name, value)
            writes.write_json(record.folder / _MARKER, marker | {"search": tags}, sync=False)

    def _with_verdicts(self, trials: Sequence[Outgoing | None]) -> list[Outgoing | None]:
        """Returns the trials with the verdicts of those whose run gets a figure and a page."""
        trials = list(trials)
        if not self.settings.figures:
            return trials
        drawn = {
            index: trial.layers
            for index, trial in enumerate(trials)
            if trial is not None and len(trial.layers["layer"])
        }
        verdicts = trial_page.judge(list(drawn.values()))
        for index, judged in zip(drawn, verdicts, strict=True):
            trials[index] = replace(trials[index], judged=judged)
        return trials

    def _send_one(self, trial: Outgoing | None) -> bool:
        """Sends a trial through MLflow's client; returns whether it was sent now."""
        if trial is None:
            return False
        trial = self._begun(trial)
        self._with_files(trial)
        self._end(trial)
        return True

    def _begun(self, trial: Outgoing) -> Outgoing:
        run_contents = trial.contents
        run = self.client.create_run(
            self.experiment_id,
            start_time=run_contents.started,
            tags=run_contents.tags,
            run_name=run_contents.name,
        )
        trial = replace(trial, run_id=run.info.run_id, place=run.info.artifact_uri)
        self._mark(trial, complete=False)
        self.client.log_batch(
            trial.run_id,
            metrics=[Metric(*point) for point in run_contents.metrics],
            params=[Param(key, value) for key, value in run_contents.params.items()],
        )
        self.client.log_inputs(trial.run_id, [DatasetInput(Dataset(*run_contents.dataset))])
        return trial

    def _begun_in_bulk(self, trials: Sequence[Outgoing | None]) -> list[Outgoing | None] | None:
        """Returns the trials with their runs begun in one transaction.

        None where the client has to send them: for a store that is not written in bulk, and after a
        failure of the bulk path, which leaves no run.
        """
        new = {uuid.uuid4().hex: trial for trial in trials if trial is not None}
        if self._bulk is None or not new:
            return None
        # Before there are runs, so that a killed process leaves none that no marker names.
        for run_id, trial in new.items():
            self._mark(replace(trial, run_id=run_id), complete=False)
        try:
            places = self._bulk.begin({run_id: trial.contents for run_id, trial in new.items()})
        except Exception as error:  # of any kind: the client can write without it
            self._leave_bulk(error)
            return None
        run_ids = iter(new)
        begun: list[Outgoing | None] = []
        for trial in trials:
            if trial is None:
                begun.append(None)
            else:
                run_id = next(run_ids)
                begun.append(replace(trial, run_id=run_id, place=places[run_id]))
        return begun

    def _with_files(self, trial: Outgoing | None) -> Outgoing | None:
        """Returns the trial after the files of its run were written."""
        if trial is not None:
            with run_files.folder_of(self.client, trial) as folder:
                run_files.write(folder, trial)
        return trial

    def _end(self, trial: Outgoing) -> None:
        self.client.set_terminated(trial.run_id, "FINISHED", trial.contents.ended)
        self._mark(trial, complete=True)

    def _end_in_bulk(self, trials: Sequence[Outgoing]) -> None:
        if self._bulk is not None and trials:
            try:
                self._bulk.end({trial.run_id: trial.contents.ended for trial in trials})
            except Exception as error:  # of any kind: the client can write without it
                self._leave_bulk(error)
            else:
                for trial in trials:
                    self._mark(trial, complete=True)
                return
        for trial in trials:
            self._end(trial)

    def _leave_bulk(self, error: Exception) -> None:
        """Lets the client write from now on, and says so."""
        _LOGGER.warning(
            "MLflow's database did not take many trials at once (%s); they are sent one by one",
            first_line(error),
        )
        self._bulk = None

    def _mark(self, trial: Outgoing, *, complete: bool) -> None:
        """Writes the marker that names the run of a trial."""
        tags = trial.contents.tags
        marker = {
            "uri": self.uri,
            "experiment_id": self.experiment_id,
            "run_id": trial.run_id,
            "complete": complete,
            "search": {name: tags[name] for name in searches.TAGS if name in tags},
        }
        writes.write_json(trial.record.folder / _MARKER, marker, sync=False)


def _groups(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Gives the items in lists of a group's size; when one fails, those before it come first."""
    group: list[_Item] = []
    try:
        for item in items:
            group.append(item)
            if len(group) == _GROUP:
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _database(uri: str) -> Path | None:
    """Returns the SQLite file of an address.

    None for a server, for SQLite in memory, and for SQLite's own kind of address (`file:...`).
    """
    database = make_url(uri).database if uri.startswith("sqlite") else None
    if not database or database.startswith((":", "file:")):
        return None
    return Path(database).resolve()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that one process at a time can have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield
