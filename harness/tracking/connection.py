"""One connection to an MLflow store: makes it once under a lock, and sends one flat run per trial, many at a time where the store allows."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

# Before mlflow is imported: nothing is sent that the user did not ask for, and an absent server is noticed in seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from numpy.typing import NDArray
from sqlalchemy import make_url

from harness.configuration.schema import TrackingConfig
from harness.store import writes
from harness.store.records import Record
from harness.tracking import contents, reason, views
from harness.tracking import profile_figure as figure
from harness.tracking import trial_page as page
from harness.tracking.contents import Contents

if TYPE_CHECKING:
    from harness.tracking.bulk import Bulk

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

_MARKER, _LOCK = "mlflow.json", ".mlflow.lock"
_COLUMNS = {*contents.COLUMNS, *figure.COLUMNS, *page.columns()}
# So many trials are written together: enough that what is done once costs little, and a lock is soon free again.
_TOGETHER = 64

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class _Sending:
    """A trial on its way; `run_id` and `place`, where the run keeps its files, once the run was begun."""

    record: Record
    layers: Mapping[str, NDArray]
    contents: Contents
    judged: Mapping[str, NDArray] = field(default_factory=dict)
    run_id: str = ""
    place: str = ""


class Connection:
    """An open tracking store and its experiment."""

    def __init__(self, settings: TrackingConfig, runs: Path) -> None:
        self.settings, self.runs = settings, runs
        self.uri = settings.uri or f"sqlite:///{runs / 'mlflow.db'}"
        self._database = _database(self.uri)
        with _locked(
            self._opening_lock()
        ):  # processes that race through the creation of the store's tables ruin it
            self.client = MlflowClient(self.uri)
            self.experiment_id = self._experiment()
            views.save(self.client, self.experiment_id)
        self._bulk = self._open_bulk()

    def _experiment(self) -> str:
        known = self.client.get_experiment_by_name(self.settings.experiment)
        if known is not None:
            return known.experiment_id
        place = self.settings.artifacts
        if (
            place is None and self._database is not None
        ):  # MLflow itself would take a folder of the working directory
            place = self._database.with_name("mlartifacts").as_uri()
        made = self.client.create_experiment(self.settings.experiment, artifact_location=place)
        self.client.set_experiment_tag(made, "mlflow.note.content", views.DESCRIPTION)
        return made

    def _opening_lock(self) -> Path:
        """The lock of whoever makes the store: beside an SQLite file, which several runs folders may share; else one of this runs folder."""
        return (
            self.runs / _LOCK
            if self._database is None
            else self._database.with_name(f".{self._database.stem}.lock")
        )

    def _open_bulk(self) -> Bulk | None:
        if not self.uri.startswith("sqlite"):
            return None
        try:
            from harness.tracking.bulk import (
                Bulk,
            )  # names of MLflow's own modules, which another version may have changed

            return Bulk.fitting(self.client._tracking_client.store, self.experiment_id)
        except Exception:  # whatever it is, the client does without
            return None

    def send(self, records: Iterable[Record]) -> Iterator[bool]:
        """Send finished trials; for each in turn, once it is there whole, whether it was sent now. A run that an earlier attempt left unfinished is replaced.

        Raises what stopped it at the trial that comes next; those before are there.
        """
        for group in _groups(records):
            with _locked(self.runs / _LOCK):  # another sweep may want to send the same trials
                yield from self._send_together(group)

    def _send_together(self, records: Iterable[Record]) -> Iterator[bool]:
        for ready in _groups(map(self._prepare, records)):
            for begun in self._begin(self._judge(ready)):
                for whole in _groups(map(self._send_files, begun)):
                    self._end([one for one in whole if one is not None])
                    yield from (one is not None for one in whole)

    def _prepare(self, record: Record) -> _Sending | None:
        """None for a trial that was sent before."""
        marker = record.folder / _MARKER
        earlier = json.loads(marker.read_text()) if marker.exists() else {}
        same_place = (
            earlier.get("uri") == self.uri and earlier.get("experiment_id") == self.experiment_id
        )
        if same_place and earlier.get("complete"):
            return None
        if same_place:
            with contextlib.suppress(Exception):  # it may never have come to exist
                self.client.delete_run(earlier["run_id"])
        layers = record.columns("layers", _COLUMNS)
        return _Sending(record, layers, contents.contents(record, layers))

    def _judge(self, group: Sequence[_Sending | None]) -> Sequence[_Sending | None]:
        drawn = {
            number: one.layers
            for number, one in enumerate(group)
            if one is not None and self._is_drawn(one)
        }
        judged = dict(zip(drawn, page.judge(list(drawn.values()))))
        return [
            one and replace(one, judged=judged.get(number, {})) for number, one in enumerate(group)
        ]

    def _is_drawn(self, one: _Sending) -> bool:
        return self.settings.figures and len(one.layers["layer"]) > 0

    def _begin(self, group: Sequence[_Sending | None]) -> Iterable[Sequence[_Sending | None]]:
        """The group with its runs made: all at once where the store allows, else one by one, each when it is asked for."""
        if self._bulk is None or not any(group):
            return ([one and self._begin_one(one)] for one in group)
        named = [one and replace(one, run_id=uuid.uuid4().hex) for one in group]
        new = {one.run_id: one for one in named if one is not None}
        for one in (
            new.values()
        ):  # before there are runs, so that a killed process leaves none that nobody knows
            self._mark(one, complete=False)
        try:
            places = self._bulk.begin({run_id: one.contents for run_id, one in new.items()})
        except Exception as error:
            self._without_bulk(error)
            return self._begin(group)
        return [[one and replace(one, place=places[one.run_id]) for one in named]]

    def _begin_one(self, one: _Sending) -> _Sending:
        told = one.contents
        run = self.client.create_run(
            self.experiment_id, start_time=told.started, tags=told.tags, run_name=told.name
        )
        begun = replace(one, run_id=run.info.run_id, place=run.info.artifact_uri)
        self._mark(begun, complete=False)
        self.client.log_batch(
            begun.run_id,
            metrics=[Metric(*point) for point in told.metrics],
            params=[Param(*param) for param in told.params.items()],
        )
        self.client.log_inputs(begun.run_id, [DatasetInput(Dataset(*told.dataset))])
        return begun

    def _send_files(self, one: _Sending | None) -> _Sending | None:
        if one is None:
            return None
        record, name = one.record, one.contents.name
        with _files_of(one.place, self.uri) as folder:
            writes.write_json(
                folder / "config.json",
                {"trial_id": record.trial_id, "seed": record.seed, "spec": record.spec},
                sync=False,
            )
            shutil.copy(record.folder / "layers.parquet", folder)
            if self._is_drawn(one):
                profile = figure.layer_profile(one.layers, name)
                (folder / "layers.svg").write_text(profile)
                (folder / "diagnosis.html").write_text(
                    page.diagnosis(record, one.layers, one.judged, name, profile), encoding="utf-8"
                )
        return one

    def _end(self, whole: Sequence[_Sending]) -> None:
        if self._bulk is not None and whole:
            try:
                self._bulk.end({one.run_id: one.contents.ended for one in whole})
            except Exception as error:
                self._without_bulk(error)
            else:
                for one in whole:
                    self._mark(one, complete=True)
                return
        for one in whole:
            self.client.set_terminated(one.run_id, "FINISHED", one.contents.ended)
            self._mark(one, complete=True)

    def _without_bulk(self, error: Exception) -> None:
        """The client writes from now on."""
        print(
            f"note: MLflow's database did not take many trials at once ({reason(error)}); they are sent one by one",
            file=sys.stderr,
        )
        self._bulk = None

    def _mark(self, one: _Sending, *, complete: bool) -> None:
        writes.write_json(
            one.record.folder / _MARKER,
            {
                "uri": self.uri,
                "experiment_id": self.experiment_id,
                "run_id": one.run_id,
                "complete": complete,
            },
            sync=False,
        )

    def links(self) -> list[str]:
        """How to open the saved views."""
        if self.uri.startswith("http"):
            return [
                f"MLflow {name}: {self.uri.rstrip('/')}/{link}"
                for name, link in views.links(self.experiment_id)
            ]
        return [f"MLflow: mlflow ui --backend-store-uri {self.uri}, then"] + [
            f"  {name}: http://127.0.0.1:5000/{link}"
            for name, link in views.links(self.experiment_id)
        ]


def _groups(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Lists of as many items as are sent together; where one fails to come, those before it come first."""
    group: list[_Item] = []
    try:
        for item in items:
            group.append(item)
            if len(group) == _TOGETHER:
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _database(uri: str) -> Path | None:
    """The SQLite file of an address; None for a server, and for SQLite in memory or under SQLite's own kind of address."""
    database = make_url(uri).database if uri.startswith("sqlite") else None
    return (
        Path(database).resolve() if database and not database.startswith((":", "file:")) else None
    )


@contextlib.contextmanager
def _files_of(place: str, uri: str) -> Iterator[Path]:
    """A folder for the files of a run that keeps them at `place`: that very folder where it is on this machine, else one from which they are sent."""
    if is_local_uri(place):
        folder = Path(local_file_uri_to_path(place))
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
        # The client's own way asks the server first where the run keeps its files, which its creation has told.
        get_artifact_repository(place, uri).log_artifacts(name)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that one process at a time has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
