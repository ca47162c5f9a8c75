"""Runs of one experiment: asked for, begun, ended and deleted, in bulk where that is possible."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE, ErrorCode
from mlflow.tracking import MlflowClient

from harness.tracking import presence
from harness.tracking.contents import Contents
from harness.tracking.failures import first_line
from harness.tracking.presence import Run

if TYPE_CHECKING:
    from harness.tracking.bulk import Bulk

_LOGGER = logging.getLogger(__name__)


class Begun(NamedTuple):
    """A run that was begun; `place` is the address of its files.

    With a `fault` there is no run, because MLflow refuses its contents.
    """

    contents: Contents
    run_id: str = ""
    place: str = ""
    fault: str = ""


class RunWriter:
    """Writes runs of one experiment.

    A failure of the bulk path is logged, and MLflow's client takes over.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, *, bulk: bool) -> None:
        self.client = client
        self._experiment_id = experiment_id
        self._bulk = self._open_bulk() if bulk else None

    @property
    def in_bulk(self) -> bool:
        """True while many runs are written in one transaction."""
        return self._bulk is not None

    def present(self, tag: str, values: Sequence[str]) -> dict[str, list[Run]]:
        """Returns the runs whose tag has one of these values, by value."""
        if self._bulk is not None:
            return self._bulk.present(tag, values)
        return presence.ask(self.client, self._experiment_id, tag, values)

    def delete(self, runs: Iterable[Run], *, kept: str | None = None) -> None:
        """Deletes runs, but not the one whose id is `kept`."""
        for run in runs:
            if run.run_id != kept:
                self.client.delete_run(run.run_id)

    def move_files(self, old: str, new: str) -> None:
        """Tells the store that the files of the experiment were moved, as far as it can be told.

        MLflow's client has no call for it; elsewhere than in bulk it is said, and nothing changes.
        """
        if self._bulk is not None:
            self._bulk.move_files(old, new)
        else:
            _LOGGER.warning("MLflow still keeps the files of runs at %s", old)

    def begin(self, contents: Sequence[Contents]) -> list[Begun]:
        """Begins runs: everything but their files and their end.

        In bulk all of them or none; otherwise it is called best with a single one.
        """
        if self._bulk is not None and contents:
            new = {uuid.uuid4().hex: run for run in contents}
            try:
                places = self._bulk.begin(new)
            except Exception as error:  # of any kind: the client can write without it
                self._leave_bulk(error)
            else:
                return [Begun(run, run_id, places[run_id]) for run_id, run in new.items()]
        return [self._begin_one(run) for run in contents]

    def end(self, ended: Mapping[str, int | None]) -> None:
        """Calls runs finished.

        Args:
            ended: the time of each run's end in milliseconds since 1970, or None for now, by id.
        """
        if self._bulk is not None and ended:
            try:
                self._bulk.end(ended)
                return
            except Exception as error:  # of any kind: the client can write without it
                self._leave_bulk(error)
        for run_id, time in ended.items():
            self.client.set_terminated(run_id, presence.FINISHED, time)

    def _open_bulk(self) -> Bulk | None:
        try:
            # Its imports are MLflow's own modules, which another version may have changed.
            from harness.tracking.bulk import Bulk, Unfit
        except Exception as error:
            _LOGGER.warning("trials are sent to MLflow one by one: %s", first_line(error))
            return None
        try:
            return Bulk.fitting(self.client, self._experiment_id)
        except Unfit as reason:
            if reason.surprising:
                _LOGGER.warning("trials are sent to MLflow one by one: %s", reason)
            return None

    def _begin_one(self, contents: Contents) -> Begun:
        run_id = None
        try:
            run = self.client.create_run(
                self._experiment_id,
                start_time=contents.started,
                tags=contents.tags,
                run_name=contents.name,
            )
            run_id = run.info.run_id
            self.client.log_batch(
                run_id,
                metrics=[Metric(*point) for point in contents.metrics],
                params=[Param(key, value) for key, value in contents.params.items()],
            )
            self.client.log_inputs(run_id, [DatasetInput(Dataset(*contents.dataset))])
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(INVALID_PARAMETER_VALUE):
                raise
            if run_id is not None:
                self.client.delete_run(run_id)
            return Begun(contents, fault=first_line(error))
        return Begun(contents, run_id, run.info.artifact_uri)

    def _leave_bulk(self, error: Exception) -> None:
        """Lets the client write from now on, and says so.

        Raises:
            Exception: the error, where the database itself is at fault: the client could not write
                either.
        """
        if getattr(error, "error_code", None) == ErrorCode.Name(TEMPORARILY_UNAVAILABLE):
            raise error
        _LOGGER.warning(
            "MLflow's database did not take many trials at once (%s); they are sent one by one",
            first_line(error),
        )
        self._bulk = None
