"""Many runs in one transaction, straight into MLflow's tables.

MLflow's client makes an object of every row and a transaction of every call, which takes ten times
as long as writing the rows. For small networks, whose trials train in a fraction of a second, that
would be longer than the training. So rows are laid out here and inserted together, as
`SqlAlchemyStore` would have written them; the tests compare all tables with what the client writes.

This file has names that MLflow keeps to itself. The guard is `Bulk.fitting`: it
accepts an SQLite file with the very tables that this was written for and refuses everything else,
with the reason. `run_writer` then logs the reason and sends runs through the client, as it does
when an import of this file or a transaction fails.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_batch_log_data
from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from harness.tracking.contents import Contents, Dataset, Point
from harness.tracking.presence import Run

# The revision of the tables of MLflow 3.17, by Alembic's name. Before another revision is accepted,
# compare the writing methods of its SqlAlchemyStore with this file.
REVISION = "dc11669786a5"

_Row = dict[str, Any]


class Unfit(Exception):
    """A store that cannot be written in bulk, and why.

    `surprising` is False for a server and for databases that are never written in bulk.
    """

    def __init__(self, reason: str, *, surprising: bool) -> None:
        super().__init__(reason)
        self.surprising = surprising


class Bulk:
    """Writes runs of one experiment as `SqlAlchemyStore` would.

    A transaction that fails leaves the store as it was.
    """

    def __init__(self, store: SqlAlchemyStore, experiment_id: str) -> None:
        self._store = store
        self._experiment_id = int(experiment_id)

    @classmethod
    def fitting(cls, client: MlflowClient, experiment_id: str) -> Bulk:
        """Returns the bulk path of a client's store.

        Raises:
            Unfit: the store is no SQLite file, or its tables have another revision.
        """
        store = client._tracking_client.store
        if not isinstance(store, SqlAlchemyStore) or store.engine.dialect.name != "sqlite":
            raise Unfit("only an SQLite file is written in bulk", surprising=False)
        with store.ManagedSessionMaker() as session:
            rows = session.execute(text("SELECT version_num FROM alembic_version"))
            revisions = rows.scalars().all()
        if revisions != [REVISION]:
            raise Unfit(
                f"the tables of this MLflow have revision {', '.join(revisions)}; many trials at"
                f" once are written to revision {REVISION} only",
                surprising=True,
            )
        return cls(store, experiment_id)

    def present(self, tag: str, values: Sequence[str]) -> dict[str, list[Run]]:
        """Returns the runs whose tag has one of these values, by value; see `presence.ask`."""
        query = (
            select(SqlTag.value, SqlRun.run_uuid, SqlRun.status, SqlRun.end_time)
            .join(SqlRun, SqlRun.run_uuid == SqlTag.run_uuid)
            .where(SqlRun.experiment_id == self._experiment_id)
            .where(SqlRun.lifecycle_stage == LifecycleStage.ACTIVE)
            .where(SqlTag.key == tag)
            .where(SqlTag.value.in_(values))
        )
        runs: dict[str, list[Run]] = {}
        with self._store.ManagedSessionMaker() as session:
            for value, *run in session.execute(query):
                runs.setdefault(value, []).append(Run(*run))
        return runs

    def begin(self, runs: Mapping[str, Contents]) -> dict[str, str]:
        """Makes runs with everything but their files and their end.

        Args:
            runs: the contents of each run, by its new id.

        Returns:
            The address at which each run keeps its files, by its id.
        """
        location = self._artifact_location()
        folder = SqlAlchemyStore.ARTIFACTS_FOLDER_NAME
        places = {run_id: append_to_uri_path(location, run_id, folder) for run_id in runs}
        # All rows are laid out before the first insert, from which on nobody else can write.
        tables = self._rows(runs, places)
        with self._store.ManagedSessionMaker(read_only=False) as session:
            connection = session.connection()
            for model, rows in tables.items():
                _insert(connection, model, rows)
            datasets = self._dataset_uuids(connection, {run.dataset for run in runs.values()})
            inputs = [_input(run_id, datasets[run.dataset]) for run_id, run in runs.items()]
            _insert(connection, SqlInput, inputs)
        return places

    def end(self, ended: Mapping[str, int | None]) -> None:
        """Calls runs finished.

        Args:
            ended: the time of each run's end in milliseconds since 1970, or None for now, by id.

        Raises:
            MlflowException: a run was deleted meanwhile; then no run is called finished.
        """
        change = (
            update(SqlRun.__table__)
            .where(SqlRun.run_uuid == bindparam("run"))
            .where(SqlRun.lifecycle_stage == LifecycleStage.ACTIVE)
            .values(status=RunStatus.to_string(RunStatus.FINISHED), end_time=bindparam("ended"))
        )
        rows = [
            {"run": run_id, "ended": time or get_current_time_millis()}
            for run_id, time in ended.items()
        ]
        with self._store.ManagedSessionMaker(read_only=False) as session:
            changed = session.connection().execute(change, rows).rowcount
            if changed != len(ended):
                missing = len(ended) - changed
                raise MlflowException(
                    f"{missing} of {len(ended)} runs were deleted before they ended"
                )

    def move_files(self, old: str, new: str) -> None:
        """Gives the experiment and its runs another address of their files.

        Args:
            old: the address of the experiment's files so far.
            new: the address to which the files were moved.
        """
        place = SqlRun.artifact_uri
        moved = func.replace(place, f"{old}/", f"{new}/")
        mine = SqlRun.experiment_id == self._experiment_id
        with self._store.ManagedSessionMaker(read_only=False) as session:
            connection = session.connection()
            connection.execute(
                update(SqlExperiment.__table__)
                .where(SqlExperiment.experiment_id == self._experiment_id)
                .values(artifact_location=new)
            )
            connection.execute(
                update(SqlRun.__table__)
                .where(mine, place.startswith(f"{old}/", autoescape=True))
                .values(artifact_uri=moved)
            )

    def _artifact_location(self) -> str:
        query = select(SqlExperiment.artifact_location, SqlExperiment.lifecycle_stage).where(
            SqlExperiment.experiment_id == self._experiment_id
        )
        with self._store.ManagedSessionMaker() as session:
            experiment = session.execute(query).one()
        stage = experiment.lifecycle_stage
        if stage != LifecycleStage.ACTIVE:
            raise MlflowException(f"experiment {self._experiment_id} is {stage}")
        return experiment.artifact_location

    def _rows(
        self, runs: Mapping[str, Contents], places: Mapping[str, str]
    ) -> dict[type, list[_Row]]:
        """Returns the rows of runs by table."""
        tables: dict[type, list[_Row]] = {
            model: [] for model in (SqlRun, SqlTag, SqlParam, SqlMetric, SqlLatestMetric)
        }
        for run_id, run in runs.items():
            metrics = self._metrics(run_id, run.metrics)
            tables[SqlRun].append(self._run(run_id, run, places[run_id]))
            tables[SqlTag].extend(_tags(run_id, run))
            tables[SqlParam].extend(_params(run_id, run))
            tables[SqlMetric].extend(metrics)
            tables[SqlLatestMetric].extend(latest_rows(metrics))
        return tables

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

    def _metrics(self, run_id: str, points: Iterable[Point]) -> list[_Row]:
        """Returns one row per point; points that are equal in everything share a row."""
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
        """Returns the uuid of every data set; those that the experiment lacks are added."""
        present = connection.execute(
            select(SqlDataset.name, SqlDataset.digest, SqlDataset.dataset_uuid).where(
                SqlDataset.experiment_id == self._experiment_id
            )
        )
        uuids = {(name, digest): dataset_uuid for name, digest, dataset_uuid in present}
        rows = []
        for dataset in datasets:
            key = (dataset.name, dataset.digest)
            if key not in uuids:
                uuids[key] = uuid.uuid4().hex
                rows.append(
                    {
                        "dataset_uuid": uuids[key],
                        "experiment_id": self._experiment_id,
                        "name": dataset.name,
                        "digest": dataset.digest,
                        "dataset_source_type": dataset.source_type,
                        "dataset_source": dataset.source,
                        "dataset_schema": None,
                        "dataset_profile": None,
                    }
                )
        _insert(connection, SqlDataset, rows)
        return {dataset: uuids[dataset.name, dataset.digest] for dataset in datasets}


def latest_rows(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Gives the row of every metric that lists of runs show, from the rows of one run.

    It is the row of the largest step, then of the latest time, then of the largest value.
    """
    latest: dict[str, _Row] = {}
    for row in rows:
        best = latest.setdefault(row["key"], row)
        if _rank(row) > _rank(best):
            latest[row["key"]] = row
    yield from latest.values()


def _rank(row: _Row) -> tuple[int, int, float]:
    return row["step"], row["timestamp"], row["value"]


def _tags(run_id: str, run: Contents) -> Iterator[_Row]:
    for key, value in (run.tags | {MLFLOW_RUN_NAME: run.name}).items():
        yield {"run_uuid": run_id, "key": key, "value": value}


def _params(run_id: str, run: Contents) -> Iterator[_Row]:
    """Gives the rows of a run's params as MLflow keeps them: it cuts long values.

    Raises:
        MlflowException: MLflow refuses the name or the value of a param, or the name of a metric.
    """
    # One point of each metric is enough: values are numbers, so that only names can be wrong.
    points = {point.key: point for point in run.metrics}.values()
    params = [Param(key, value) for key, value in run.params.items()]
    _, checked, _ = _validate_batch_log_data(list(points), params, [])
    for param in checked:
        yield {"run_uuid": run_id, "key": param.key, "value": param.value}


def _input(run_id: str, dataset_uuid: str) -> _Row:
    return {
        "input_uuid": uuid.uuid4().hex,
        "source_type": "DATASET",
        "source_id": dataset_uuid,
        "destination_type": "RUN",
        "destination_id": run_id,
        "step": 0,
    }


def _insert(connection: Connection, model: type, rows: list[_Row]) -> None:
    if rows:
        connection.execute(insert(model.__table__), rows)
