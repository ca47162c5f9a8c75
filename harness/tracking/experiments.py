"""The experiments of a tracking store: one of trials, and one of cells beside it.

Cells have an experiment of their own because MLflow averages and charts whatever a list shows: in
one list with their trials, every seed would count twice as soon as a filter is forgotten.
"""

from __future__ import annotations

import shlex

from mlflow.entities.lifecycle_stage import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.tracking import MlflowClient

from harness.errors import RequestError
from harness.tracking.address import Address


def prepare(client: MlflowClient, address: Address, name: str, place: str | None) -> str:
    """Returns the id of the experiment of this name, which is made where there is none.

    Args:
        client: the client of the store.
        address: the store, for messages.
        name: the name of the experiment.
        place: the folder or address of its files; None leaves it to MLflow.

    Raises:
        RequestError: the experiment was deleted.
    """
    present = client.get_experiment_by_name(name)
    if present is None:
        try:
            return client.create_experiment(name, artifact_location=place)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        # Somebody else made it in this moment.
        present = client.get_experiment_by_name(name)
    if present.lifecycle_stage != LifecycleStage.ACTIVE:
        place_of_store = f"MLFLOW_TRACKING_URI={shlex.quote(address.shown)}"
        raise RequestError(
            f"the experiment {name!r} was deleted in MLflow; restore it with:"
            f" {place_of_store} mlflow experiments restore --experiment-id"
            f" {present.experiment_id}; or choose another with tracking.experiment=NAME"
            " (sync_mlflow.py: --experiment NAME)"
        )
    return present.experiment_id


def cells_name(name: str) -> str:
    """Returns the name of the experiment of cells that belongs to one of trials."""
    return f"{name} cells"
