"""The MLflow run that a user has started in their own program."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from harness.errors import RequestError
from harness.tracking.metric_batches import batches

_MOST_METRICS = 1_000
# Characters that MLflow does not take in the name of a metric.
_NOT_ALLOWED = re.compile(r"[^\w./ -]")


class ActiveRun:
    """The run that was active when this was made.

    Raises:
        RequestError: no run is active.
    """

    def __init__(self) -> None:
        run = mlflow.active_run()
        if run is None:
            raise RequestError("there is no active MLflow run; begin one with mlflow.start_run()")
        self.run_id = run.info.run_id
        self._client = mlflow.MlflowClient()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Sends the metrics that are finite.

        Raises:
            RequestError: MLflow refuses them; the message has its reason.
        """
        now = int(time.time() * 1000)
        entries = [
            Metric(_NOT_ALLOWED.sub("_", name), value, now, step)
            for name, value in metrics.items()
            if math.isfinite(value)
        ]
        try:
            for batch in batches(entries, _MOST_METRICS):
                self._client.log_batch(self.run_id, metrics=batch)
        except MlflowException as error:
            raise _refusal(error) from error

    def log_summary(self, summary: dict[str, Any]) -> None:
        """Stores the summary as `monitor.json` among the run's files.

        Raises:
            RequestError: MLflow refuses it; the message has its reason.
        """
        try:
            self._client.log_dict(self.run_id, summary, "monitor.json")
        except MlflowException as error:
            raise _refusal(error) from error


def _refusal(error: MlflowException) -> RequestError:
    reason = (str(error).splitlines() or ["no reason given"])[0]
    return RequestError(f"the active MLflow run takes no numbers: {reason}")
