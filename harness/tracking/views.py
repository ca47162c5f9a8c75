"""Saved views of the experiments: headline tables and pages of charts.

They are tags of the experiment, which the public client sets. MLflow does not document what such a
tag holds; the format is that which its interface writes (version 3.17). An interface that does not
understand it shows its ordinary list of runs.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow.tracking import MlflowClient

DESCRIPTION = """**When do SELU's assumptions hold, when do they fail, and does it matter?**

One run is one trial: one cell (activation, initializer, normalization, depth, ...) with one seed; \
the tag `cell` joins the seeds. Means over seeds with intervals are in the experiment of the same \
name that ends in `cells`.
`accuracy/` and `loss/` are final scores; `share/` is the share of layers that keep a premise or \
promise; `axis/` has the numeric settings, to sort by; `curve/` runs over training steps; `init/` \
and `end/` are layer profiles whose step is the layer.
The whole layer table is the artifact `layers.parquet`. `python scripts/report.py` writes the \
report.
The interface loads a hundred runs at a time, in the order of the list, and draws and averages \
those alone: search (`params.depth = "32"`) or load more.
"""
DESCRIPTION_OF_CELLS = """**Cells: means over seeds, with 95 % intervals**

One run is one cell. `accuracy/validation` is the mean over its `n` trials, of which `diverged` \
diverged and count at chance level; `_low` and `_high` are the ends of its interval. `share/` is \
the mean share of layers that keep a premise or promise. The trials are in the experiment of the \
same name without `cells`.
"""

_AXES = (
    "activation",
    "initializer",
    "normalization",
    "depth",
    "preprocessing",
    "dropout",
    "learning_rate",
)
_TABLE = [f"params.`{axis}`" for axis in (*_AXES, "seed")] + [
    "metrics.`accuracy/validation`",
    "metrics.`accuracy/test`",
    "metrics.`loss/train`",
    "metrics.`share/moments_init`",
    "metrics.`share/moments_end`",
    "tags.`status`",
]
_TABLE_OF_CELLS = [f"params.`{axis}`" for axis in _AXES] + [
    "metrics.`accuracy/validation`",
    "metrics.`accuracy/validation_low`",
    "metrics.`accuracy/validation_high`",
    "metrics.`accuracy/test`",
    "metrics.`n`",
    "metrics.`diverged`",
    "metrics.`share/weights_init`",
    "metrics.`share/moments_init`",
    "metrics.`share/moments_end`",
    "metrics.`stability/margin_init`",
]
# Sorted by validation: whoever picks the first row of a list has not looked at the test set.
_STATE: dict[str, Any] = {
    "searchFilter": "",
    "orderByKey": "metrics.`accuracy/validation`",
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


OF_TRIALS = {
    "headline": _View("Headline table", {}, ""),
    "charts": _View("Charts", _CHARTS, "&compareRunsMode=CHART"),
    "activations": _View("Charts by activation", _GROUPED, "&compareRunsMode=CHART"),
}
OF_CELLS = {"cells": _View("Cells", {"selectedColumns": _TABLE_OF_CELLS}, "")}


def save(client: MlflowClient, experiment_id: str, views: Mapping[str, _View]) -> None:
    """Writes those views that the experiment does not have as they are here.

    Views that users save have random keys, so none of theirs is written over.
    """
    present = client.get_experiment(experiment_id).tags
    for key, view in views.items():
        tag = f"mlflow.sharedViewState.{key}"
        text = json.dumps(_STATE | view.changes)
        state = base64.b64encode(zlib.compress(text.encode())).decode()
        value = {
            "name": view.name,
            "createdAt": 0,
            "updatedAt": 0,
            "state": f"deflate;{state}",
        }
        if present.get(tag) != json.dumps(value):
            client.set_experiment_tag(experiment_id, tag, json.dumps(value))


def links(experiment_id: str, views: Mapping[str, _View]) -> list[tuple[str, str]]:
    """Returns the name of every view and the part of its address that follows the server's."""
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    return [
        (view.name.lower(), f"{page}&viewStateShareKey={key}{view.mode}")
        for key, view in views.items()
    ]
