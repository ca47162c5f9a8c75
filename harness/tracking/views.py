"""Saved views of the experiment. The format is MLflow's own and internal, read from what its interface writes (3.17)."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from mlflow.tracking import MlflowClient

DESCRIPTION = """**When do SELU's assumptions hold, when do they fail, and does it matter?**

One run is one trial: one cell (activation, initializer, normalization, depth, ...) with one seed; the tag `cell` joins the seeds.
`accuracy/` and `loss/` are final scores; `curve/` runs over training steps; `init/` and `end/` are layer profiles whose step is the layer.
The whole layer table is the artifact `layers.parquet`. `python scripts/report.py` writes the report with intervals.
The interface loads a hundred runs at a time, in the order of the list, and draws and averages those alone: search (`params.depth = "32"`) or load more.
"""

_AXES = (
    "activation",
    "initializer",
    "normalization",
    "depth",
    "preprocessing",
    "dropout",
    "learning_rate",
    "seed",
)
_TABLE = [f"params.`{axis}`" for axis in _AXES] + [
    "metrics.`accuracy/test`",
    "metrics.`accuracy/validation`",
    "metrics.`loss/train`",
    "tags.`status`",
]
_COMMON: dict[str, Any] = {
    "searchFilter": "",
    "orderByKey": "metrics.`accuracy/test`",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": _TABLE,
    "runsHiddenMode": "SHOWALL",
    "hideEmptyCharts": True,
    "useGroupedValuesInCharts": True,
}
# Charts take the first runs of the list: in order of time, as the best alone would say nothing about an arm.
_CHARTS = {"orderByKey": "attributes.start_time"}
_GROUPED = _CHARTS | {
    "groupBy": {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "param", "groupByData": "activation"}],
    }
}
_VIEWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "headline": ("Headline table", {}, ""),
    "charts": ("Charts", _CHARTS, "&compareRunsMode=CHART"),
    "activations": ("Charts by activation", _GROUPED, "&compareRunsMode=CHART"),
}


def save(client: MlflowClient, experiment_id: str) -> None:
    """Write the views that the experiment does not have yet."""
    known = client.get_experiment(experiment_id).tags
    for key, (name, changes, _) in _VIEWS.items():
        tag = f"mlflow.sharedViewState.{key}"
        if tag not in known:
            state = base64.b64encode(zlib.compress(json.dumps(_COMMON | changes).encode())).decode()
            value = {"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{state}"}
            client.set_experiment_tag(experiment_id, tag, json.dumps(value))


def links(experiment_id: str) -> list[tuple[str, str]]:
    """(name, address behind the server's) of every view."""
    return [
        (
            name.lower(),
            f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}{mode}",
        )
        for key, (name, _, mode) in _VIEWS.items()
    ]
