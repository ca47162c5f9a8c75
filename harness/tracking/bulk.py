"""Many runs in one transaction, straight into MLflow's tables: its client makes an object of every row, which takes ten times as long.

Only for an SQLite file with the very tables that this was written for; to any other store the client writes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.entities import Param, RunStatus, SourceType
from mlflow.entities.lifecycle_stage import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import (
    SqlDataset,
    SqlExperiment,
    SqlInput,
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_batch_log_data
from sqlalchemy import Connection, bindparam, insert, select, text, update

from harness.tracking.contents import Contents, Dataset, Point

# Of the tables of MLflow 3.17, in Alembic's words. Before another is named here, read what its SqlAlchemyStore writes.
REVISION = "dc11669786a5"

_Row = dict[str, Any]


class Bulk:
    """Writes runs of one experiment as `SqlAlchemyStore` would; what fails leaves the store as it was."""

    def __init__(self, store: SqlAlchemyStore, experiment_id: str) -> None:
        self._store, self._experiment_id = store, int(experiment_id)

    @classmethod
    def fitting(cls, store: Any, experiment_id: str) -> Bulk | None:
        """For a store of MLflow's; None where the client has to write."""
        if not isinstance(store, SqlAlchemyStore) or store.engine.dialect.name != "sqlite":
            return None
        with store.ManagedSessionMaker() as session:
            revisions = (
                session.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
            )
        return cls(store, experiment_id) if revisions == [REVISION] else None

    def begin(self, runs: Mapping[str, Contents]) -> dict[str, str]:
        """Make runs by their new ids, with all but their files and their end; returns by the ids where each keeps its files."""
        place = self._artifact_location()
        places = {
            run_id: append_to_uri_path(place, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME)
            for run_id in runs
        }
        metrics = {run_id: self._metrics(run_id, run.metrics) for run_id, run in runs.items()}
        # Everything is laid out before the first insert, from which on nobody else can write.
        tables = {
            SqlRun: [self._run(run_id, run, places[run_id]) for run_id, run in runs.items()],
            SqlTag: [
                {"run_uuid": run_id, "key": key, "value": value}
                for run_id, run in runs.items()
                for key, value in (run.tags | {MLFLOW_RUN_NAME: run.name}).items()
            ],
            SqlParam: [
                {"run_uuid": run_id, "key": param.key, "value": param.value}
                for run_id, run in runs.items()
                for param in _checked_params(run)
            ],
            SqlMetric: [row for rows in metrics.values() for row in rows],
            SqlLatestMetric: [row for rows in metrics.values() for row in _latest(rows)],
        }
        with self._store.ManagedSessionMaker(read_only=False) as session:
            connection = session.connection()
            for model, rows in tables.items():
                _insert(connection, model, rows)
            uuids = self._dataset_uuids(connection, {run.dataset for run in runs.values()})
            inputs = {"source_type": "DATASET", "destination_type": "RUN", "step": 0}
            _insert(
                connection,
                SqlInput,
                [
                    inputs
                    | {
                        "input_uuid": uuid.uuid4().hex,
                        "source_id": uuids[run.dataset],
                        "destination_id": run_id,
                    }
                    for run_id, run in runs.items()
                ],
            )
        return places

    def end(self, ended: Mapping[str, int | None]) -> None:
        """Call runs finished, at these times in milliseconds since 1970, None for now."""
        change = (
            update(SqlRun.__table__)
            .where(
                SqlRun.run_uuid == bindparam("run"), SqlRun.lifecycle_stage == LifecycleStage.ACTIVE
            )
            .values(status=RunStatus.to_string(RunStatus.FINISHED), end_time=bindparam("ended"))
        )
        with self._store.ManagedSessionMaker(read_only=False) as session:
            found = session.connection().execute(
                change,
                [
                    {"run": run_id, "ended": time or get_current_time_millis()}
                    for run_id, time in ended.items()
                ],
            )
            if found.rowcount != len(ended):
                raise MlflowException(
                    f"{len(ended) - found.rowcount} of {len(ended)} runs were deleted before they ended"
                )

    def _artifact_location(self) -> str:
        with self._store.ManagedSessionMaker() as session:
            known = session.execute(
                select(SqlExperiment.artifact_location, SqlExperiment.lifecycle_stage).where(
                    SqlExperiment.experiment_id == self._experiment_id
                )
            ).one()
        if known.lifecycle_stage != LifecycleStage.ACTIVE:
            raise MlflowException(f"experiment {self._experiment_id} is {known.lifecycle_stage}")
        return known.artifact_location

    def _run(self, run_id: str, run: Contents, place: str) -> _Row:
        return {
            "run_uuid": run_id,
            "name": run.name,
            "experiment_id": self._experiment_id,
            "artifact_uri": place,
            "source_type": SourceType.to_string(SourceType.UNKNOWN),
            "source_name": "",
            "source_version": "",
            "entry_point_name": "",
            "user_id": "unknown",
            "status": RunStatus.to_string(RunStatus.RUNNING),
            "start_time": run.started or get_current_time_millis(),
            "end_time": None,
            "lifecycle_stage": LifecycleStage.ACTIVE,
            "deleted_time": None,
        }

    def _metrics(self, run_id: str, points: list[Point]) -> list[_Row]:
        rows = {}
        for point in points:
            is_nan, value = self._store.sanitize_metric_value(point.value)
            rows[point.key, point.timestamp, point.step, value, is_nan] = {
                "run_uuid": run_id,
                "key": point.key,
                "value": value,
                "timestamp": point.timestamp,
                "step": point.step,
                "is_nan": is_nan,
            }
        return list(rows.values())

    def _dataset_uuids(self, connection: Connection, datasets: set[Dataset]) -> dict[Dataset, str]:
        """The uuid of every data set; those that the experiment does not have yet are added."""
        known = connection.execute(
            select(SqlDataset.name, SqlDataset.digest, SqlDataset.dataset_uuid).where(
                SqlDataset.experiment_id == self._experiment_id
            )
        )
        uuids = {(name, digest): found for name, digest, found in known}
        rows = []
        for one in datasets:
            if (one.name, one.digest) not in uuids:
                uuids[one.name, one.digest] = uuid.uuid4().hex
                rows.append(
                    {
                        "dataset_uuid": uuids[one.name, one.digest],
                        "experiment_id": self._experiment_id,
                        "name": one.name,
                        "digest": one.digest,
                        "dataset_source_type": one.source_type,
                        "dataset_source": one.source,
                        "dataset_schema": None,
                        "dataset_profile": None,
                    }
                )
        _insert(connection, SqlDataset, rows)
        return {one: uuids[one.name, one.digest] for one in datasets}


def _insert(connection: Connection, model: Any, rows: list[_Row]) -> None:
    if rows:
        connection.execute(insert(model.__table__), rows)


def _checked_params(run: Contents) -> list[Param]:
    """As MLflow keeps them, which cuts long values; raises where it refuses a name or a value of a param or a metric."""
    a_point_of_each = list(
        {point.key: point for point in run.metrics}.values()
    )  # all are finite numbers: only names can be wrong
    return _validate_batch_log_data(
        a_point_of_each, [Param(key, value) for key, value in run.params.items()], []
    )[1]


def _latest(rows: list[_Row]) -> Iterator[_Row]:
    """Of every metric the row that lists of runs show: that of the largest step, then time, then value."""
    latest: dict[str, _Row] = {}
    for row in rows:
        known = latest.setdefault(row["key"], row)
        if (row["step"], row["timestamp"], row["value"]) > (
            known["step"],
            known["timestamp"],
            known["value"],
        ):
            latest[row["key"]] = row
    yield from latest.values()
