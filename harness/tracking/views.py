"""Saved views of the experiment: a headline table and two pages of charts.

They are tags of the experiment, which the public client sets. MLflow does not document what such a
tag holds; the format is that which its interface writes (version 3.17). An interface that does not
understand it shows its ordinary list of runs.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any, NamedTuple

from mlflow.tracking import MlflowClient

DESCRIPTION = """**When do SELU's assumptions hold, when do they fail, and does it matter?**

One run is one trial: one cell (activation, initializer, normalization, depth, ...) with one seed; \
the tag `cell` joins the seeds.
`accuracy/` and `loss/` are final scores; `share/` is the share of layers that keep a premise or \
promise; `curve/` runs over training steps; `init/` and `end/` \
are layer profiles whose step is the layer.
The whole layer table is the artifact `layers.parquet`. `python scripts/report.py` writes the \
report with intervals.
The interface loads a hundred runs at a time, in the order of the list, and draws and averages \
those alone: search (`params.depth = "32"`) or load more.
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
    "metrics.`share/moments_init`",
    "metrics.`share/moments_end`",
    "tags.`status`",
]
_STATE: dict[str, Any] = {
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
# Charts take the first runs of the list: in order of time, as the best alone would say nothing
# about an arm.
_CHARTS = {"orderByKey": "attributes.start_time"}
_GROUPED = _CHARTS | {
    "groupBy": {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "param", "groupByData": "activation"}],
    }
}


class _View(NamedTuple):
    """A saved view: its name, its changes of the common state, and the end of its address."""

    name: str
    changes: dict[str, Any]
    mode: str


_VIEWS = {
    "headline": _View("Headline table", {}, ""),
    "charts": _View("Charts", _CHARTS, "&compareRunsMode=CHART"),
    "activations": _View("Charts by activation", _GROUPED, "&compareRunsMode=CHART"),
}


def save(client: MlflowClient, experiment_id: str) -> None:
    """Writes the views that the experiment does not have yet."""
    present = client.get_experiment(experiment_id).tags
    for key, view in _VIEWS.items():
        tag = f"mlflow.sharedViewState.{key}"
        if tag not in present:
            text = json.dumps(_STATE | view.changes)
            state = base64.b64encode(zlib.compress(text.encode())).decode()
            value = {
                "name": view.name,
                "createdAt": 0,
                "updatedAt": 0,
                "state": f"deflate;{state}",
            }
            client.set_experiment_tag(experiment_id, tag, json.dumps(value))


def links(experiment_id: str) -> list[tuple[str, str]]:
    """Returns the name of every view and the part of its address that follows the server's."""
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    return [
        (view.name.lower(), f"{page}&viewStateShareKey={key}{view.mode}")
        for key, view in _VIEWS.items()
    ]
