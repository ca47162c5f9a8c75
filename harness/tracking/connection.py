"""A connection to MLflow, which makes a flat run of every trial and one run of every cell.

What is there already is asked of MLflow itself, by the tag of a trial; see `presence`. A run is
sent in three steps: it is begun (tags, params, metrics and data set), its files are written, and it
is ended. So a run that was left unfinished, whatever stopped it, is found, deleted and sent anew,
and a finished one is never sent twice. Asking and sending happen under one lock.

An SQLite file is written in bulk where `bulk` knows its tables: all runs of a group are begun in
one transaction and ended in another. Everywhere else MLflow's client sends one run after the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Before MLflow is imported: nothing is sent that the user did not ask for, and an absent server is
# noticed in seconds. The tracker tries again by itself.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from filelock import FileLock
from mlflow.tracking import MlflowClient

from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store import searches, writes
from harness.store.trials import Store
from harness.tracking import cell_runs, experiments, reachability, run_files, sqlite_file, views
from harness.tracking.address import Address
from harness.tracking.contents import TRIAL_TAG, milliseconds
from harness.tracking.metric_batches import batches
from harness.tracking.outgoing import Outcome
from harness.tracking.presence import Run, complete
from harness.tracking.run_writer import RunWriter
from harness.tracking.trial_sender import GROUP, TrialSender

# MLflow logs a traceback of a hundred lines for every failure that it raises as well.
logging.getLogger("mlflow").setLevel(logging.CRITICAL)
logging.getLogger("alembic").setLevel(logging.ERROR)

_MARKER = "mlflow.json"
# Cells whose trials are read, and whose runs are sent, at a time.
_CELLS = 20
# The folder of runs' files, beside an SQLite file or in the runs folder.
_FILES = "mlartifacts"


class Connection:
    """An open tracking store, its experiment of trials and its experiment of cells.

    Args:
        address: the tracking store and the name of the experiment.
        settings: the place of files, and whether runs get figures.
        runs: the folder of the store whose trials are sent.
        bulk: allows many runs in one transaction.
        differing: the axes that differ within the sweep, which names of runs begin with.

    Raises:
        RequestError: the user has to mend something; the message says what.
        Exception: of whatever kind where the store does not answer.
    """

    def __init__(
        self,
        address: Address,
        settings: TrackingConfig,
        runs: Path,
        *,
        bulk: bool = True,
        differing: Sequence[str] = (),
    ) -> None:
        self.address = address
        self._settings = settings
        self._runs = runs
        self._allow_bulk = bulk
        self._differing = differing
        self._open()

    def _open(self) -> None:
        # Processes that make the tables of one store at the same moment ruin it.
        with _locked(self._opening_lock()):
            self.client = client_of(self.address)
            self._experiment_id = self._experiment(self.address.experiment, views.DESCRIPTION)
            cells_name = experiments.cells_name(self.address.experiment)
            self._cells_id = self._experiment(cells_name, views.DESCRIPTION_OF_CELLS)
            views.save(self.client, self._experiment_id, views.OF_TRIALS)
            views.save(self.client, self._cells_id, views.OF_CELLS)
        self._identity = self._file_identity()
        self._lock = self._sending_lock()
        self._trials = RunWriter(self.client, self._experiment_id, bulk=self._allow_bulk)
        self._cells = RunWriter(self.client, self._cells_id, bulk=self._allow_bulk)
        if self.address.file is not None and self._settings.artifacts is None:
            for experiment_id, writer in (
                (self._experiment_id, self._trials),
                (self._cells_id, self._cells),
            ):
                self._follow_files(experiment_id, writer, self.address.file.with_name(_FILES))

    @property
    def in_bulk(self) -> bool:
        """True while many runs are written in one transaction."""
        return self._trials.in_bulk

    def send(self, store: Store, trial_ids: Sequence[str]) -> Iterator[Outcome]:
        """Sends finished trials that are not there yet; gives the outcome of each.

        A trial that cannot be read, or that MLflow refuses, is an outcome with a fault; the others
        go on.

        Raises:
            Exception: whatever stopped all; the trials whose outcome was given are complete.
        """
        self._check_answers()
        sender = TrialSender(
            self._trials, store, figures=self._settings.figures, differing=self._differing
        )
        # Others may send meanwhile. A server is asked once, as each question takes it long.
        size = GROUP if self.in_bulk else max(len(trial_ids), 1)
        for part in batches(trial_ids, size):
            with _locked(self._lock):
                missing = []
                present = self._trials.present(TRIAL_TAG, part)
                for trial_id in part:
                    ended = store.ended(trial_id)
                    current = [
                        run
                        for run in present.get(trial_id, ())
                        if not _is_outdated(store.folder(trial_id) / _MARKER, run, ended)
                    ]
                    run_id = complete(current)
                    self._trials.delete(present.get(trial_id, ()), kept=run_id)
                    if run_id is None:
                        missing.append(trial_id)
                    else:
                        self._mark(store, trial_id, run_id, ended)
                        yield Outcome(trial_id, sent=False)
                for sent in sender.send(missing):
                    if not sent.fault:
                        self._mark(store, sent.trial_id, sent.run_id, sent.ended)
                    yield Outcome(sent.trial_id, sent=not sent.fault, fault=sent.fault)

    def send_cells(self, store: Store, trial_ids: Sequence[str]) -> int:
        """Makes the run of every cell of these trials anew whose trials changed.

        Returns the number of runs made.
        """
        cells_of_trials = cell_runs.trials_by_cell(store, trial_ids)
        self._check_answers()
        made = 0
        for part in batches(list(cells_of_trials.values()), _CELLS):
            wanted = cell_runs.contents_by_state(store, part, self._differing)
            states = list(wanted)
            with _locked(self._lock):
                present = self._cells.present(cell_runs.STATE_TAG, states)
                missing = [state for state in states if complete(present.get(state, ())) is None]
                cells = [wanted[state].tags["cell"] for state in missing]
                for runs in self._cells.present("cell", cells).values():
                    self._cells.delete(runs)
                begun = self._cells.begin([wanted[state] for state in missing])
                self._cells.end({run.run_id: run.contents.ended for run in begun})
                made += len(missing)
        return made

    def links(self) -> list[str]:
        """Returns lines that say how to open the saved views."""
        saved = [
            *views.links(self._experiment_id, views.OF_TRIALS),
            *views.links(self._cells_id, views.OF_CELLS),
        ]
        place = f"experiment {self.address.experiment}{self.address.origin}"
        if self.address.is_server:
            server = self.address.shown.rstrip("/")
            return [f"MLflow, {place}"] + [
                f"MLflow {name}: {server}/{link}" for name, link in saved
            ]
        lines = [f"MLflow, {place}, after: {self.address.interface_command()}"]
        lines += [f"  {name}: http://127.0.0.1:5000/{link}" for name, link in saved]
        return lines

    def _experiment(self, name: str, description: str) -> str:
        """Returns the id of an experiment; its description is written when it is made."""
        place = self._settings.artifacts
        if place is None and not self.address.is_server:
            # MLflow itself would take a folder of the working directory.
            beside = self.address.file.parent if self.address.file else self._runs.resolve()
            place = (beside / _FILES).as_uri()
        experiment_id = experiments.prepare(self.client, self.address, name, place)
        if "mlflow.note.content" not in self.client.get_experiment(experiment_id).tags:
            self.client.set_experiment_tag(experiment_id, "mlflow.note.content", description)
        return experiment_id

    def _follow_files(self, experiment_id: str, writer: RunWriter, folder: Path) -> None:
        """Corrects the address of runs' files where the store was moved with them.

        MLflow keeps that address whole; new files would go to the old folder, made again for them.
        """
        old = self.client.get_experiment(experiment_id).artifact_location
        earlier = run_files.local_folder(old)
        if earlier is None or earlier == folder or earlier.name != _FILES:
            return
        if folder.is_dir() or not earlier.parent.is_dir():
            writer.move_files(old, folder.as_uri())

    def _opening_lock(self) -> Path:
        """Returns the lock of the process that makes the store.

        It stands beside an SQLite file, which several runs folders may share.
        """
        if self.address.file is None:
            return _lock_of_this_machine(self.address.uri)
        return self.address.file.with_name(f".{self.address.file.stem}.lock")

    def _sending_lock(self) -> Path:
        """Returns the lock under which runs are asked for and sent.

        A server has several addresses; its experiment is the same under all of them.
        """
        if self.address.file is not None:
            return self._opening_lock()
        experiment = self.client.get_experiment(self._experiment_id)
        return _lock_of_this_machine(f"{experiment.name} {experiment.creation_time}")

    def _check_answers(self) -> None:
        """Opens the store anew where its file is another by now.

        Raises:
            Exception: the server does not answer.
        """
        if self._file_identity() != self._identity:
            self._open()
        else:
            reachability.check(self.address)

    def _file_identity(self) -> tuple[int, int] | None:
        return sqlite_file.identity(self.address.file) if self.address.file else None

    def _mark(self, store: Store, trial_id: str, run_id: str, ended: str | None) -> None:
        """Writes beside a trial where its run is, and what it was tagged with last.

        What is there is never read from it. The runs at other addresses stay marked. A trial that
        has become part of a search since its run was marked gets the tags of that search.

        Args:
            store: the trials.
            trial_id: the trial.
            run_id: its run.
            ended: when the training ended that the run tells of. Where that is unknown nothing is
                marked, as the mark would never be outdated.
        """
        if ended is None:
            return
        path = store.folder(trial_id) / _MARKER
        earlier = _read(path)
        marker = {
            "uri": self.address.shown,
            "experiment": self.address.experiment,
            "experiment_id": self._experiment_id,
            "run_id": run_id,
            "search": searches.tags(store.runs, trial_id),
            "ended": ended,
            "sent": _sent(earlier) | {run_id: ended},
        }
        if earlier == marker:
            return
        if earlier.get("run_id") == run_id and earlier.get("search") != marker["search"]:
            for name, value in marker["search"].items():
                self.client.set_tag(run_id, name, value)
        with contextlib.suppress(OSError):
            writes.write_json(path, marker, sync=False)


def _is_outdated(path: Path, run: Run, ended: str | None) -> bool:
    """Returns whether a trial was trained again since this run was marked.

    A run that another store sent for the same trial is not outdated. Where the marker is torn, the
    run is one of this training if it ended when the trial did.

    Args:
        path: the marker beside the trial.
        run: a run of the trial.
        ended: when the trial ended.
    """
    marker = _read(path)
    if not marker and path.exists():
        return run.ended != milliseconds(ended)
    return _sent(marker).get(run.run_id) not in (None, ended)


def _sent(marker: Mapping[str, Any]) -> dict[str, Any]:
    """Returns when the training ended that a run tells of, by the id of the run.

    Earlier versions marked the last run alone.
    """
    sent = marker.get("sent")
    if isinstance(sent, dict):
        return sent
    run_id = marker.get("run_id")
    return {run_id: marker.get("ended")} if isinstance(run_id, str) else {}


def client_of(address: Address) -> MlflowClient:
    """Returns MLflow's client of a tracking store; an SQLite file is made where there is none.

    Raises:
        RequestError: MLflow refuses the tables of the store.
        Exception: of whatever kind where the store does not answer.
    """
    reachability.check(address)
    if address.file is not None:
        return sqlite_file.opened(address)
    try:
        return MlflowClient(address.uri)
    except Exception as error:
        raise sqlite_file.explained(error, address) from error


def _read(path: Path) -> dict[str, Any]:
    """Returns what a marker holds; nothing where it is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _lock_of_this_machine(text: str) -> Path:
    """Returns a lock of this user and machine for what a text names.

    Raises:
        RequestError: the folder of the locks belongs to somebody else, who could lead them astray.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"harness-mlflow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise RequestError(f"{folder} belongs to another user; give a folder of yours in TMPDIR")
    return folder / f"{digest}.lock"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that one process at a time can have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield
